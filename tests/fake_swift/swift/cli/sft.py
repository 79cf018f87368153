"""The script that ms-swift's launcher runs for ``swift sft``, and that torchrun is given where others start it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from trainer import main

main()
