"""Measure the package: lines, files, circles of files, long functions, names that stand twice, the work of a dry run.

    python scripts/house.py [TREE] [--dry-run]

TREE is a checkout, this one where none is named: so two states can be compared. The limits are in tests/test_house.py.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

Modules = dict[str, ast.Module]
CALL = ("sft", "--model", "Qwen2.5-7B", "--dataset", "data.jsonl", "--gpus", "80GB", "--dry-run")


def read(package: Path) -> Modules:
    """Every module of a package by its dotted name; a folder's ``__init__`` bears the folder's."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


def imported(tree: ast.AST) -> set[str]:
    """Every name that a file imports, those inside functions and for types only included."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where they lead"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def home(name: str, modules: Modules) -> str:
    """The module in which a dotted name stands; empty for what is not of the package."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def arrows(modules: Modules) -> dict[str, set[str]]:
    """The modules of the package that each one imports."""
    return {module: {home(name, modules) for name in imported(tree)} - {""} for module, tree in modules.items()}


def circles(lines: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """The groups of modules that reach each other, each once."""
    reach = {}
    for start in lines:
        seen: set[str] = set()
        ahead = set(lines[start])
        while ahead:
            seen |= ahead
            ahead = set().union(*(lines[name] for name in ahead)) - seen
        reach[start] = seen
    return sorted({tuple(sorted(n for n in reach[name] if name in reach[n])) for name in lines if name in reach[name]})


def lengths(modules: Modules) -> dict[str, int]:
    """The lines of each function, from its ``def`` to its end: ``{"tunekit.plan.batch:solve_batch": 20}``."""
    return {
        f"{module}:{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for module, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def doubles(modules: Modules) -> dict[str, list[str]]:
    """The public functions and classes whose name stands in several modules, and in which."""
    places: dict[str, list[str]] = {}
    for module, tree in modules.items():
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        for name in dict.fromkeys(node.name for node in tree.body if isinstance(node, kinds)):
            places.setdefault(name, []).append(module)
    return {name: found for name, found in sorted(places.items()) if len(found) > 1 and name[0] != "_"}


def dry_run(tree: Path) -> Counter[str]:
    """The work of one dry run: calls are counted where they happen, whoever imported or wrapped the functions."""
    counted: Counter[str] = Counter()
    files: set[object] = set()
    names: Counter[str] = Counter()
    peaks: set[object] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        nonlocal peaks
        place, name = frame.f_code.co_filename, frame.f_code.co_name
        if event != "call" or "/tunekit/" not in place:
            return
        if name == "read_toml" and "presets" in str(file := next(iter(frame.f_locals.values()))):
            counted["preset files read"] += 1
            files.add(file)
        counted["memory estimates"] += place.endswith("/memory/estimate.py") and name == "estimate"
        if "/plan/" in place and name in ("_peak", "peak_of"):
            names[name] += 1
            peaks |= {tuple(frame.f_locals.values())} if name == "_peak" else set()

    sys.path.insert(0, str(tree))
    from tunekit.__main__ import main

    sys.argv = ["tunekit", *CALL]
    nowhere = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(TUNEKIT_CONFIG=folder, TUNEKIT_CACHE=folder)
        os.chdir(folder)
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            sys.setprofile(note)
            try:
                main()
            except SystemExit as ended:
                failed = ended.code
            finally:
                sys.setprofile(None)
    assert not failed, nowhere.getvalue()
    counted["different preset files"] = len(files)
    counted["different peaks"] = len(peaks)
    counted["peaks computed"] = names["_peak"] or names["peak_of"]  # older trees computed one at each call
    return counted


def main() -> None:
    """Print the counts of a tree."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tree", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--dry-run", action="store_true", help="count the work of one dry run too")
    asked = parser.parse_args()
    package = asked.tree.resolve() / "tunekit"
    modules = read(package)
    sizes = lengths(modules)
    lines = sum(path.read_text(encoding="utf-8").count("\n") for path in package.rglob("*.py"))
    print(f"{lines} lines, {len(modules)} files, {len(sizes)} functions")
    for title, found in {
        "circles of files": [" ".join(circle) for circle in circles(arrows(modules))],
        "functions over 60 lines": [f"{name} {size}" for name, size in sizes.items() if size > 60],
        "functions of 51 to 60 lines": [f"{name} {size}" for name, size in sizes.items() if 50 < size <= 60],
        "public names that stand twice": [f"{name}: {' '.join(at)}" for name, at in doubles(modules).items()],
    }.items():
        print(f"{title}: {len(found)}", *found, sep="\n    ")
    if asked.dry_run:
        for what, count in sorted(dry_run(asked.tree.resolve()).items()):
            print(f"{what}: {count}")


if __name__ == "__main__":
    main()
