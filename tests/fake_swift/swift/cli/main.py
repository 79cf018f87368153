"""What ``swift`` is: a launcher that starts the trainer, waits, passes no signal on and hands over its status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROUTES = dict.fromkeys(("pt", "sft", "rlhf"), "trainer.py")
ROUTES |= {"infer": "infer.py", "merge-lora": "merge_lora.py", "eval": "eval.py"}


def cli_main() -> None:
    method, *argv = sys.argv[1:]
    if method not in ROUTES:
        raise KeyError(method)
    args = [sys.executable, str(Path(__file__).with_name(ROUTES[method])), *argv]
    print(f"run sh: `{' '.join(args)}`", flush=True)
    result = subprocess.run(args, check=False)
    if result.returncode != 0:
        sys.exit(result.returncode)  # -9 becomes 247


if __name__ == "__main__":
    cli_main()
