"""Datasets by name: those of ``datasets.toml``, of LLaMA-Factory's ``dataset_info.json``, and of ms-swift itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import Exit, TunekitError, did_you_mean
from tunekit.files import line_of, path_of, read_json, read_toml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULTS = ("datasets.toml", "dataset_info.json", "data/dataset_info.json")
"""Where names are looked for where no option says so: LLaMA-Factory keeps its table in ``data``."""

KEYS = ("path", "id", "format", "columns", "tags", "images", "ratio", "samples", "note")
"""What a table of ``datasets.toml`` may say."""

FORMATS = ("messages", "sharegpt", "alpaca", "query", "preferences", "text")

COLUMN_OF: Mapping[str, str] = {
    "prompt": "query",
    "input": "input",
    "response": "response",
    "text": "response",
    "chosen": "response",
    "rejected": "rejected_response",
    "label": "label",
    **{name: name for name in ("messages", "system", "history", "images", "videos", "audios", "tools")},
}
"""What a column is, and what ms-swift calls it (dataset/preprocessor/core.py)."""

TAGS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "role": ("role_key", ("from", "role")),
    "content": ("content_key", ("value", "content")),
    "user": ("user_role", ("human", "user")),
    "assistant": ("assistant_role", ("gpt", "assistant", "bot")),
    "system": ("system_role", ("system",)),
}
"""Words of a conversation: what ms-swift's ``custom_dataset_info`` calls each, and those that it knows by itself."""

SHARE = re.compile(r"(.+):(0?\.\d+)")
SAMPLES = re.compile(r"(.+)#(\d+)")

OUTSIDE = ("script_url", "cloud_file_name", "folder")
"""Keys of LLaMA-Factory's table that ms-swift has no counterpart for."""


@dataclass(frozen=True)
class NamedDataset:
    """A dataset that a table describes.

    Attributes:
        place: its file, or its id on a hub.
        columns: its names of columns, and ms-swift's.
        messages: the words of its conversations, by ms-swift's names for them.
        images: where relative paths of its pictures begin; empty for the current folder.
        share: of its rows, those that are taken, 0 to 1; None for all.
        samples: how many are taken; None for all.
        convert: why its rows must be converted first; empty where they need not.
        where: the file and the line in which it is described.
    """

    place: str
    columns: Mapping[str, str] = field(default_factory=dict)
    messages: Mapping[str, str] = field(default_factory=dict)
    images: str = ""
    share: float | None = None
    samples: int | None = None
    convert: str = ""
    where: str = ""


@dataclass(frozen=True)
class Wanted:
    """One dataset of ``--dataset``, found: `typed` is the word without share and number.

    `hint` says what the table has, where it has none of that name and it is neither a file nor an id.
    """

    typed: str
    dataset: NamedDataset
    hint: str = ""


def find_datasets(words: Sequence[str], table: str = "") -> list[Wanted]:
    """The datasets that words such as ``a,b:0.5`` mean; files and ids stay. `table` is the file of ``--registry``.

    Raises TunekitError, with the file and the line, where a table cannot be understood.
    """
    parts = [part for word in words for part in _parted(word)]
    bare = [_bare(part) for part in parts]
    known = read_registry(table) if table or any(_unknown(name) for name, _, _ in bare) else {}
    found = []
    for name, share, samples in bare:
        dataset = known.get(name) or NamedDataset(name)
        if share is not None or samples is not None:
            dataset = replace(dataset, share=share, samples=samples)
        absent = known and name not in known and _unknown(name)
        hint = did_you_mean(name, known) or f"there are {', '.join(known)}" if absent else ""
        found.append(Wanted(name, dataset, hint))
    return found


def _parted(word: str) -> list[str]:
    if "," not in word or Path(word).exists():
        return [word]
    return [part.strip() for part in word.split(",") if part.strip()]


def _bare(word: str) -> tuple[str, float | None, int | None]:
    """A name, the share behind its ``:`` and the number behind its ``#``."""
    if Path(word).exists():
        return word, None, None
    if found := SAMPLES.fullmatch(word):
        return found[1], None, int(found[2])
    if found := SHARE.fullmatch(word):
        return found[1], float(found[2]), None
    return word, None, None


def _unknown(name: str) -> bool:
    """Whether a name is neither a file nor an id."""
    return "/" not in name and not path_of(name, Exit.DATA).exists()


def read_registry(table: str = "") -> dict[str, NamedDataset]:
    """The datasets of a table, or of the one that is found here; none where there is none. Raises TunekitError."""
    path = path_of(table) if table else next((Path(name) for name in DEFAULTS if Path(name).is_file()), None)
    if path is None:
        return {}
    if path.is_dir():
        inside = next((path / Path(name).name for name in DEFAULTS if (path / Path(name).name).is_file()), None)
        if inside is None:
            raise TunekitError(f"--registry {table}: there is no datasets.toml or dataset_info.json in it")
        path = inside
    if not path.is_file():
        raise TunekitError(f"--registry {table} does not exist", "a file such as datasets.toml or dataset_info.json")
    return _of_json(path) if path.suffix == ".json" else _of_toml(path)


def _of_toml(path: Path) -> dict[str, NamedDataset]:
    document, text = read_toml(path)
    found = {}
    for name, table in document.items():
        where = f"{path} line {line_of(text, name)}"
        if not isinstance(table, dict):
            raise TunekitError(f"{where}: {name} must be a table", f"[{name}] and below it path = …")
        for key in table:
            if key not in KEYS:
                at = f"{path} line {line_of(text, key, name)}"
                raise TunekitError(f"{at}: {key} is nothing that is said of a dataset", did_you_mean(key, KEYS))
        found[name] = _described(table, name, where, path.parent)
    return found


def _described(table: Mapping[str, Any], name: str, where: str, folder: Path) -> NamedDataset:
    place, form, share = table.get("path") or table.get("id"), table.get("format", ""), table.get("ratio")
    columns, tags, samples = table.get("columns", {}), table.get("tags", {}), table.get("samples")
    if not isinstance(place, str) or ("path" in table) == ("id" in table):
        raise TunekitError(f"{where}: {name} needs path, or id of a hub", f'[{name}] path = "rows.jsonl"')
    if form and form not in FORMATS:
        raise TunekitError(f"{where}: format takes {', '.join(FORMATS)}, not {form}", did_you_mean(str(form), FORMATS))
    if share is not None and not (isinstance(share, (int, float)) and 0 < share <= 1):
        raise TunekitError(f"{where}: ratio is a share above 0, 1 at the most, not {share}")
    if samples is not None and not (isinstance(samples, int) and samples > 0):
        raise TunekitError(f"{where}: samples is a number of rows, not {samples}")
    for key, given, known in (("columns", columns, COLUMN_OF), ("tags", tags, TAGS)):
        wrong = [word for word in given if word not in known] if isinstance(given, dict) else [str(given)]
        if wrong:
            raise TunekitError(
                f"{where}: {key} has {wrong[0]}", f'{key} = {{{next(iter(known))} = "…"}}; it takes {", ".join(known)}'
            )
    images = table.get("images", "")
    return NamedDataset(
        place=_beside(folder, place) if "path" in table else place,
        columns=_renamed(columns, alpaca=form == "alpaca"),
        messages=_spoken(tags),
        images=_beside(folder, str(images)) if images else "",
        share=share,
        samples=samples,
        where=where,
    )


def _renamed(columns: Mapping[str, Any], *, alpaca: bool = False) -> dict[str, str]:
    """What is said of columns, as ms-swift takes it: their names first."""
    names = {**COLUMN_OF, **({"prompt": "instruction", "response": "output"} if alpaca or "input" in columns else {})}
    return {str(theirs): names[role] for role, theirs in columns.items() if theirs and theirs != names[role]}


def _spoken(tags: Mapping[str, Any]) -> dict[str, str]:
    return {TAGS[tag][0]: str(word) for tag, word in tags.items() if word not in TAGS[tag][1]}


def _beside(folder: Path, name: str) -> str:
    path = path_of(name)
    return str(path if path.is_absolute() else folder / path)


def _of_json(path: Path) -> dict[str, NamedDataset]:
    try:
        document = read_json(path)
    except (OSError, ValueError) as error:
        raise TunekitError(f"{path} cannot be read as JSON: {error}", code=Exit.DATA) from None
    if not isinstance(document, dict):
        hint = "a list is ms-swift's: --custom_dataset_info FILE"
        raise TunekitError(f"{path}: LLaMA-Factory's table is an object of datasets by name", hint)
    return {name: _of_llama_factory(entry, name, path) for name, entry in document.items() if isinstance(entry, dict)}


def _of_llama_factory(entry: Mapping[str, Any], name: str, path: Path) -> NamedDataset:
    """An entry of ``dataset_info.json`` (LLaMA-Factory 0.9.5 data/parser.py)."""
    where = f"{path}: {name}"
    place, lost = _place_there(entry, path.parent), next((key for key in OUTSIDE if entry.get(key)), "")
    columns = {key: column for key, column in (entry.get("columns") or {}).items() if column}
    named = {"query": "input", "kto_tag": "label"}
    sharegpt, ranking = entry.get("formatting", "alpaca") != "alpaca", entry.get("ranking") is True
    columns = {named.get(key, key): column for key, column in columns.items() if named.get(key, key) in COLUMN_OF}
    tags = {key.removesuffix("_tag"): word for key, word in (entry.get("tags") or {}).items()}
    convert = f"ms-swift has no counterpart of {lost}" if lost or not place else ""
    if sharegpt and ranking:
        convert = "its chosen and rejected answers are objects, which ms-swift does not read"
    if entry.get("split", "train") != "train":
        convert = f"ms-swift reads the split train, not {entry['split']}"
    return NamedDataset(
        place=place,
        columns=_renamed(columns),
        messages=_spoken({key: word for key, word in tags.items() if key in TAGS}),
        samples=entry.get("num_samples"),
        convert=convert,
        where=where,
    )


def _place_there(entry: Mapping[str, Any], folder: Path) -> str:
    subset = f":{entry['subset']}" if entry.get("subset") else ""
    if entry.get("hf_hub_url"):
        return f"hf::{entry['hf_hub_url']}{subset}"
    if entry.get("ms_hub_url"):
        return f"ms::{entry['ms_hub_url']}{subset}"
    return _beside(folder, str(entry["file_name"])) if entry.get("file_name") else ""


def name_of_swift2(name: str, *, use_hf: bool = False) -> str:
    """The id today of a dataset that ms-swift 2 knew by a short name; empty where it knew none."""
    ids = read_json(Path(__file__).with_name("swift2_datasets.json")).get(name)
    return "" if ids is None else str(ids[-1] if use_hf else ids[0])
