"""Functions of the user's own, named as ``file.py:function``: found and looked at without running any of their code.

A reward scores responses, ``(prompts, responses, **columns) -> list[float]``; a format turns one row of the user's
dataset into one of ms-swift's, ``(row) -> row``.
"""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from tunekit.errors import TunekitError, closest, did_you_mean
from tunekit.files import path_of, read_bytes

REWARD, FORMAT = "reward", "format"
EXAMPLES = {
    REWARD: "def {name}(prompts, responses, **columns): return [a number for each response]",
    FORMAT: 'def {name}(row): return {{"messages": [{{"role": "user", "content": row["…"]}}, …]}}',
}
"""What a function of each kind looks like, for hints."""

POSITIONAL = {REWARD: 2, FORMAT: 1}
"""How many values each kind is called with, in order; all others are named."""


@dataclass(frozen=True)
class Function:
    """A function of the user's."""

    file: str  # as typed, with .py; a relative one begins in the folder where the run was started
    name: str
    alias: str = ""  # what ms-swift calls it; the name, where that is free

    @property
    def spec(self) -> str:
        """As the user types it."""
        return f"{self.file}:{self.name}"


@dataclass(frozen=True)
class Signature:
    """What a function takes beside its positional values."""

    line: int  # of its file, where it is defined
    needed: tuple[str, ...] = ()  # names without a default
    known: bool = True  # False where it is not written down in its file: it is imported, or made by a call


LONGEST = 2**22
"""Bytes of a file of functions."""


def is_function(word: str) -> bool:
    """Whether a word names a function in a file, and not something that ms-swift brings."""
    return ":" in word or word.endswith(".py")


def find_function(spec: str, kind: str) -> Function:
    """The function that ``file.py:function`` names. A module's name as in ``src.rewards:score`` is understood too.

    Raises TunekitError where there is no such file or function, or it cannot be called as `kind` is.
    """
    file, name = _split(spec, kind)
    function = Function(file, name, name)
    signature(function, kind)
    return function


def signature(function: Function, kind: str) -> Signature:
    """What a function takes, read from its file. Raises TunekitError as `find_function`."""
    tree = _parse(function.file)
    found = next((node for node in reversed(tree.body) if function.name in _names(node)), None)
    example = EXAMPLES[kind].format(name=function.name)
    if found is None:
        hint = did_you_mean(function.name, _functions(tree), f"{function.file}:") or _listed(function.file, tree)
        raise TunekitError(f"{function.file} has no function {function.name}", hint)
    where = f"{function.file} line {found.lineno}: {function.name}"
    if isinstance(found, (ast.AsyncFunctionDef, ast.ClassDef)):
        what = "a class" if isinstance(found, ast.ClassDef) else "async"
        raise TunekitError(f"{where} is {what}; a {kind} is a plain function", example)
    if not isinstance(found, ast.FunctionDef):
        return Signature(found.lineno, known=False)
    takes = found.args
    positional = [argument.arg for argument in (*takes.posonlyargs, *takes.args)]
    wanted = POSITIONAL[kind]
    if kind == REWARD and positional[:1] in (["completions"], ["responses"]):
        raise TunekitError(f"{where} begins with {positional[0]}; a reward gets the prompts first", example)
    if len(positional) < wanted and takes.vararg is None:
        raise TunekitError(f"{where} takes ({', '.join(positional)}); a {kind} is called with {wanted}", example)
    needed = positional[wanted : len(positional) - len(takes.defaults)]
    pairs = zip(takes.kwonlyargs, takes.kw_defaults, strict=True)
    needed += [argument.arg for argument, default in pairs if default is None]
    if kind == FORMAT and needed:
        raise TunekitError(f"{where} needs {', '.join(needed)}; a format is called with the row alone", example)
    return Signature(found.lineno, tuple(needed))


def named_apart(functions: list[Function], taken: set[str]) -> list[Function]:
    """`functions` with aliases that differ from each other and from the names that are `taken`."""
    apart: dict[str, Function] = {}
    for function in functions:
        file, name = function.file, function.name
        stem = re.sub(r"\W", "_", Path(file).stem)
        aliases = chain((name, f"{stem}_{name}"), (f"{name}_{number}" for number in count(2)))
        alias = next(alias for alias in aliases if alias not in taken and alias not in apart)
        apart[alias] = Function(file, name, alias)
    return list(apart.values())


def _split(spec: str, kind: str) -> tuple[str, str]:
    """File and function of ``file.py:function``."""
    file, colon, name = spec.rpartition(":")
    if not colon:
        file, name = spec, ""
    path = path_of(file)
    module = Path(file.replace(".", "/") + ".py")
    if path.suffix != ".py" and "/" not in file and module.is_file():
        path = module
    if not path.is_file():
        near = closest(path.name, [item.name for item in path.parent.glob("*.py")])
        hint = f"did you mean {path.parent / near[0]}:{name or 'FUNCTION'}?" if near else None
        raise TunekitError(f"the {kind} {spec}: there is no file {path}", hint or "write FILE.py:FUNCTION")
    if not name:
        raise TunekitError(f"{spec} names a file; the function is missing", _listed(str(path), _parse(str(path))))
    return str(path), name


def _parse(file: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(read_bytes(Path(file), LONGEST), filename=file)
    except (RecursionError, MemoryError):
        raise TunekitError(f"{file} is no Python that can be read: it is nested too deep") from None
    except FileNotFoundError:
        raise TunekitError(f"there is no file {file}", "write FILE.py:FUNCTION") from None
    except OSError as error:
        raise TunekitError(f"{file} cannot be read: {error.strerror}") from error
    except SyntaxError as error:
        raise TunekitError(f"{file} line {error.lineno}: {error.msg}", "python -m py_compile FILE shows it") from error
    except ValueError as error:  # null bytes, before Python 3.12
        raise TunekitError(f"{file} is no Python: {error}") from error


def _names(node: ast.stmt) -> list[str]:
    """What a statement at the top of a file defines."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def _functions(tree: ast.Module) -> list[str]:
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]


def _listed(file: str, tree: ast.Module) -> str:
    names = _functions(tree)
    return f"it has {', '.join(f'{file}:{name}' for name in names)}" if names else f"there is no function in {file}"
