"""Ask the model of a run the same questions before and after training, with ms-swift's own `swift infer`.

    python scripts/ask.py RUN_FOLDER QUESTIONS.jsonl

The answers are kept in the run's folder, so a second call asks nothing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any


def main(run: Path, questions: Path) -> int:
    """Print question, answer before and answer after, for every question."""
    plan: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))["plan"]
    settings = {flag: setting["value"] for flag, setting in plan["settings"].items()}
    same = [word for flag in ("model_type", "template") if flag in settings for word in (f"--{flag}", settings[flag])]
    asked = {
        "before": ["--model", settings["model"], *same],
        "after": ["--adapters", str(run / "output" / "last-checkpoint")],
    }
    answers: dict[str, list[str]] = {}
    for when, model in asked.items():
        kept = run / f"answers-{when}.jsonl"
        if not kept.is_file():
            print(f"asking {when} …", file=sys.stderr, flush=True)
            infer(model, questions, kept)
        answers[when] = [json.loads(line)["response"] for line in kept.read_text(encoding="utf-8").splitlines()]
    rows = [json.loads(line)["messages"][0]["content"] for line in questions.read_text(encoding="utf-8").splitlines()]
    for question, before, after in zip(rows, answers["before"], answers["after"], strict=True):
        print(f"\n  {question}")
        for when, answer in (("before", before), ("after", after)):
            short = textwrap.shorten(answer.replace("\n", " "), 230, placeholder=" …")
            width = min(96, shutil.get_terminal_size().columns - 1)
            print(textwrap.fill(short, width, initial_indent=f"    {when:<8}", subsequent_indent=" " * 12))
    return 0


def infer(model: list[str], questions: Path, kept: Path) -> None:
    """Run `swift infer` into a new file, which gets its name only when all answers are there."""
    partial = kept.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    words = [*model, "--device_map", "cpu", "--torch_dtype", "float32", "--attn_impl", "sdpa"]
    words += ["--val_dataset", str(questions), "--dataset_num_proc", "1", "--max_batch_size", "4"]
    words += ["--max_new_tokens", "64", "--temperature", "0", "--result_path", str(partial)]
    command = [sys.executable, "-m", "swift.cli.main", "infer", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout[-3000:]}\nerror: swift infer ended with status {done.returncode}")
    partial.rename(kept)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
