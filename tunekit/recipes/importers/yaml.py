"""YAML as the trainers read it: ``1e-4`` is a number, dates are text, and every key has its line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.recipes.importers.source import Entry, WrittenFloat

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_NODES = 100_000
"""Values of one file, those that anchors repeat counted again: a few lines of them can stand for billions."""
FLOAT = re.compile(
    r"[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9_]+([eE][-+]?[0-9]+)?"
    r"|\.(inf|Inf|INF))|\.(nan|NaN|NAN)"
)
TAB = re.compile(r"[ ]*\t[ \t]*(?=#|$)", re.MULTILINE)


def parse_yaml(text: str, name: str) -> tuple[tuple[Entry, ...], dict[str, int]]:
    """The keys of a YAML file and the lines of those inside its tables (dotted). Raises TunekitError."""
    try:
        import yaml
    except ImportError:
        raise TunekitError(f"{name}: PyYAML is needed to read YAML", "pip install pyyaml") from None
    try:
        loader = _loader_class(yaml)(TAB.sub(" ", text) if "\t" in text else text)
        node = loader.get_single_node()
        if node is None:
            return (), {}
        if not isinstance(node, yaml.MappingNode):
            raise TunekitError(f"{name}: it holds no keys with values")
        lines = dict(_lines(node, ""))
        repeated = [(key.value, key.start_mark.line + 1) for key, _ in node.value]
        table = plain_value(loader.construct_document(node))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name} line {mark.line + 1}" if mark else name
        problem = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise TunekitError(f"{where}: not valid YAML: {problem}") from error
    except (RecursionError, ValueError, OverflowError) as error:
        raise TunekitError(f"{name}: not valid YAML: {error or 'it is nested too deep'}") from error
    last = dict(repeated)
    return tuple(Entry(str(key), value, last.get(key)) for key, value in table.items()), lines


def plain_value(value: Any) -> Any:
    """A value of YAML as JSON could hold it: bytes and other types of its own become text, sets lists."""
    if isinstance(value, dict):
        return {str(key): plain_value(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain_value(inner) for inner in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def _loader_class(yaml: Any) -> Any:
    """PyYAML's safe loader with the numbers of YAML 1.2, and without its dates."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Kept apart from PyYAML's own class, which others use."""

    skipped = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float")
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in skipped]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    pattern = re.compile(f"(?:{FLOAT.pattern})$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", pattern, list("-+0123456789."))
    Loader.add_constructor("tag:yaml.org,2002:float", _float_of)
    return Loader


def _float_of(loader: Any, node: Any) -> Any:
    text = str(loader.construct_scalar(node))
    return WrittenFloat(text.replace(".inf", "inf").replace(".nan", "nan")) if text.strip(".").isascii() else text


def _lines(node: Any, prefix: str, counted: list[int] | None = None) -> Iterator[tuple[str, int]]:
    """The line of each key, from 1, of nested ones dotted. Raises ValueError where there are too many."""
    counted = [0] if counted is None else counted
    counted[0] += 1
    if counted[0] > MOST_NODES:
        raise ValueError("it holds too many values")
    if node.id == "mapping":
        for key, value in node.value:
            name = f"{prefix}{key.value if isinstance(key.value, str) else '?'}"
            yield name, key.start_mark.line + 1
            yield from _lines(value, f"{name}.", counted)
    elif node.id == "sequence":
        for place, value in enumerate(node.value):
            yield f"{prefix}{place}", value.start_mark.line + 1
            yield from _lines(value, f"{prefix}{place}.", counted)
