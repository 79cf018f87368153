"""What ``swift merge-lora`` is to the stand-in: it writes a whole model, unless the folder is there already.

merge: "fails"  it writes nothing; "half": it ends with half of a model written
"""

from __future__ import annotations

import errno
import shutil
import sys
from pathlib import Path

from swift.cli.trainer import TOLD, read_flags


def main() -> None:
    flags = read_flags(sys.argv[1:])
    adapter, target = Path(flags["adapters"]), Path(flags["output_dir"])
    content = (adapter / "adapter_model.safetensors").read_bytes()
    weights = content[8 + int.from_bytes(content[:8], "little") :].decode()
    if target.exists():
        return
    if TOLD.get("merge") == "fails":
        raise OSError(errno.ENOSPC, "No space left on device")
    target.mkdir()
    (target / "config.json").write_text("{}", encoding="utf-8")
    if TOLD.get("merge") == "half":
        raise OSError(errno.ENOSPC, "No space left on device")
    (target / "model.safetensors").write_text(f"merged: {weights}", encoding="utf-8")
    if (adapter / "args.json").exists():
        shutil.copy(adapter / "args.json", target / "args.json")  # ms-swift copies it as it is


if __name__ == "__main__":
    main()
