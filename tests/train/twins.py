"""Every shipped recipe, with a model, sizes and a cluster for one core: `python -m tests.train.twins FOLDER`.

All else is the recipe's own, its data and options too. One process loads torch and DeepSpeed once and splits off the
only rank of each run: six seconds less for each.
"""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from launcher.plan.build import Request, plan_request
from launcher.rundir import RunDir
from tests.workbench import write_rows, write_tokenizer

STEPS = 2
SEQ_LEN = 768
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 300,
    "max_position_embeddings": SEQ_LEN,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "bos_token_id": None,
}
COMMON = (
    "cluster=local",
    "cluster.nodes=1",
    "cluster.gpus_per_node=1",
    "cluster.accelerator=cpu",
    "precision=fp32",
    "tracking=disabled",
    "model.shape=null",
    f"data.seq_len={SEQ_LEN}",
    "data.workers=1",
    f"train.max_steps={STEPS}",
    "train.epochs=null",
    "train.eval_every=null",
    "train.global_batch_size=4",
    "train.micro_batch_size=2",
    "checkpoint.every_steps=null",
)
FEW_ANSWERS = ("evaluate.answers.limit=3", "evaluate.answers.max_new_tokens=8", "evaluate.answers.at_once=2")


@dataclass(frozen=True, kw_only=True, slots=True)
class Twin:
    """What a recipe's small twin differs in."""

    family: str = "llama"
    """Whose model it trains."""
    words: tuple[str, ...] = field(default=())
    """Overrides of its own; `{model}` is that model's folder."""


TWINS = {
    "classify_qwen3_14b": Twin(family="qwen3"),
    "demo": Twin(words=("model.init=random",)),
    "distill_llama3_8b": Twin(
        words=("objective.options.teacher={model}", "objective.options.teacher_parameters=null"),
    ),
    "dpo_llama3_8b": Twin(),
    "extract_qwen3_14b": Twin(family="qwen3", words=FEW_ANSWERS),
    "grpo_llama3_8b": Twin(words=("objective.options.max_new_tokens=8", "objective.options.group=2")),
    "kto_llama3_8b": Twin(),
    "lora_llama3_8b": Twin(),
    "pretrain_mistral_7b": Twin(family="mistral"),
    "qlora_llama3_70b": Twin(),
    "reward_llama3_8b": Twin(),
    "sft_gemma2_9b": Twin(family="gemma2"),
    "sft_llama3_70b": Twin(),
    "sft_llama3_8b": Twin(),
    "sft_mistral_7b": Twin(family="mistral"),
    "sft_qwen3_14b": Twin(family="qwen3"),
    "summarise_llama3_8b": Twin(words=FEW_ANSWERS),
}
"""By recipe."""


def write_models(folder: Path) -> None:
    """A folder as transformers writes it of each family, weights included."""
    import torch
    from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, MistralConfig, Qwen3Config

    kinds: dict[str, Any] = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen3": Qwen3Config}
    configs = {family: kind(**SIZES) for family, kind in kinds.items()}
    configs["gemma2"] = Gemma2Config(**SIZES, query_pre_attn_scalar=8, sliding_window=64)
    for family, config in configs.items():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / family)
        write_tokenizer(folder / family)


def overrides(recipe: str, folder: Path) -> list[str]:
    """What the twin of `recipe` is submitted with; its own words are the last on a key."""
    model = str(folder / TWINS[recipe].family)
    own = [word.replace("{model}", model) for word in TWINS[recipe].words]
    return [*COMMON, f"model.path={model}", *own]


def run_of(recipe: str, folder: Path) -> RunDir:
    """The only run of its twin."""
    (root,) = (folder / "runs").glob(f"{recipe}-2*")
    return RunDir(root)


def main(folder: Path) -> None:
    """Train all of them, one after another; what one says before its rank has a log is in FOLDER/RECIPE.log."""
    os.environ.update(DS_ACCELERATOR="cpu", LAUNCHER_DEMO_DATA=str(folder / "demo"), LAUNCHER_SUBMISSION="1")
    os.environ["LAUNCHER_RUNS_ROOT"] = str(folder / "runs")
    (folder / "demo").mkdir()
    for name, count, offset in (("train", 100, 0), ("held_out", 10, 1000)):
        write_rows(folder / "demo" / f"{name}.jsonl", count, offset)
    write_models(folder)
    import launcher.train.run  # noqa: F401

    for recipe in TWINS:
        child = os.fork()
        if child == 0:
            _become(recipe, folder)
        os.waitpid(child, 0)


def _become(recipe: str, folder: Path) -> NoReturn:
    """A run of its own, from plan to rank, as the job on this machine has it."""
    log = os.open(folder / f"{recipe}.log", os.O_CREAT | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        from launcher.node import entry
        from launcher.node.prologue import begin_attempt, prologue
        from launcher.node.ranks import local_variables
        from launcher.runs.freeze import freeze
        from launcher.runs.job import claimed_submission

        words = overrides(recipe, folder)
        run = freeze(plan_request(Request(recipe=recipe, overrides=words, config_dir=None, work_dir=folder)), words)
        with claimed_submission(run, 1):
            start = begin_attempt(run, f"{os.getpid()}.twin", 0, 1)
        os.environ.update(prologue(run, start) | local_variables(0, 1))
        entry.main(str(run.root))
    except BaseException:
        traceback.print_exc()
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
