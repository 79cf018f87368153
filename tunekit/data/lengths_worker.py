"""Tokenize a sample of a dataset, as `tunekit.data.lengths` asks from another process. No weights are loaded.

The sample stands for all rows: evenly spread, and beside it the largest ones.
"""

from __future__ import annotations

import heapq
import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.data.read import LINES, look_into
from tunekit.data.sound import sound_row

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 8
"""Rows of a file that are looked at since they are the largest on disk: a sample seldom meets the longest row."""

TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("csv", {"na_filter": False}),
    ".txt": ("text", {}),
    ".parquet": ("parquet", {}),
    ".arrow": ("arrow", {}),
}
"""Readers of the library ``datasets`` and their options, by ending."""


def answer_lengths(question: dict[str, Any]) -> dict[str, Any]:
    """The rows of the sample in tokens, or ``{"unknown": reason}``."""
    import swift.arguments  # noqa: F401 - where that fails, it is not the rows

    run_no_code()
    try:
        return tokenize_sample(question)
    except Exception as error:  # noqa: BLE001 - whatever a tokenizer or a dataset does, it is not known then
        first = (str(error).strip().split("\n") or [""])[0][:200]
        return {"unknown": f"ms-swift cannot read them ({type(error).__name__}: {first})"}


def run_no_code() -> None:
    """Let no Python file of a model's folder be run in this process, whatever names it.

    ms-swift loads every model with ``trust_remote_code`` (model/register.py, model/model_meta.py). All ways of
    transformers to such a file end in one function (dynamic_module_utils.py).
    """
    from swift.model.register import ModelLoader
    from transformers import dynamic_module_utils

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError("the model brings code of its own, which is not run to measure")

    dynamic_module_utils.get_class_in_module = refuse
    ModelLoader.default_trust_remote_code = False


def tokenize_sample(question: dict[str, Any]) -> dict[str, Any]:
    """The rows of the sample in tokens, those that ms-swift leaves out, and the lengths of the largest ones."""
    arguments, template = template_of_question(question)
    if template.use_model and not question["seeing"]:
        return {"unknown": f"the template {arguments.template} needs the weights of the model"}
    datasets = question["datasets"]
    files = [_rows(Path(named["path"])) for named in datasets]
    asked = [named["rows"] for named in datasets]
    totals = [file.total if rows is None else rows for file, rows in zip(files, asked, strict=True)]
    rows: list[list[list[int]]] = []
    largest: list[int] = []
    problems: list[str] = []
    for number, (file, count) in enumerate(zip(files, shares(totals, question["sample"]), strict=True)):
        for kind, lines in (("spread", file.take(spread(file.total, count))), ("largest", file.largest())):
            place = Path(question["scratch"]) / f"{number}-{kind}.jsonl"
            place.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            encoded, failed = _encode(template, arguments, place, len(lines), question["max_length"])
            if kind == "spread":
                rows += encoded
                problems += failed
            else:
                largest += [max(text[0] for text in row) for row in encoded]
    problem = next(filter(None, problems), "")
    if not rows:
        return {"unknown": f"ms-swift can use none of the rows{problem and f': {problem}'}"}
    return {
        "names": [named["name"] for named in datasets],
        "total": sum(totals),
        "rows": rows,
        "largest": largest,
        "unusable": len(problems),
        "problem": problem,
    }


def template_of_question(question: dict[str, Any]) -> tuple[Any, Any]:
    """ms-swift's arguments and template for a question."""
    from swift.arguments import BaseArguments

    # As training does (sft_args.py): the args.json of a folder may name plugins, which would be run.
    arguments = BaseArguments(model=question["model"], load_args=False, **question["flags"])
    template = arguments.get_template(arguments.get_model_processor(load_model=False)[1])
    template.set_mode(question["template_mode"])
    return arguments, template


def _rows(path: Path) -> Lines | Table:
    if path.suffix not in TABLES:
        return Lines(path)
    from datasets import load_dataset

    kind, options = TABLES[path.suffix]
    return Table(load_dataset(kind, data_files=str(path), split="train", **options))


def _encode(
    template: Any, arguments: Any, place: Path, count: int, max_length: int | None
) -> tuple[list[list[list[int]]], list[str]]:
    """The rows of a file in tokens, and for each row that is left out why, as far as ms-swift says."""
    from swift.dataset import load_dataset

    try:
        table, _ = load_dataset([str(place)], **arguments.get_dataset_kwargs())
    except ZeroDivisionError:  # what ms-swift 4.6 makes of a file without one row that it can use
        return [], [""] * count
    rows, problems = [], [""] * (count - len(table))
    for row in table:
        try:
            rows.append(_texts(template, row, max_length))
        except Exception as error:  # noqa: BLE001 - whatever a template does with a row, ms-swift leaves it out
            problems.append(f"{type(error).__name__}: {error}".split("\n")[0][:120])
    return rows, problems


def _texts(template: Any, row: dict[str, Any], max_length: int | None) -> list[list[int]]:
    """Of each text of a row: its tokens, those that are trained on, and those with a label."""
    template.max_length = None
    texts = _labelled(template.encode(row, return_length=True))
    lengths = [length for length, _ in texts]
    if max_length is not None and max(lengths) > max_length:
        template.max_length = max_length
        texts = _labelled(template.encode(row, return_length=True))
    return [[length, *text] for length, text in zip(lengths, texts, strict=True)]


def _labelled(encoded: dict[str, Any]) -> list[tuple[int, int]]:
    """Tokens, and tokens with a label, of the one text or of both of a pair."""
    return [
        (len(tokens), sum(1 for label in encoded.get(f"{prefix}labels") or [] if label != -100))
        for prefix in ("", "chosen_", "rejected_")
        if (tokens := encoded.get(f"{prefix}input_ids")) is not None
    ]


def spread(total: int, count: int) -> list[int]:
    """`count` of the numbers below `total`, evenly spread; all where there are no more."""
    if count >= total:
        return list(range(total))
    return [(2 * number + 1) * total // (2 * count) for number in range(count)]


def shares(totals: list[int], count: int) -> list[int]:
    """How many of `count` rows to take from each file: as many as it has of all rows, and one at least."""
    whole = max(1, sum(totals))
    return [min(total, max(1, round(count * total / whole))) if total else 0 for total in totals]


class Lines:
    """The rows of a JSON Lines or JSON file, read again each time: the file may be larger than the memory."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, look_into(path)
        self.total = sum(1 for _ in self._lines())

    def _lines(self) -> Iterator[str]:
        if self.file.kind != LINES:
            yield from (json.dumps(sound_row(self.file, entry)) for entry in self.file.entries())
            return
        with self.path.open(encoding="utf-8-sig") as file:
            yield from (line for line in file if line.strip())

    def take(self, numbers: list[int]) -> list[str]:
        """The rows of these numbers, in ascending order."""
        wanted, lines = set(numbers), islice(self._lines(), max(numbers, default=-1) + 1)
        return [line.strip() for number, line in enumerate(lines) if number in wanted]

    def largest(self) -> list[str]:
        """The rows that are largest on disk."""
        return [line.strip() for line in heapq.nlargest(LARGEST, self._lines(), key=len)]


class Table:
    """The rows of another kind of file, as the library ``datasets`` has read them."""

    def __init__(self, rows: Any) -> None:
        self.rows, self.total = rows, len(rows)

    def take(self, numbers: list[int]) -> list[str]:
        """The rows of these numbers."""
        return [json.dumps(row) for row in self.rows.select(numbers)]

    def largest(self) -> list[str]:
        """The largest among the first rows that can be looked at in a moment."""
        return heapq.nlargest(LARGEST, (json.dumps(row) for row in islice(self.rows, 20_000)), key=len)
