"""What ``swift eval`` is to the stand-in: it writes scores beside the weights, and says where."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from swift.cli.trainer import TOLD, read_flags


def main() -> None:
    flags = read_flags(sys.argv[1:])
    target = Path(flags["adapters"]).resolve() / "eval_result.jsonl"
    reports = [
        {"dataset_name": name, "metrics": [{"name": "mean_acc", "score": 0.25}], "name": f"model@{name}"}
        for name in flags["eval_dataset"].split()
    ]
    with target.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"Native": reports, "time": "now", "eval_limit": None}) + "\n")
    if not TOLD.get("silent"):
        print(f"[INFO:swift] The eval result have been saved to result_jsonl: `{target}`.", file=sys.stderr)


if __name__ == "__main__":
    main()
