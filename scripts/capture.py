"""Record a real terminal session of tunekit and write it as docs/capture.svg.

    python scripts/capture.py MODEL_FOLDER

Two commands run in a pseudo-terminal: a dry run for one GPU, and a real training on this machine's CPU that runs out of
memory (its address space is limited) and goes on with a smaller micro-batch. The screen that a person would see is
taken from a terminal emulator and drawn by Rich.
"""

from __future__ import annotations

import fcntl
import io
import itertools
import json
import os
import pty
import resource
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import pyte
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = 100
LINES = 200
MEMORY_LIMIT = 7_500_000 * 1024
"""Bytes of address space in which a micro-batch of 32 rows does not fit and one of 16 does."""

DRY = "tunekit sft --model Qwen2.5-7B --preset 8b-tight --dataset train.jsonl --gpus 1x40GB --dry-run"
REAL = "tunekit sft --model ./tiny-llama --dataset train.jsonl --max-length 1024 --micro-batch 32 --save_steps 1"


def main(source: str) -> None:
    """Make the models and the data, record, draw."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        maker = [sys.executable, str(ROOT / "tests/e2e/make_tiny.py"), source, str(folder / "tiny-llama")]
        subprocess.run(maker, check=True, capture_output=True)
        with (folder / "train.jsonl").open("w", encoding="utf-8") as file:
            for length in [12] * 32 + [200] * 64:
                answer = " ".join(str(digit % 10) for digit in range(length))
                turns = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": answer}]
                file.write(json.dumps({"messages": turns}) + "\n")
        # The order of the rows is fixed, so that the first step is a short one, and nothing is reported anywhere.
        hidden = " --train_dataloader_shuffle false --dataset_shuffle false --report-to none"
        screens = [record(DRY, "", folder), record(REAL, hidden, folder)]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for command, lines in zip((DRY, REAL), screens, strict=True):
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        for line in lines:
            console.print(line, no_wrap=True, crop=True)
        console.print()
    console.save_svg(str(ROOT / "docs/capture.svg"), title="tunekit", theme=MONOKAI)
    print("wrote docs/capture.svg")


def record(command: str, hidden: str, folder: Path) -> list[Text]:
    """The lines that a command leaves on a terminal. `hidden` is added and not shown."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    words = [sys.executable, "-m", *command.split(), *hidden.split()]
    environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(LINES)}
    environ |= {"HF_HUB_OFFLINE": "1", "MODELSCOPE_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
        os.execvpe(words[0], words, environ)  # noqa: S606 - no shell is wanted
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the other end is closed: the program has ended
            break
        stream.feed(piece.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    os.waitpid(child, 0)
    lines = [text_of(screen, number) for number in range(LINES)]
    while lines and not lines[-1].plain.strip():
        lines.pop()
    return lines


def text_of(screen: pyte.Screen, number: int) -> Text:
    """One line of a screen with its colours."""
    line = Text()
    cells = [screen.buffer[number][column] for column in range(COLUMNS)]
    for (name, bold), run in itertools.groupby(cells, key=lambda cell: (cell.fg, cell.bold)):
        line.append("".join(cell.data for cell in run), Style(color=colour(name), bold=bold))
    line.rstrip()
    return line


def colour(name: str) -> Color | None:
    """A terminal emulator's name for a colour, as Rich has it."""
    if name == "default":
        return None
    known = {"brown": "yellow"}
    if len(name) == 6 and all(digit in "0123456789abcdef" for digit in name):
        return Color.parse(f"#{name}")
    return Color.parse(known.get(name, name.replace("bright", "bright_")))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
