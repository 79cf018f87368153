"""tunekit: the right ms-swift run for this model, this data and this GPU."""

import os
import signal
import sys

__version__ = "0.1.0"


def leave(_number: int, _frame: object) -> None:
    """End at once, without a traceback: while the program is being imported there is nothing to be tidied up."""
    os.write(2, b"interrupted\n")
    os._exit(130)


def _starts() -> bool:
    """Whether this is the program, not a package that another one imports: ``tunekit``, or ``python -m tunekit``."""
    program = os.path.basename(sys.argv[0]) if sys.argv else ""  # noqa: PTH119 - pathlib would take 5 ms
    return program == "tunekit" or (program == "-m" and "tunekit" in sys.orig_argv)


if _starts() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, leave)
