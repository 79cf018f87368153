"""Rows a second and peak memory of three ways through one file of JSON lines, each in a process of its own.

The peak is that of the process and of all that it starts, together, looked at every 20 ms (proportional set size).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

TEXT = "the model learns from every row that is read and answers a question of the user with a short text 你好 123"
WORDS = TEXT.split()
LOOP = "import json, sys\nfor line in open(sys.argv[1], encoding='utf-8'):\n    json.loads(line)"
LOAD = "import sys\nfrom datasets import load_dataset\nload_dataset('json', data_files=sys.argv[1], split='train')"
CHECK = "import sys\nfrom tunekit.__main__ import main\nsys.argv[1:1] = ['data', 'check']\nmain()"
WAYS = {"tunekit data check": CHECK, "datasets.load_dataset": LOAD, "json.loads in a loop": LOOP}


def make_file(path: Path, size: int) -> int:
    """Write so many bytes of conversations of all lengths, always the same; how many rows they are."""
    chance = random.Random(0)  # noqa: S311 - the same file every time, no secret
    rows = written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            turns = [
                {"role": role, "content": " ".join(chance.choices(WORDS, k=chance.randint(5, longest)))}
                for _ in range(chance.randint(1, 3))
                for role, longest in (("user", 60), ("assistant", 250))
            ]
            written += file.write(json.dumps({"messages": turns, "id": rows}, ensure_ascii=False) + "\n")
            rows += 1
    return rows


def measure(code: str, file: Path, scratch: str) -> tuple[float, float, float]:
    """Seconds, seconds of all cores together, and MiB of a program that reads a file. Raises CalledProcessError."""
    environment = {**os.environ, "HF_DATASETS_CACHE": scratch, "HF_HOME": scratch}
    begin, used, peak = time.perf_counter(), children_seconds(), 0
    with subprocess.Popen(
        [sys.executable, "-c", code, str(file)], env=environment, stderr=subprocess.DEVNULL
    ) as program:
        watched = psutil.Process(program.pid)
        while program.poll() is None:
            held = 0
            with contextlib.suppress(psutil.Error):
                for process in (watched, *watched.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        held += process.memory_full_info().pss
            peak = max(peak, held)
            time.sleep(0.02)
    if program.returncode:
        raise subprocess.CalledProcessError(program.returncode, code)
    return time.perf_counter() - begin, children_seconds() - used, peak / 2**20


def children_seconds() -> float:
    """CPU time of all that this process has started and that has ended."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=1000, help="size of the file in MB (default: 1000)")
    size = parser.parse_args().mb * 10**6
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.jsonl")
        rows = make_file(file, size)
        print(f"{rows:,} rows, {size / 10**6:,.0f} MB, {len(os.sched_getaffinity(0))} cores")
        print(f"{'':24}{'rows/s':>12}{'seconds':>10}{'CPU s':>10}{'peak MiB':>10}")
        for name, code in WAYS.items():
            seconds, used, peak = measure(code, file, folder)
            print(f"{name:24}{rows / seconds:>12,.0f}{seconds:>10.1f}{used:>10.1f}{peak:>10,.0f}")


if __name__ == "__main__":
    main()
