"""Tokenize a sample of a dataset; started by `tunekit.data.lengths` in the engine's interpreter.

Reads one JSON object from standard input and writes one to standard output: the rows with their tokens, or
``{"unknown": reason}``. No weights are loaded.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from datasets import load_dataset as read_table
from swift.arguments import BaseArguments
from swift.dataset import load_dataset

from tunekit.data.lengths_sample import Lines, Table, shares, spread

DEFAULTS: dict[str, dict[str, Any]] = {
    "pt": {"use_chat_template": False, "loss_scale": "all"},
    "orpo": {"loss_scale": "default"},
    **{stage: {"loss_scale": "last_round"} for stage in ("dpo", "simpo", "cpo", "kto", "rm")},
}
"""What the arguments of a stage set before the template is made (swift/arguments/pretrain_args.py and rlhf_args.py)."""

MODES = {"pt": "train", "sft": "train", "kto": "kto"}
"""Modes of the template (swift/pipelines/train/rlhf.py); pairs are ``rlhf``."""

TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("csv", {"na_filter": False}),
    ".tsv": ("csv", {"na_filter": False, "sep": "\t"}),
    ".txt": ("text", {}),
    ".parquet": ("parquet", {}),
    ".arrow": ("arrow", {}),
}
"""Readers of the library ``datasets`` and their options, by ending."""


def measure(question: dict[str, Any]) -> dict[str, Any]:
    """The rows of the sample in tokens."""
    flags = {**DEFAULTS.get(question["stage"], {}), **question["flags"]}
    arguments = BaseArguments(model=question["model"], **flags)
    template = arguments.get_template(arguments.get_model_processor(load_model=False)[1])
    if template.use_model:
        return {"unknown": f"the template {arguments.template} needs the weights of the model"}
    template.set_mode(MODES.get(question["stage"], "rlhf"))
    scratch = Path(question["scratch"])
    files = [_rows(Path(file["path"])) for file in question["datasets"]]
    totals = [
        file.total if named["rows"] is None else named["rows"]
        for file, named in zip(files, question["datasets"], strict=True)
    ]
    rows: list[list[list[int]]] = []
    largest: list[int] = []
    problems: list[str] = []
    for number, (file, count) in enumerate(zip(files, shares(totals, question["sample"]), strict=True)):
        for kind, lines in (("spread", file.take(spread(file.total, count))), ("largest", file.largest())):
            place = scratch / f"{number}-{kind}.jsonl"
            place.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            encoded, failed = _encode(template, arguments, place, len(lines), question["max_length"])
            if kind == "spread":
                rows += encoded
                problems += failed
            else:
                largest += [max(text[0] for text in row) for row in encoded]
    if not rows:
        return {"unknown": f"ms-swift can use none of the rows{_because(problems)}"}
    return {
        "names": [named["name"] for named in question["datasets"]],
        "total": sum(totals),
        "rows": rows,
        "largest": largest,
        "unusable": len(problems),
        "problem": next(filter(None, problems), ""),
    }


def _rows(path: Path) -> Lines | Table:
    if path.suffix not in TABLES:
        return Lines(path)
    kind, options = TABLES[path.suffix]
    return Table(read_table(kind, data_files=str(path), split="train", **options))


def _encode(
    template: Any, arguments: Any, place: Path, count: int, max_length: int | None
) -> tuple[list[list[list[int]]], list[str]]:
    """The rows of a file in tokens, and for each row that is left out why, as far as ms-swift says."""
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
    texts = []
    for prefix in ("", "chosen_", "rejected_"):
        tokens = encoded.get(f"{prefix}input_ids")
        if tokens is not None:
            labels = encoded.get(f"{prefix}labels") or []
            texts.append((len(tokens), sum(1 for label in labels if label != -100)))
    return texts


def _because(problems: list[str]) -> str:
    known = next(filter(None, problems), "")
    return f": {known}" if known else ""


def main() -> None:
    """Answer one question."""
    warnings.filterwarnings("ignore")
    question = json.load(sys.stdin)
    os.chdir(question["folder"])  # pictures of a dataset may be named from there
    answer, sys.stdout = sys.stdout, sys.stderr  # libraries print
    try:
        result = measure(question)
    except Exception as error:  # noqa: BLE001 - whatever a tokenizer or a dataset does, it cannot be told
        first = (str(error).strip().split("\n") or [""])[0][:200]
        result = {"unknown": f"ms-swift cannot read them ({type(error).__name__}: {first})"}
    finally:
        sys.stdout = answer
    json.dump(result, answer)


if __name__ == "__main__":
    main()
