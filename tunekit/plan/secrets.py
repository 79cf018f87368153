"""Tokens travel by environment only: in no argv, log, file, dry run or report.

ms-swift prints its whole command line when it starts, and every user of the machine can read the arguments of a running
program, so a token given as a flag is moved to the environment.
"""

from __future__ import annotations

import json
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

_NAME = re.compile(
    r"SECRET|PASS(?!IV|E[SD]|ING)|TOKEN(?!IZ|_TYPE|_LIMIT|S$)|CREDENTIAL|API_?KEY|(^|_)(PAT|PWD|KEYS?)(_|$)|KEY$"
)
_FOLDER = "PWD"
"""The shell's current folder: PWD is a password only behind another word (MYSQL_PWD)."""
_NO_VALUE = ("_FILE", "_PATH", "_DIR")
"""A variable's name has the first in it where its value is a secret, and does not end so, which names a place."""

_KEY = (
    r"(?:[\w-]{0,40}(?:api[_-]?key|access[_-]?key|private[_-]?key|secret|passw(?:or)?d|passphrase|webhook_url)[\w-]{0,40}"
    r"|(?:access|auth|hub|hf|api|bearer|refresh|session|swanlab|wandb|github|id)[_-]?token|token(?=[\"']))"
)
"""What stands before a secret in JSON, in arguments, in an address. Many a token is none (``eos_token``)."""

_SHORTEST, _SHORTEST_WORD = 8, 3
"""Characters: shorter values are struck out as whole words only, and the shortest not at all."""
_ORDINARY = re.compile(r"(?i)true|false|none|null|yes|no|on|off|[\d.]{1,5}|auto|default|key|token|test")
"""Values that are no secrets, whatever they are called: they would spoil a log."""

_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://)[^\s/@\"'<>]{1,500}@"), r"\1***@"),
    (
        re.compile(
            rf"(?i)([\"']?\b{_KEY}\\?[\"']?\s{{0,4}}[:=]\s{{0,4}}\\?)([\"'])(?!\2)(?:\\.|(?!\2)[^\\]){{1,4000}}\2"
        ),
        r"\1\2***\2",
    ),
    (
        re.compile(rf"(?i)((?:[?&;\s,({{]|^|--){_KEY}[=:]\s?)(?!None\b|True\b|False\b|\*)([^\s&,;'\"(){{}}]+)"),
        r"\1***",
    ),
    (re.compile(r"(?i)\b(authorization[\"']?\s?[:=]\s?[\"']?(?:bearer |basic )?|bearer )[\w.~+/=-]{16,}"), r"\1***"),
    (
        re.compile(
            r"\b(?:hf_[A-Za-z0-9]{16,}|sk-(?:proj-|ant-)?\w{20,}|gh[opsur]_[A-Za-z0-9]{16,}|github_pat_\w{16,}"
            r"|glpat-[\w-]{16,}|AKIA[A-Z0-9]{12,}|xox[abprs]-[\w-]{8,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,})"
        ),
        "***",
    ),
)
"""Secrets that are known by how they look: in an address, behind a key that says so, with a maker's mark."""


def move_to_environment(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The words of `argv` without secret flags, and the variables to set instead.

    Raises TunekitError for a secret without a value, or one that ms-swift takes by flag only.
    """
    kept: list[str] = []
    moved: dict[str, str] = {}
    words, place = list(argv), 0
    while place < len(words):
        word = words[place]
        place += 1
        name, equals, value = word.partition("=")
        flag = name.removeprefix("--").replace("-", "_").rpartition(".")[2]  # of a recipe: --dpo.hub_token
        if not name.startswith("--") or flag not in VARIABLE_OF_FLAG:
            kept.append(word)
            continue
        variable = "HF_TOKEN" if flag == "hub_token" and _use_hf(argv, environ) else VARIABLE_OF_FLAG[flag]
        if variable is None:
            raise TunekitError(
                f"--{flag} would show a secret to every user of this machine",
                "ms-swift takes it by flag only; let the tracker's own configuration hold it",
            )
        given = [value] if equals else []
        while not equals and place < len(words) and not words[place].startswith("--"):
            given.append(words[place])
            place += 1
        if len(given) > 1:  # the rest of it must not be repeated as a word that belongs to no flag
            raise TunekitError(f"--{flag} takes one word", f"set the environment variable {variable} instead")
        secret = "".join(given).strip()
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
    name = variable.upper()
    return bool(_NAME.search(name)) and not name.endswith(_NO_VALUE) and name != _FOLDER


def is_secret_flag(flag: str) -> bool:
    """Whether a flag of that name holds a secret, of ms-swift or of another program."""
    return flag in VARIABLE_OF_FLAG or bool(re.fullmatch(_KEY, flag, re.IGNORECASE))


def secret_values(environ: Mapping[str, str]) -> list[str]:
    """The secret values in an environment, longest first, so that `redact` leaves no end of one.

    They are also given as they look inside of JSON and of an address; of a text of several lines, each line.
    """
    found: set[str] = set()
    for name, value in environ.items():
        if is_secret(name):
            for line in (value, *value.splitlines()):
                bare = line.strip()
                if len(bare) >= _SHORTEST_WORD and not _ORDINARY.fullmatch(bare):
                    found |= {line if len(line) >= _SHORTEST and line.strip() else bare, *_disguises(bare)}
    return sorted(found, key=len, reverse=True)


def _disguises(secret: str) -> set[str]:
    """How a secret looks inside of JSON, of a Python text, of an address."""
    forms = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    from urllib.parse import quote, quote_plus

    return forms | {quote(secret, safe="", errors="replace"), quote_plus(secret, errors="replace")}


def redact(text: str, secrets: Sequence[str] = ()) -> str:
    """`text` with every secret replaced by ``***``: these values, and what looks like one."""
    for secret in secrets:
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, "***")
        elif secret in text:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    for shape, instead in _SHAPES:
        text = shape.sub(instead, text)
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
