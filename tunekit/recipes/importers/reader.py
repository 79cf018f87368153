"""Read another tool's file: YAML, TOML, JSON, a shell script, a Python script; nothing of it is executed."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.files import line_of, parse_json, parse_toml, path_of, settings_text, shortened
from tunekit.recipes.importers.launchers import take_off_launchers
from tunekit.recipes.importers.shell import Call, read_script
from tunekit.recipes.importers.source import KeyEntry, Origin, typed_word
from tunekit.recipes.importers.yaml import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTINGS = (".yaml", ".yml", ".json", ".toml")
CONFIGS = ("config", "config_file", "config_path", "cfg")
"""Flags of a call that name a file of settings."""
SUBCOMMAND = re.compile(r"[a-z][a-z0-9_-]*")
ASSIGNED = re.compile(r"\+{0,2}([A-Za-z_][A-Za-z0-9_.]*)=(.*)", re.DOTALL)


def read_sources(word: str) -> list[Origin]:
    """What stands in a file, or for ``-`` on standard input: one source, or of a script one for each command.

    Raises TunekitError, with the file and the line, where it cannot be read.
    """
    if word == "-":
        return _sources(sys.stdin.read(), None, Path())
    path = path_of(word)
    return _sources(_text_of(path), path, path.parent)


def read_keys(path: Path) -> tuple[tuple[KeyEntry, ...], dict[str, int]]:
    """The keys of a YAML, TOML or JSON file, and the lines of those inside its tables. Raises TunekitError."""
    return _settings(_text_of(path), path.suffix.lower(), str(path))


def _text_of(path: Path) -> str:
    return settings_text(path).removeprefix("\ufeff")


def _sources(text: str, path: Path | None, folder: Path) -> list[Origin]:
    kind = path.suffix.lower() if path else ""
    if kind not in (*SETTINGS, ".sh", ".bash", ".py"):
        kind = _guessed(text)
    if kind == ".py":
        return [Origin((), (), folder, path, text=text)]
    if kind in SETTINGS:
        entries, lines = _settings(text, kind, str(path or "standard input"))
        return [Origin((), entries, folder, path, text=text, lines=lines)]
    calls = read_script(text)
    if not calls:
        raise TunekitError(f"{path or 'standard input'}: no command and no setting is in it")
    return [_of_call(call, path, folder, text) for call in calls]


def _guessed(text: str) -> str:
    """What kind of file a text is, as the ending of its name."""
    if text.lstrip().startswith("{"):
        return ".json"
    if re.search(r"^(from|import) \w+", text, re.MULTILINE) and "(" in text:
        return ".py"
    if not text.startswith("#!"):
        with contextlib.suppress(TunekitError):
            return ".toml" if parse_toml(text, "") else ".sh"
    keys = len(re.findall(r"^[A-Za-z_][\w.-]*[ \t]*:([ \t]|$)", text, re.MULTILINE))
    flags = len(re.findall(r"(^|\s)--[A-Za-z]", text))
    return ".yaml" if keys > flags else ".sh"


def _settings(text: str, kind: str, name: str) -> tuple[tuple[KeyEntry, ...], dict[str, int]]:
    if kind in (".yaml", ".yml"):
        return parse_yaml(text, name)
    if kind == ".toml":
        table = parse_toml(text, name, _float)
        lines = {key: line_of(text, key) for key in table}
        for head, inner in table.items():
            for key in inner if isinstance(inner, dict) else ():
                lines[f"{head}.{key}"] = line_of(text, key, head)
        return tuple(KeyEntry(key, value, lines[key]) for key, value in table.items()), lines
    try:
        table = parse_json(text)
    except ValueError as error:
        raise TunekitError(f"{name}: not valid JSON: {shortened(str(error), 200)}") from error
    if not isinstance(table, dict):
        raise TunekitError(f"{name}: it holds no keys with values")
    return tuple(KeyEntry(key, value, _json_line(text, key)) for key, value in table.items()), {}


def _float(text: str) -> Any:
    number = typed_word(text)
    return number if isinstance(number, float) else float(text.replace("_", ""))


def _json_line(text: str, key: str) -> int | None:
    place = text.find(json.dumps(key, ensure_ascii=False))
    return text.count("\n", 0, place) + 1 if place >= 0 else None


def _of_call(call: Call, path: Path | None, folder: Path, text: str) -> Origin:
    launched = take_off_launchers(call.words, call.env)
    folder = folder / call.folder if call.folder and "$" not in call.folder else folder
    program, rest = _program(launched.words or list(call.words))
    entries, unread, lines = _arguments(rest, folder)
    return Origin(
        program,
        tuple(entries),
        folder,
        path,
        dict(call.env) | launched.env,
        launched.world,
        (*call.unread, *unread),
        text,
        call.line,
        launched.options,
        lines,
    )


def _program(words: Sequence[tuple[str, int]]) -> tuple[tuple[str, ...], Sequence[tuple[str, int]]]:
    """The program with the words that choose what it does, and the rest."""
    name = words[0][0]
    if name.startswith("-"):  # flags alone, as guides show them
        return (), words
    first = name if name.endswith((".py", ".sh")) else name.rpartition("/")[2]
    end = 1
    if not first.endswith((".py", ".sh")):
        while end < len(words) and end < 3 and SUBCOMMAND.fullmatch(words[end][0]):
            end += 1
    return (first, *(word for word, _ in words[1:end])), words[end:]


def _arguments(words: Sequence[tuple[str, int]], folder: Path) -> tuple[list[KeyEntry], list[str], dict[str, int]]:
    """Flags with their words, ``key=value`` words, and the keys of the files of settings that are named."""
    settings: list[KeyEntry] = []
    own: list[KeyEntry] = []
    unread: list[str] = []
    lines: dict[str, int] = {}
    for flag, values, line in _grouped(words):
        if flag and flag not in CONFIGS:
            typed = [typed_word(value) for value in values]
            own.append(KeyEntry(flag, typed[0] if len(typed) == 1 else typed or True, line))
            continue
        for word in values:
            if word.lower().endswith(SETTINGS):
                try:
                    found, inside = read_keys(_beside(word, folder))
                except TunekitError as error:
                    unread.append(f"line {line}: {error.message}")
                    continue
                settings += found
                lines |= inside
            elif assigned := ASSIGNED.fullmatch(word):
                own.append(KeyEntry(assigned[1], typed_word(assigned[2]), line))
            elif flag:
                own.append(KeyEntry(flag, typed_word(word), line))
            else:
                unread.append(f"line {line}: the word {shortened(word)} belongs to no flag")
    return [*settings, *own], unread, lines


def _beside(word: str, folder: Path) -> Path:
    path = path_of(word)
    return path if path.is_absolute() else folder / path


def _grouped(words: Sequence[tuple[str, int]]) -> list[tuple[str | None, list[str], int]]:
    """Each flag (None: the words before the first) with its words and its line."""
    groups: list[tuple[str | None, list[str], int]] = []
    for word, line in words:
        found = re.fullmatch(r"--?([A-Za-z][\w.-]*)(?:=(.*))?", word, re.DOTALL)
        if found:
            value = [] if found[2] is None else [found[2]]
            groups.append((found[1].replace("-", "_"), value, line))
        elif groups:
            groups[-1][1].append(word)
        else:
            groups.append((None, [word], line))
    return groups
