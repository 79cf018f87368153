"""Plan → Command: the exact words and variables that start ms-swift, and their text for people and shells."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.plan.flags import check_value
from tunekit.plan.trackers import MISREAD, SWANLAB, known_environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tunekit.plan.plan import Plan
    from tunekit.plan.settings import Setting

PROGRAM = ("swift",)
"""What ms-swift is called in text for people. A real run names the interpreter instead (`Installation.program`)."""


@dataclass(frozen=True)
class Command:
    """What is started: its words, no shell involved, and the variables to set.

    `secrets` are names of variables to pass on, whose values no text may show.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    secrets: tuple[str, ...] = ()

    def shell(self) -> str:
        """The command for a POSIX shell, one flag a line, ready to be pasted."""
        lines = [f"{name}={shlex.quote(value)}" for name, value in self.env.items()]
        lines += [f'{name}="${name}"' for name in self.secrets]
        words = list(self.argv)
        start = next((index for index, word in enumerate(words) if word.startswith("--")), len(words))
        lines.append(shlex.join(words[:start]))
        for word in words[start:]:
            if word.startswith("--"):
                lines.append(f"  {shlex.quote(word)}")
            else:
                lines[-1] += f" {shlex.quote(word)}"
        return " \\\n".join(lines)

    def script(self, comments: list[str]) -> str:
        """The command as a shell script that says where it comes from."""
        head = "".join(f"# {' '.join(line.splitlines())}".rstrip() + "\n" for line in comments)
        return f"#!/usr/bin/env bash\n{head}set -euo pipefail\n\n{self.shell()}\n"


SWANLAB_FOLDERS = ("SWANLAB_LOG_DIR", "SWANLAB_LOGDIR")
"""Where SwanLab keeps its files: the variable of today, and that of before."""

LAUNCHER = ("NPROC_PER_NODE", "NNODES", "NODE_RANK")
"""The variables that make ms-swift start torchrun, and say how (cli/main.py, use_torchrun and get_torchrun_args)."""


def child_environment(command: Command, environ: Mapping[str, str]) -> dict[str, str]:
    """The whole environment in which a command is started, made of that of this process.

    A command that sets ``NPROC_PER_NODE`` was planned for several processes: which machines train together is what the
    shell says (`tunekit.hardware.choose_hardware`). Any other is one process, whatever the shell says. SwanLab's
    variables that its package misreads stay behind: a plan holds the project, and the token goes by its other name.
    """
    taken = (*(LAUNCHER[:1] if LAUNCHER[0] in command.env else LAUNCHER), *MISREAD)
    known = known_environment(environ)
    return {name: value for name, value in known.items() if name not in taken} | dict(command.env)


def flag_words(flag: str, setting: Setting) -> list[str]:
    """A flag and its value as words of a command. Raises TunekitError where one of them would be read as a flag."""
    words = setting.render()
    for word in words:
        check_value(flag, word)
    return [f"--{flag}", *words]


def build_command(
    plan: Plan, output_dir: Path, resume: Path | None = None, program: tuple[str, ...] = PROGRAM
) -> Command:
    """The command of a plan: checkpoints and ``logging.jsonl`` come directly into `output_dir`.

    `resume` is the checkpoint to continue from, `program` the words that start ms-swift, without the subcommand.
    """
    argv = [*program, plan.stage.command]
    for flag, setting in plan.settings.items():
        argv += flag_words(flag, setting)
    argv += ["--output_dir", str(output_dir), "--add_version", "false"]
    if resume:
        argv += ["--resume_from_checkpoint", str(resume)]
    return Command(tuple(argv), {**_tracker_folders(plan, output_dir), **plan.env}, plan.secrets)


def _tracker_folders(plan: Plan, output_dir: Path) -> dict[str, str]:
    """Where trackers keep files of a run, if not where the shell says: in its folder, not in that of the call.

    For SwanLab 0.10, sdk/internal/settings (``log_dir``).
    """
    said = any(name in plan.env for name in SWANLAB_FOLDERS)
    return {} if said or SWANLAB not in plan.trackers else {SWANLAB_FOLDERS[0]: str(output_dir.parent / "swanlog")}
