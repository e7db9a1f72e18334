"""The demo from end to end, as a person would type it: data, submit, export, ask, and a summary.

Every step is a command of the launcher; this script only runs them in order and reads what they leave behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("LAUNCHER_DEMO_DATA", "demo_data"))
QUESTION = "What does `shutil.copyfile` do?"


def say(title: str) -> None:
    """A heading between steps."""
    print(f"\n==> {title}", flush=True)


def call(*command: str) -> None:
    """Run a command that speaks for itself; its failure is the demo's."""
    print("    $ " + " ".join(command), flush=True)
    code = subprocess.run(command, check=False).returncode
    if code != 0:
        sys.exit(code)


def launcher_json(*arguments: str) -> dict[str, Any]:
    """What `launcher … --json` prints."""
    result = subprocess.run(["launcher", *arguments, "--json"], check=True, capture_output=True, text=True)
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def generate(model_dir: Path) -> str:
    """The exported model's answer to the question, loaded as anybody would load it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    conversation = [{"role": "user", "content": QUESTION}]
    prompt = tokenizer.apply_chat_template(
        conversation, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        answer = model.generate(**prompt, max_new_tokens=40, do_sample=False, repetition_penalty=1.3)
    text = tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    return str(text).strip()


def losses(metrics: Path) -> dict[str, float]:
    """First and last losses of a run; training as the mean of three steps, which one batch would not tell."""
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    training = [record["loss"] for record in records if "loss" in record]
    held_out = [record["eval_loss"] for record in records if "eval_loss" in record]
    return {
        "training loss, first 3 steps": sum(training[:3]) / 3,
        "training loss, last 3 steps": sum(training[-3:]) / 3,
        "held-out loss at the start": held_out[0],
        "held-out loss at the end": held_out[-1],
    }


def main() -> None:
    """Run the demo; exits with the status of the first step that fails."""
    started = time.monotonic()
    say("1/4  instruction data from Python's own documentation, a tokenizer, and a small model's config")
    call(sys.executable, str(HERE / "demo_data.py"), str(DATA))
    say("2/4  fine-tune with DeepSpeed ZeRO-3 on 2 ranks of this machine")
    call("launcher", "submit", "demo", "--follow")
    run = launcher_json("status", "last")
    say("3/4  export the last checkpoint as a Hugging Face model")
    call("launcher", "export", "last")
    run_dir = Path(os.environ.get("LAUNCHER_RUNS_ROOT", "runs")) / run["run_id"]
    say("4/4  ask the exported model")
    print(f"    {QUESTION}\n    {generate(run_dir / 'export')}", flush=True)
    say(f"done in {time.monotonic() - started:.0f} s")
    for name, value in losses(run_dir / "metrics.jsonl").items():
        print(f"    {name:32}{value:8.3f}")
    print(f"""
    run directory    {run_dir}
    exported model   {run_dir / "export"}
    checkpoints      {run_dir / "checkpoints"}
    (the model is tiny and saw a minute of training: it has learnt the shape of an answer, not its content)

    next             . .venv/bin/activate
                     launcher status last
                     launcher resume last train.max_steps=200 --follow
                     launcher plan sft_llama3_8b model.path=DIR data.train=my.jsonl data.eval=held_out.jsonl
""")


if __name__ == "__main__":
    main()
