"""Read the flags of the installed ms-swift from its source: no import, so no torch and no seconds lost.

They are the fields of dataclasses that inherit from one another and from those of transformers: their files are parsed,
and Python's method resolution order, on empty stand-in classes, says which definition of a field wins.
"""

from __future__ import annotations

import ast
import contextlib
import json
import zlib
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.engine.locate import Installation, find_engine, find_package
from tunekit.errors import TunekitError
from tunekit.files import cache_folder, keep_answer
from tunekit.plan.flags import Flag, FlagTable

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

SNAPSHOT = Path(__file__).with_name("flags-4.6.0.json")
"""The flags of ms-swift 4.6.0, used where ms-swift is not installed. ``scripts/snapshots`` writes it."""

ARGUMENT_CLASSES = {
    "sft": ("swift.arguments.sft_args", "SftArguments"),
    "pt": ("swift.arguments.pretrain_args", "PretrainArguments"),
    "rlhf": ("swift.arguments.rlhf_args", "RLHFArguments"),
}
"""Where ms-swift declares what each command that trains takes."""

AFTER_CLASSES = {
    "infer": ("swift.arguments.infer_args", "InferArguments"),
    "export": ("swift.arguments.export_args", "ExportArguments"),
    "eval": ("swift.arguments.eval_args", "EvalArguments"),
    "deploy": ("swift.arguments.deploy_args", "DeployArguments"),
}
"""The same of the commands that use what was trained: a table of their own, for a flag of these is none of a run."""

BASES = ("transformers", "trl")
"""Packages whose dataclasses those of ms-swift inherit from."""


def flag_table(classes: Mapping[str, tuple[str, str]] = ARGUMENT_CLASSES) -> FlagTable:
    """The flags of the installed ms-swift (cached by its state and that of `BASES`), or of the shipped snapshot.

    `classes` are those of the commands: `ARGUMENT_CLASSES` or `AFTER_CLASSES`.
    """
    engine = find_engine()
    if engine is None:
        return _load(SNAPSHOT, classes)
    family = "after" if classes is AFTER_CLASSES else "flags"
    cached = cache_folder() / f"{family}-{engine.version}-{_state(engine)}.json"
    try:
        return _load(cached, classes)
    except (OSError, ValueError, KeyError):  # not cached yet, or written by another version of tunekit
        table = read_flags(engine, classes)
        keep_answer(cached, to_json(table))  # without it a call costs 0.2 s more, nothing else
        return table


def _state(engine: Installation) -> str:
    """What tells one ms-swift with its `BASES` from another: the fields of both are its flags."""
    others = [root / "__init__.py" for name in BASES if (root := find_package(name))]
    marks = [
        (str(path), state.st_mtime_ns, state.st_size) for path, state in _states(engine.root / "version.py", *others)
    ]
    return f"{zlib.crc32(json.dumps(marks).encode()):08x}"


def _states(*paths: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in paths:
        with contextlib.suppress(OSError):
            yield path, path.stat()


def _load(path: Path, classes: Mapping[str, tuple[str, str]]) -> FlagTable:
    """The table in a file, which is read again only after a change: one run asks several times."""
    state = path.stat()
    return _remembered(path, (state.st_ino, state.st_size, state.st_mtime_ns), tuple(classes))


@lru_cache(maxsize=4)
def _remembered(path: Path, _state: tuple[int, ...], commands: tuple[str, ...]) -> FlagTable:
    document = json.loads(path.read_text(encoding="utf-8"))
    return from_json(document, installed=path != SNAPSHOT, commands=commands)


def read_flags(engine: Installation, classes: Mapping[str, tuple[str, str]] = ARGUMENT_CLASSES) -> FlagTable:
    """Parse the argument files of ms-swift; raises TunekitError where they are not laid out as in 4.x."""
    commands: dict[str, dict[str, Flag]] = {}
    for command, (module, name) in classes.items():
        fields: dict[str, Flag] = {}
        for part in reversed(_stand_in(module, name).__mro__):
            fields |= vars(part).get("_flags", {})
        if "model" not in fields or (command in ARGUMENT_CLASSES and "output_dir" not in fields):
            hint = 'pip install "ms-swift>=4.6,<5"'
            raise TunekitError(f"the flags of ms-swift {engine.version} could not be read", hint)
        commands[command] = dict(sorted(fields.items()))
    return FlagTable(engine.version, installed=True, by_command=commands)


def to_json(*tables: FlagTable) -> dict[str, Any]:
    """Tables of one version as JSON: every flag once for each of its meanings, and which commands take it so."""
    takers: dict[Flag, list[str]] = {}
    for table in tables:
        for command, flags in table.by_command.items():
            for flag in flags.values():
                takers.setdefault(flag, []).append(command)
    rows = [
        [flag.name, flag.kind, flag.choices, flag.optional, commands, flag.default] for flag, commands in takers.items()
    ]
    return {"version": tables[0].version, "flags": sorted(rows, key=lambda row: (row[0], row[4]))}


def from_json(
    document: dict[str, Any], *, installed: bool, commands: Iterable[str] = tuple(ARGUMENT_CLASSES)
) -> FlagTable:
    """The table that `to_json` wrote, for those `commands`."""
    tables: dict[str, dict[str, Flag]] = {command: {} for command in commands}
    for name, kind, choices, optional, takers, default in document["flags"]:
        flag = Flag(name, kind, tuple(choices), optional, default)
        for command in tables.keys() & set(takers):
            tables[command][name] = flag
    return FlagTable(document["version"], installed, tables)


@cache
def _module(name: str) -> ast.Module | None:
    path = _module_path(name)
    return ast.parse(path.read_text(encoding="utf-8")) if path else None


def _module_path(name: str) -> Path | None:
    top, *rest = name.split(".")
    folder = find_package(top)
    if folder is None:
        return None
    base = folder.joinpath(*rest)
    candidates = [*([base.with_suffix(".py")] if rest else []), base / "__init__.py"]
    return next((path for path in candidates if path.is_file()), None)


@cache
def _class(module: str, name: str) -> tuple[str, ast.ClassDef] | None:
    """The definition of a class as `module` sees it, and the module that holds it; imports are followed."""
    tree = _module(module)
    if tree is None:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _class(_absolute(module, node), alias.name)
    return None


@cache
def _stand_in(module: str, name: str) -> type:
    """An empty class with the same bases as `module.name`, and its flags in ``_flags``."""
    found = _class(module, name)
    if found is None:  # a base from elsewhere (ABC, Protocol) that declares no flag
        return type(name, (), {})
    home, node = found
    bases = tuple(_stand_in(home, base.id) for base in node.bases if isinstance(base, ast.Name))
    flags = {
        item.target.id: replace(_flag(item.target.id, item.annotation, home), default=_default(item.value, home))
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }
    return type(name, bases or (object,), {"_flags": flags})


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    path = _module_path(module)
    package = module.split(".") if path and path.name == "__init__.py" else module.split(".")[:-1]
    parent = package[: len(package) - node.level + 1]
    return ".".join([*parent, node.module] if node.module else parent)


def _flag(name: str, annotation: ast.expr, module: str) -> Flag:
    members = _members(annotation)
    optional = members.pop("None", None) is not None
    if "str" in members and len(members) > 1:  # as transformers' HfArgumentParser reads a union
        alone = len(members) == 2 and not optional
        members = {text: member for text, member in members.items() if (text != "str") is alone}
    kinds = {_kind(member) for member in members.values()}
    kind = kinds.pop() if len(kinds) == 1 else "str"  # of other unions ms-swift takes a word and reads it itself
    words = [_words(member, module) for member in members.values()]
    choices = sum(words, ()) if kind == "str" and all(words) else ()
    return Flag(name, kind, choices, optional)


def _default(value: ast.expr | None, module: str) -> str:
    """The words that a field begins with; empty where that is nothing, or decided as ms-swift starts."""
    if isinstance(value, ast.Call) and _name(value.func) == "field":
        given = {word.arg: word.value for word in value.keywords}
        factory = given.get("default_factory")
        return _default(factory.body if isinstance(factory, ast.Lambda) else given.get("default"), module)
    with contextlib.suppress(ValueError):
        found = ast.literal_eval(value) if value else None
        words = found if isinstance(found, (list, tuple)) else [] if found is None else [found]
        return " ".join(str(word).lower() if isinstance(word, bool) else str(word) for word in words)
    if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name):  # IntervalStrategy.STEPS
        members = _class(module, value.value.id)
        for item in members[1].body if members else ():
            if isinstance(item, ast.Assign) and _name(item.targets[0]) == value.attr:
                return _default(item.value, module)
    return ""


def _words(member: ast.expr, module: str) -> tuple[str, ...]:
    """The words that a ``Literal[…]`` or an enumeration allows; none for any other type."""
    if isinstance(member, ast.Subscript) and _name(member.value) == "Literal":
        items = member.slice.elts if isinstance(member.slice, ast.Tuple) else [member.slice]
    elif isinstance(member, ast.Name) and (found := _class(module, member.id)):
        items = [item.value for item in found[1].body if isinstance(item, ast.Assign)]
    else:
        return ()
    return tuple(str(item.value) for item in items if isinstance(item, ast.Constant) and item.value is not None)


def _members(annotation: ast.expr) -> dict[str, ast.expr]:
    """The alternatives of a type: of ``Optional[X]``, ``Union[X, Y]`` and ``X | Y``; else the type alone."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if isinstance(annotation, ast.BinOp):
        return _members(annotation.left) | _members(annotation.right)
    if isinstance(annotation, ast.Subscript) and _name(annotation.value) in ("Optional", "Union"):
        inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        members = {text: member for item in inner for text, member in _members(item).items()}
        return members | ({"None": ast.Constant(None)} if _name(annotation.value) == "Optional" else {})
    return {ast.unparse(annotation): annotation}


def _kind(member: ast.expr) -> str:
    if isinstance(member, ast.Constant) and member.value is None:
        return "None"
    name = _name(member.value if isinstance(member, ast.Subscript) else member)
    return {"int": "int", "float": "float", "bool": "bool", "List": "list", "list": "list"}.get(name, "str")


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
