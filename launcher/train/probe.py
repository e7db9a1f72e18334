"""At the end of a run its model is asked about a few fixed tokens: an export of it must say the same."""

from __future__ import annotations

import torch

from launcher.checkpoint.probe import Probe, probe_ids, stride
from launcher.train.parts import Parts


def probe_all(parts: Parts, step: int) -> None:
    """Ask and, on rank 0, write down the answer; collective. An answer that is no number is not written."""
    engine = parts.engine
    vocabulary = engine.module.config.get_text_config().vocab_size
    ids = probe_ids(vocabulary)
    parts.watchdog.step()
    engine.eval()
    try:
        with torch.no_grad():
            inputs = torch.tensor([ids], device=parts.device)
            outputs = engine(input_ids=inputs, use_cache=False).logits[0, -1].float()
    finally:
        engine.train()
    if parts.ranks.rank == 0 and bool(outputs.isfinite().all()):
        every = stride(len(outputs))
        Probe(step=step, ids=ids, every=every, outputs=outputs[::every].tolist()).write(parts.run)
