"""What is typed behind ``tunekit``: nothing, a command of the table of options, or one for Typer."""

from __future__ import annotations

import os

import tunekit
from tunekit.cli.app import by_table
from tunekit.cli.words import HELP, read_words
from tunekit.errors import Exit

BEGIN = f"""\
tunekit {tunekit.__version__}: fine-tune with ms-swift without out-of-memory surprises.

It picks the settings for your model and GPU, keeps the effective batch at 32 or
more, shows the swift command, runs it, and goes on with a smaller micro-batch
when the GPU runs out of memory.

Begin with
  tunekit doctor                             Is this machine ready to train?
  tunekit fit --model Qwen2.5-7B             Will it fit this GPU?
  tunekit sft --model Qwen2.5-7B --dataset data.jsonl --dry-run
                                             See the plan before you train.
  tunekit resume RUN                         Go on with a run that was stopped.
  tunekit chat RUN                           Talk with what was trained.

All commands: tunekit --help. What one takes: tunekit sft --help.
"""
"""What ``tunekit`` alone prints: it fits a terminal of 80 columns and 24 lines."""


def run_words(words: list[str]) -> int:
    """Do what the words behind ``tunekit`` ask for. Returns the exit code."""
    if "_TUNEKIT_COMPLETE" not in os.environ:  # then the shell asks for what may come next
        if not words:
            print(BEGIN, end="")
            return Exit.DONE
        if words[0] == "sweep" and not HELP & set(words):
            from tunekit.cli.sweep import sweep_words

            return sweep_words(words[1:])
        row = by_table(words[0])
        if row and not HELP & set(words):
            takes, run, _ = row
            return run(words[0], *read_words(takes, words[1:]))
    from tunekit.cli.root import app

    # Outside of its standalone mode the library returns the code of a `typer.Exit` instead of raising it.
    return app(words, prog_name="tunekit", standalone_mode=False) or Exit.DONE
