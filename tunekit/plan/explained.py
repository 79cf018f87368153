"""One flag or option: what it takes, where it begins, what tunekit makes of it and why, its names in other tools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError, did_you_mean
from tunekit.plan.options import ACCUMULATION, OPTIONS, RESERVED, WHOLE, WORDS
from tunekit.plan.renamed import RENAMED, renamed_hint
from tunekit.plan.rules.table import RULES
from tunekit.plan.settings import text
from tunekit.stages import STAGES

if TYPE_CHECKING:
    from tunekit.plan.flags import FlagTable
    from tunekit.plan.options import Option
    from tunekit.plan.presets.shelf import Library

DECIDED_LATE = {
    "learning_rate": "1e-4, in full 1e-5",
    "max_length": "the model's",
    "torch_dtype": "the model's",
    "model_type": "by the model",
    "template": "by the model",
    ACCUMULATION: "ceil(16 ÷ (micro-batch × processes))",
}
"""Defaults that ms-swift 4.6 decides as it starts (sft_args.py, model_args.py, trainers/arguments.py)."""

SOLVED = {
    "per_device_train_batch_size": "the largest that fits and divides the effective batch; with a preset, its own",
    ACCUMULATION: "solved, so that the effective batch is held; one that is given says how large it is to be",
}
"""What tunekit computes, and no preset says."""


@dataclass(frozen=True)
class Use:
    """What tunekit makes of a flag in one place: a preset, a stage, a rule; `value` is empty where it depends."""

    value: str
    where: str
    why: str


@dataclass(frozen=True)
class KnownFlag:
    """All that is known of one flag of ms-swift, or of one option of tunekit.

    Attributes:
        kind: ``int``, ``float``, ``bool``, ``str`` or ``list``, as ms-swift reads it.
        default: ms-swift's; empty where that is nothing.
        commands: of ms-swift that take it; none for what is tunekit's alone.
        options: other names of it in tunekit, each with its line of help.
        reserved: why tunekit sets it alone; empty where it may be given.
        uses: what tunekit makes of it.
        elsewhere: what other tools, and earlier ms-swift, call it; each with the tools.
    """

    name: str
    kind: str
    choices: tuple[str, ...]
    default: str
    commands: tuple[str, ...]
    options: dict[str, str]
    reserved: str
    uses: tuple[Use, ...]
    elsewhere: dict[str, tuple[str, ...]]


def explain_flag(name: str, flags: FlagTable, library: Library) -> KnownFlag:
    """All that is known of a flag or an option by its exact name.

    Raises TunekitError with what it is called today, or the closest names.
    """
    known = flags.by_command["rlhf"]
    option = OPTIONS.get(name)
    if name not in known and option is None:
        hint = renamed_hint(name) or did_you_mean(name, names_of(flags), "--")
        raise TunekitError(f"{name} is neither a flag of ms-swift {flags.version} nor an option of tunekit", hint)
    flag = known.get(name)
    return KnownFlag(
        name,
        flag.kind if flag else _kind(option),
        flag.choices if flag else (option.choices or tuple(option.means or ()) if option else ()),
        DECIDED_LATE.get(name, flag.default) if flag else "",
        tuple(command for command, taken in flags.by_command.items() if name in taken),
        {row.spelled: row.help for row in OPTIONS.values() if name in (row.name, row.flag)},
        RESERVED[name][0] if name in RESERVED else "",
        (*_presets(name, library), *_rules(name)),
        _elsewhere(name),
    )


def names_of(flags: FlagTable, word: str = "") -> list[str]:
    """Flags and options whose own name, or name in another tool, is `word`, or else holds it; all where it is empty."""
    known = {*flags.by_command["rlhf"], *OPTIONS}
    if word in known:
        return [word]
    exact = {name.replace("-", "_") for row in RENAMED if word == row.name for name in row.now}
    parts = {name.replace("-", "_") for row in RENAMED if word in row.name for name in row.now} if word else set()
    return sorted(exact or {name for name in known if word in name} | parts)


def _kind(option: Option | None) -> str:
    kinds = {WHOLE: "int", WORDS: "list"}
    return kinds.get(option.kind, "str") if option else "str"


def _presets(name: str, library: Library) -> list[Use]:
    """What presets and stages say, those of one value in one row."""
    presets, _ = library.sound()
    stages = [library.load_stage(stage) for stage in STAGES]
    rows: dict[tuple[str, str], list[str]] = {}
    whys: dict[tuple[str, str], str] = {}
    for kind, parts in (("preset", presets), ("stage", stages)):
        for part in parts:
            if setting := part.train.get(name):
                key = kind, text(setting.value)
                rows.setdefault(key, []).append(part.name)
                whys[key] = whys.get(key) or setting.why
    solved = [Use("", "batch", SOLVED[name])] if name in SOLVED else []
    return solved + [
        Use(value, f"{kind} {', '.join(names)}", whys[kind, value]) for (kind, value), names in rows.items()
    ]


def _rules(name: str) -> list[Use]:
    found = []
    for rule in RULES:
        if name in rule.change:
            value = rule.change[name]
            shown = "dropped" if value is None else "" if callable(value) else text(value)
            found.append(Use(shown, f"rule {rule.id}", rule.why))
    return found


def _elsewhere(name: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for row in RENAMED:
        if name in (now.replace("-", "_") for now in row.now):
            found[row.name] = tuple(dict.fromkeys((*found.get(row.name, ()), *row.tools)))
    return found
