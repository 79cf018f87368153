"""Tokens travel by environment only: in no argv, log, file, dry run or report.

ms-swift prints its whole command line when it starts, and every user of the machine can read the arguments of a running
program, so a token given as a flag is moved to the environment.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VARIABLE_OF_FLAG: Mapping[str, str | None] = {
    "swanlab_token": "SWANLAB_API_KEY",
    "hub_token": "MODELSCOPE_API_TOKEN",
    "swanlab_secret": None,
    "swanlab_webhook_url": None,
}
"""Flags of ms-swift that hold a secret, and the variable that says the same; None where there is none."""

VARIABLE_OF_TRACKER = {"swanlab": "SWANLAB_API_KEY", "wandb": "WANDB_API_KEY"}
"""What a tracker in ``--report_to`` logs in with."""

_SECRET_NAME = re.compile(r"(TOKEN|API_KEY|SECRET|PASSWORD|ACCESS_KEY)$")
_SHORTEST = 8
"""Shorter values are not searched for: they would strike ordinary words out of a log."""


def move_to_environment(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The words of `argv` without secret flags, and the variables to set instead.

    Raises TunekitError for a secret without a value, or one that ms-swift takes by flag only.
    """
    kept: list[str] = []
    moved: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        flag = name.removeprefix("--").replace("-", "_")
        if not name.startswith("--") or flag not in VARIABLE_OF_FLAG:
            kept.append(word)
            continue
        variable = "HF_TOKEN" if flag == "hub_token" and _use_hf(argv, environ) else VARIABLE_OF_FLAG[flag]
        if variable is None:
            raise TunekitError(
                f"--{flag} would show a secret to every user of this machine",
                "ms-swift takes it by flag only; let the tracker's own configuration hold it",
            )
        secret = value if equals else next(words, "")
        if not secret or secret.startswith("--"):
            raise TunekitError(f"--{flag} has no value", f"set the environment variable {variable} instead")
        moved[variable] = secret
    return kept, moved


def refuse_secret(flag: str) -> None:
    """Raise TunekitError where a flag holds a secret: files, variables of tunekit and plans never do."""
    if flag in VARIABLE_OF_FLAG:
        variable = VARIABLE_OF_FLAG[flag]
        instead = f"set the environment variable {variable} instead"
        hint = instead if variable else "let the tracker's configuration hold it"
        raise TunekitError(f"{flag} is a secret and cannot stand here", hint)


def is_secret(variable: str) -> bool:
    """Whether a variable of that name holds a secret."""
    return bool(_SECRET_NAME.search(variable))


def secret_values(environ: Mapping[str, str]) -> list[str]:
    """The secret values in an environment, longest first, so that `redact` leaves no end of one."""
    found = {value for name, value in environ.items() if is_secret(name) and len(value) >= _SHORTEST}
    return sorted(found, key=len, reverse=True)


def redact(text: str, secrets: Sequence[str]) -> str:
    """`text` with every secret replaced by ``***``."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def of_plan(report_to: Sequence[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """The secret variables that a run reads: its trackers' and, where they are set, the hubs'."""
    trackers = [VARIABLE_OF_TRACKER[name] for name in report_to if name in VARIABLE_OF_TRACKER]
    names = dict.fromkeys([*trackers, "HF_TOKEN", "MODELSCOPE_API_TOKEN"])
    return tuple(name for name in names if environ.get(name))


def _use_hf(argv: Sequence[str], environ: Mapping[str, str]) -> bool:
    word = environ.get("TUNEKIT_USE_HF") or environ.get("USE_HF", "")
    for place, flag in enumerate(argv):
        name, equals, value = flag.replace("-", "_").partition("=")
        if name == "__use_hf":
            following = argv[place + 1] if place + 1 < len(argv) else "--"
            word = value if equals else "true" if following.startswith("--") else following
    return word.lower() in ("1", "true", "yes")
