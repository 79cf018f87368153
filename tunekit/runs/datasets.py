"""Names of datasets → what ms-swift takes: files, ids, numbers of rows, columns and where pictures lie."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.data.files import NAMED_BY_SWIFT, local_file
from tunekit.data.look import look_at
from tunekit.data.registry import find_datasets, name_of_swift2
from tunekit.errors import Exit, TunekitError
from tunekit.files import path_of, read_json
from tunekit.plan.settings import Setting, Source
from tunekit.runs.columns import convert_hint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tunekit.data.registry import NamedDataset, Wanted
    from tunekit.plan.request import Request
    from tunekit.stages import Stage

FLAGS = ("dataset", "val_dataset")
INFO, COLUMNS = "custom_dataset_info", "columns"
REGISTRY = Source("registry")
AT_ONCE = 4
"""Datasets in one word of ``--custom_dataset_info``: at more ms-swift 4.6 fails to log it (dataset/register.py)."""


def name_datasets(request: Request, *, use_hf: bool = False) -> tuple[Request, list[str]]:
    """The request with its datasets by files and ids, and what should be known of that.

    Raises TunekitError where a name, or what a table says of it, cannot be had with ms-swift.
    """
    settings = [request.typed, *reversed(request.layers)]
    where = {flag: next((found for found in settings if flag in found), None) for flag in FLAGS}
    words = {flag: _list(found[flag].value) for flag, found in where.items() if found is not None}
    info = next((_list(found[INFO].value) for found in settings if INFO in found), [])
    registered = _registered(info)
    wanted = {flag: find_datasets(some, request.registry) for flag, some in words.items()}
    every = [one for some in wanted.values() for one in some]
    notes: list[str] = []
    changed: dict[str, list[str]] = {}
    for flag, some in wanted.items():
        changed[flag] = [_word(one, request.stage, registered, notes, use_hf=use_hf) for one in some]
    more = _described(every, any(COLUMNS in found for found in settings), info)
    root = _root(every, request)
    request = replace(
        request,
        typed={**_changed(request.typed, changed), **{flag: Setting(value, REGISTRY) for flag, value in more.items()}},
        layers=tuple(_changed(layer, changed) for layer in request.layers),
        image_root=request.image_root or root,
    )
    return request, notes


def _list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [str(value)]


def _changed(settings: Mapping[str, Setting], words: Mapping[str, list[str]]) -> dict[str, Setting]:
    return {flag: replace(old, value=words[flag]) if flag in words else old for flag, old in settings.items()}


def _of_swift2(one: Wanted, use_hf: bool) -> str:
    name = one.dataset.place
    plain = "/" not in name and "." not in name and name not in NAMED_BY_SWIFT and not Path(name).exists()
    return name_of_swift2(name, use_hf=use_hf) if plain else ""


def _registered(info: Sequence[str]) -> dict[str, str]:
    """Names of ``--custom_dataset_info``, and the files and ids that they stand for."""
    found: dict[str, str] = {}
    for word in info:
        path = path_of(word) if len(word) < 4096 and word.lstrip()[:1] not in "[{" else None
        if path is None:
            continue
        try:
            entries = read_json(path)
        except (OSError, ValueError) as error:
            raise TunekitError(f"--{INFO} {word} cannot be read as JSON: {error}", code=Exit.DATA) from None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            hint = "a list of objects with dataset_path or ms_dataset_id; LLaMA-Factory's table goes with --registry"
            raise TunekitError(f"--{INFO} {word}: ms-swift takes a list", hint, Exit.DATA)
        for entry in entries:
            place = entry.get("dataset_path")
            whole = str(path.parent / path_of(place)) if isinstance(place, str) else entry.get("ms_dataset_id")
            if entry.get("dataset_name") and isinstance(whole, str):
                found[entry["dataset_name"]] = whole
    return found


def _word(one: Wanted, stage: Stage, registered: Mapping[str, str], notes: list[str], *, use_hf: bool) -> str:
    """A dataset as ms-swift takes it, with the number of its rows behind ``#``."""
    found = one.dataset
    if found.convert:
        hint = convert_hint(found.place, stage.name) if found.place else None
        raise TunekitError(f"{found.where}: {found.convert}", hint, Exit.DATA)
    place = registered.get(found.place, found.place)
    if one.hint and place == one.typed and not _of_swift2(one, use_hf) and place not in NAMED_BY_SWIFT:
        raise TunekitError(f"dataset {place} is neither a file nor in the table", one.hint, Exit.DATA)
    if today := _of_swift2(one, use_hf):
        notes.append(f"{place} is called {today} since ms-swift 3")
        place = today
    if found.share is None or found.share == 1:
        return place if found.samples is None else f"{place}#{found.samples}"
    rows = _rows_in(place, stage)
    if rows is None:
        hint = f"say how many: --dataset {place}#1000"
        raise TunekitError(f"a share of {one.typed} needs its rows to be counted, which is not so here", hint)
    return f"{place}#{max(1, round(rows * found.share))}"


def _rows_in(place: str, stage: Stage) -> int | None:
    look = look_at(place, None, stage) if local_file(place) else None
    return look.total if look else None


def _described(every: Sequence[Wanted], typed: bool, info: list[str]) -> dict[str, Any]:
    """The flags that say which columns and words the datasets have."""
    described = {one.typed: one.dataset for one in every if one.dataset.columns or one.dataset.messages}
    if not described:
        return {}
    first = next(iter(described.values()))
    if typed:
        hint = "leave --columns out, or the columns of the table"
        raise TunekitError(f"{first.where} says which columns there are, and --columns does too", hint)
    alike = len({one.typed for one in every}) == len(described)
    if alike and not first.messages and all(found.columns == first.columns for found in described.values()):
        return {COLUMNS: json.dumps(first.columns, ensure_ascii=False)}
    entries = [_entry(found) for found in described.values()]
    words = [json.dumps(entries[at : at + AT_ONCE], ensure_ascii=False) for at in range(0, len(entries), AT_ONCE)]
    return {INFO: [*info, *words]}


def _entry(found: NamedDataset) -> dict[str, Any]:
    """A dataset as ``custom_dataset_info`` describes it; files are told by their names."""
    path = local_file(found.place)
    place = (
        {"dataset_path": str(path.resolve())} if path else {"ms_dataset_id": found.place, "hf_dataset_id": found.place}
    )
    more = {"columns": dict(found.columns), "messages": dict(found.messages)}
    return {**place, **{key: value for key, value in more.items() if value}}


def _root(every: Sequence[Wanted], request: Request) -> str:
    roots = {one.dataset.images: one for one in every if one.dataset.images}
    if len(roots) > 1 and not request.image_root:
        first, second = list(roots.values())[:2]
        hint = "tunekit data convert --image-root DIR writes whole paths into the rows of one"
        message = f"{first.typed} and {second.typed} have their pictures in different folders, and ms-swift takes one"
        raise TunekitError(message, hint, Exit.DATA)
    return next(iter(roots), "")
