"""Measure whole processes, side by side and in turns, and write docs/internals/speed.md.

    python scripts/bench.py MODEL_FOLDER
    python scripts/bench.py --against OTHER_CHECKOUT

* A dry run against the fastest answers that the tools beneath give: ``swift sft`` refusing a flag, ``trl --help``.
* With --against FOLDER that alone: CPU seconds of starts of this checkout against those of another one, in turns.
* A supervised run against the same command without tunekit.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
TRL = str(Path(PYTHON).with_name("trl"))
DRY = [PYTHON, "-m", "tunekit", "sft", "--model", "Qwen2.5-7B", "--preset", "8b-tight", "--dataset", "data.jsonl"]
DRY += ["--gpus", "1x40GB", "--dry-run"]
BARE = [PYTHON, "-m", "swift.cli.main", "sft", "--bad-flag"]
QUICK, SLOW, TRAIN = 15, 3, 3


def seconds(command: list[str], folder: Path, expect: int = 0) -> float:
    """Wall-clock seconds of one process, from start to end."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    took = time.perf_counter() - began
    if done.returncode != expect:
        sys.exit(f"error: {' '.join(command[:6])} … ended with status {done.returncode}, not {expect}")
    return took


def start_up(folder: Path) -> list[list[str]]:
    """Rows of the first table."""
    seconds(DRY, folder)  # the flag table is cached by the first call
    dry = [seconds(DRY, folder) for _ in range(QUICK)]
    swift = [seconds(BARE, folder, expect=1) for _ in range(SLOW)]
    trl = [seconds([TRL, "--help"], folder) for _ in range(SLOW)]
    base = statistics.median(dry)
    return [
        ["`tunekit sft … --dry-run`", f"{base:.3f}", "1"],
        ["`swift sft --bad-flag`", f"{statistics.median(swift):.2f}", f"{statistics.median(swift) / base:.0f}"],
        ["`trl --help`", f"{statistics.median(trl):.2f}", f"{statistics.median(trl) / base:.0f}"],
    ]


def against(other: str) -> None:
    """Print the CPU seconds of some starts here and in another checkout, and their ratio."""
    trees = (str(ROOT), str(Path(other).resolve()))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for tree in trees:  # as an installed package is
            subprocess.run([PYTHON, "-m", "compileall", "-q", f"{tree}/tunekit"], check=True)
        for words in (DRY[3:], ["--help"], []):
            taken: dict[str, list[float]] = {tree: [] for tree in trees}
            for _ in range(QUICK + 1):  # the first one fills the cache of flags
                for tree in trees:
                    env = {**os.environ, "PYTHONPATH": tree, "TUNEKIT_CACHE": f"{name}/{trees.index(tree)}"}
                    before = os.times()
                    subprocess.run(
                        [PYTHON, "-m", "tunekit", *words], cwd=name, env=env, capture_output=True, check=False
                    )
                    after = os.times()
                    spent = after.children_user + after.children_system - before.children_user - before.children_system
                    taken[tree].append(spent)
            here, there = (statistics.median(taken[tree][1:]) for tree in trees)
            rows.append([f"`tunekit {' '.join(words[:1])}`", f"{here:.3f}", f"{there:.3f}", f"{here / there:.2f}"])
    print(table(["CPU seconds, median", "here", "there", "ratio"], rows))


def supervised(model: str, folder: Path) -> list[list[str]]:
    """Rows of the second table: the same training, with and without tunekit, in turns."""
    words = ["--model", model, "--dataset", str(ROOT / "examples/identity.jsonl"), "--preset", "cpu"]
    words += ["--max-length", "128", "--max_steps", "4", "--report-to", "none", "--name", "bench"]
    tunekit = [PYTHON, "-m", "tunekit", "sft", *words]
    shown = subprocess.run([*tunekit, "--json"], cwd=folder, capture_output=True, text=True, check=True).stdout
    document = json.loads(shown)
    bare = [PYTHON, "-m", "swift.cli.main", *document["argv"][1:]]
    times: dict[str, list[float]] = {"swift": [], "tunekit": []}
    for _ in range(TRAIN):
        for name, command in (("swift", bare), ("tunekit", tunekit)):
            shutil.rmtree(folder / "runs", ignore_errors=True)
            times[name].append(seconds(command, folder))
    alone, watched = (statistics.median(times[name]) for name in ("swift", "tunekit"))
    return [
        ["`swift sft …`", f"{alone:.1f}", "1"],
        ["`tunekit sft …`", f"{watched:.1f}", f"{watched / alone:.3f}"],
    ]


def processor() -> str:
    """The processor's name, as Linux gives it."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", info.read_text(encoding="utf-8")) if info.is_file() else None
    return found[1] if found else platform.machine()


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def main(model: str) -> None:
    """Measure and write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = table(["whole process", "median, s", "times the dry run"], start_up(folder))
        second = table(["whole process, 4 steps", "median, s", "ratio"], supervised(model, folder))
    today = dt.datetime.now(tz=dt.timezone.utc).date().isoformat()
    machine = f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {today}"
    page = f"""# Speed

Written by `scripts/bench` on {machine}. Absolute numbers are this machine's; the ratios are what counts.

## A dry run

Nothing heavy is imported to plan: no torch, no transformers, no ms-swift. The others are the fastest answers that the
tools beneath give.

{first}
## A supervised run

The same training of SmolLM2-135M with and without tunekit around it, in turns, {TRAIN} times each.
Short runs differ by some percent from one to the next.

{second}"""
    (ROOT / "docs/internals/speed.md").write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--against":
        against(sys.argv[2])
    elif len(sys.argv) == 2:
        main(sys.argv[1])
    else:
        sys.exit(__doc__)
