"""What fitcheck-llm predicts, asked in an environment of its own: a JSON object a line in, one a line out, in GiB."""

from __future__ import annotations

import json
import sys

from fitcheck import ModelConfig, TrainingConfig, estimate, get_gpu

MIB_PER_GIB = 1024


def main() -> None:
    """Answer each line."""
    for line in sys.stdin:
        asked = json.loads(line)
        said = estimate(ModelConfig(**asked["model"]), TrainingConfig(**asked["training"]), get_gpu(asked["gpu"]))
        whole = said.total_mib / MIB_PER_GIB
        print(json.dumps({"allocated": whole - said.overhead_mib / MIB_PER_GIB, "process": whole}), flush=True)


if __name__ == "__main__":
    main()
