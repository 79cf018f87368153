"""Which tool a source is of, and the runs that a file asks for."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError, did_you_mean
from tunekit.recipes.importers.axolotl import AXOLOTL
from tunekit.recipes.importers.llamafactory import LLAMAFACTORY
from tunekit.recipes.importers.neurotrain import NEUROTRAIN
from tunekit.recipes.importers.qwen_vl import QWEN_VL
from tunekit.recipes.importers.reader import read_sources
from tunekit.recipes.importers.resonance import RESONANCE
from tunekit.recipes.importers.swift_before import SWIFT2, SWIFT3
from tunekit.recipes.importers.translation import translate_source
from tunekit.recipes.importers.trl import TRL
from tunekit.recipes.importers.unsloth import UNSLOTH

if TYPE_CHECKING:
    from tunekit.recipes.importers.source import Origin
    from tunekit.recipes.importers.translation import Dialect, Draft

DIALECTS: tuple[Dialect, ...] = (
    *(LLAMAFACTORY, SWIFT3, SWIFT2),
    *(AXOLOTL, TRL, UNSLOTH, RESONANCE, QWEN_VL, NEUROTRAIN),
)
"""All that are understood; where two are as likely, the first counts."""


OPEN = re.compile(r"<[^<>{}\[\]]{1,60}>")
"""A place for the user to fill in."""
HOUSEKEEPING = (
    *("echo", "printf", "mkdir", "cd", "rm", "cp", "mv", "ln", "ls", "cat", "tee", "tail", "head", "sleep", "wait"),
    *("source", ".", "conda", "pip", "pip3", "uv", "apt", "apt-get", "git", "[", "[[", "test", "true", "false", "exit"),
    *("return", "shift", "trap", "ulimit", "kill", "pkill", "module", "unset", "umask", "nvidia-smi", "which", "touch"),
    *("chmod", "break", "continue", "date"),
)
"""Programs of a script that change no run, about which nothing is said."""


def dialect_called(name: str) -> Dialect:
    """The dialect that ``--from`` names. Raises TunekitError."""
    names = [dialect.name for dialect in DIALECTS]
    if name not in names:
        hint = did_you_mean(name, names) or f"there are: {', '.join(names)}"
        raise TunekitError(f"--from {name}: no such tool is known", hint)
    return DIALECTS[names.index(name)]


def _left_open(draft: Draft) -> list[str]:
    """What the file leaves for the user to put in: ``<MODEL_ID>``."""
    words = dict.fromkeys(word for words in draft.flags.values() for word in words if OPEN.search(word))
    return [f"{', '.join(words)}: put in what is yours"] if words else []


def likeliest(source: Origin) -> Dialect | None:
    """The dialect that a source is most like; None where it is like none."""
    scored = [(dialect.likeness(source), dialect) for dialect in DIALECTS]
    best = max(score for score, _ in scored)
    return next(dialect for score, dialect in scored if score == best) if best > 0 else None


def import_file(word: str, name: str = "", world: int | None = None) -> tuple[Dialect, list[Draft]]:
    """The runs in a file (``-``: standard input), of the tool that is named, else of the one that it is most like.

    `world` is the number of processes, where the file does not say.
    Raises TunekitError where there is nothing to import.
    """
    sources = read_sources(word)
    pairs = [(source, likeliest(source)) for source in sources]
    if name:
        asked = dialect_called(name)
        mine = [source for source, _ in pairs if asked.likeness(source) > 0]
        pairs = [(source, asked) for source in mine or sources[-1:]]
    found = [(source, dialect) for source, dialect in pairs if dialect]
    if not found:
        names = ", ".join(dialect.title for dialect in DIALECTS)
        where = "standard input" if word == "-" else word
        raise TunekitError(f"{where}: no run of a tool that is known: {names}", "--from NAME says which it is")
    drafts = [
        draft
        for source, dialect in found
        for draft in translate_source(replace(source, world=source.world or world), dialect)
    ]
    for draft in drafts:
        draft.warnings += _left_open(draft)
    others = [
        " ".join(source.program)
        for source, dialect in pairs
        if not dialect and source.program and source.program[0] not in HOUSEKEEPING
    ]
    if others:
        drafts[0].warnings.append(
            f"not read, for they are runs of no tool that is known: {', '.join(dict.fromkeys(others))}"
        )
    return found[0][1], drafts
