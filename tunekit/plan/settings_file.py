"""ms-swift's own files of settings, as in ``swift sft train.yaml``: flags as keys, and variables under ``ENV``."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.files import parse_json, read_toml, settings_text
from tunekit.plan.options import OPTIONS, RECIPE, TRAIN
from tunekit.plan.said import Said, Words, gather_words
from tunekit.plan.secrets import is_secret
from tunekit.plan.settings import UNSET, Source
from tunekit.plan.variables import CARRIED, PLANNED

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MOST = 100_000
"""Values of one file; a list of datasets has a few dozen."""

VARIABLES = "ENV"
OWN = ("name", "output_dir")
"""Options that reach no further than one run, and may stand in its file."""


def read_settings(path: Path) -> Words:
    """What a file says of a run. Raises TunekitError where it is unreadable, or says what is none of a run's."""
    content, text = _content(path)
    if isinstance(content, dict) and "stage" in content and isinstance(content["stage"], list):
        raise TunekitError(f"{path} is a recipe: it has stages", f"tunekit run {path}")
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise TunekitError(f"{path} does not hold flags of ms-swift as keys", "as in: lora_rank: 8")
    env = content.pop(VARIABLES, None) or {}
    if not isinstance(env, dict):
        raise TunekitError(f"{path} line {_line(text, VARIABLES)}: {VARIABLES} must hold variables", "NAME: value")
    source = Source("file", path.name)
    said = []
    for key, value in content.items():
        name, where = key.replace("-", "_"), f"{path} line {_line(text, key)}"
        option = OPTIONS.get(name)
        if option and not (TRAIN in option.commands and (option.reach >= RECIPE or name in OWN)):
            raise TunekitError(
                f"{where}: {key} has no place in a file", f"say it on the command line: {option.spelled}"
            )
        said.append(Said(name, _words(value), where, source))
    words = gather_words(source, said)
    variables = {str(name): _word(value) for name, value in env.items()}
    for name, value in variables.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", name) or not value.isprintable():
            raise TunekitError(f"{path} line {_line(text, VARIABLES)}: {name} cannot be a variable", "NAME: value")
    return replace(words, env=variables)


def with_file(words: Words, file: Words, environ: Mapping[str, str]) -> Words:
    """`words` of the command line over those of a file, whose variables give way to those that are set already.

    What is known to be harmless of them, and no secret, goes into the plan, so that its command holds it.
    """
    notes = [
        f"{name} of {file.source.name} is not taken: the environment has it set otherwise"
        for name, value in file.env.items()
        if environ.get(name, value) != value
    ]
    taken = {name: value for name, value in file.env.items() if name not in environ}
    carried = {name: value for name, value in taken.items() if CARRIED.fullmatch(name) and not is_secret(name)}
    left = [name for name in taken if name not in carried and not PLANNED.fullmatch(name)]
    if left:
        notes.append(f"set for this call, and not kept with the run: {', '.join(left)} of {file.source.name}")
    return replace(words, said={**file.said, **words.said}, notes=(*words.notes, *notes), env=carried)


def _content(path: Path) -> tuple[Any, str]:
    if path.suffix.lower() == ".toml":
        return read_toml(path)
    text = settings_text(path)
    try:
        content = parse_json(text) if path.suffix.lower() == ".json" else _yaml(text)
        _check_size(content)
    except (ValueError, RecursionError) as error:
        raise TunekitError(f"{path}: {str(error) or 'it is nested too deep'}") from error
    return content, text


def _check_size(content: Any) -> None:
    """Raise ValueError where aliases of YAML make more of a file than it holds, or let something hold itself."""
    left, seen = [content], 0
    while left:
        item = left.pop()
        seen += 1
        if seen > MOST:
            raise ValueError("it says too much: aliases may make it endless")
        left += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()


def _yaml(text: str) -> Any:
    """What a YAML text says. Raises ValueError with the line where it is none."""
    import yaml

    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"not valid YAML{line}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError("not valid YAML: it holds a sign that no text has") from error
    except (AttributeError, LookupError) as error:  # PyYAML itself stumbles over ``!!int ""``
        raise ValueError("not valid YAML: a value is not what its tag (!!…) says") from error


def _line(text: str, key: str) -> int:
    """The line, from 1, on which a key stands."""
    pattern = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*[:=\]]|\s*\[{re.escape(key)}\]""")
    return next((number for number, line in enumerate(text.splitlines(), 1) if pattern.match(line)), 1)


def _words(value: Any) -> tuple[str, ...]:
    return tuple(_word(item) for item in value) if isinstance(value, list) else (_word(value),)


def _word(value: Any) -> str:
    """A value as ``swift`` passes it on; a table becomes JSON."""
    if value is None:
        return UNSET
    if isinstance(value, bool):
        return str(value).lower()
    return (
        json.dumps(value, ensure_ascii=False, default=str, skipkeys=True)
        if isinstance(value, (dict, list))
        else str(value)
    )
