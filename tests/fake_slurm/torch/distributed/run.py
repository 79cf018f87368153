"""What torchrun is on a machine of several: on the first it trains, on the others it goes with it.

``FAKE_SWIFT`` may say ``node_oom_above``: on the second machine it is out of memory while the micro-batch is larger.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

OOM = """\
Traceback (most recent call last):
  File "trainer.py", line 1, in training_step
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.32 GiB. GPU 0 has a total capacity of 39.14 GiB of \
which 1.10 GiB is free."""


def main(argv: list[str]) -> int:
    options = dict(zip(argv[:10:2], argv[1:10:2], strict=True))
    script, flags = argv[10], argv[11:]
    print(f"met at {options['--master_addr']}:{options['--master_port']}", flush=True)
    if options["--node_rank"] == "0":
        told: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: told.append(number))  # its workers got it, and save
        status = subprocess.run([sys.executable, script, *flags], check=False).returncode
        return 1 if told else status
    told = json.loads(os.environ.get("FAKE_SWIFT", "{}"))
    value = dict(pairwise(flags))
    if int(value["--per_device_train_batch_size"]) > told.get("node_oom_above", 1 << 30):
        log = Path(value["--output_dir"]) / "logging.jsonl"
        while not log.exists() or '"3/' not in log.read_text():
            time.sleep(0.02)
        print(OOM, flush=True)
        return 1
    time.sleep(60)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
