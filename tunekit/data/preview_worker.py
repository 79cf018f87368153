"""Render one row, as `tunekit.data.preview` asks from another process. No weights are loaded."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from tunekit.data.lengths_worker import run_no_code, template_of_question
from tunekit.data.rows import ASSISTANTS

IGNORED = -100
"""The label of a token that is not learned."""


def render_row(question: dict[str, Any]) -> dict[str, Any]:
    """The texts of a row in pieces, and its pictures; or ``{"unknown": reason}``."""
    import swift.arguments  # noqa: F401 - where that fails, it is not the row

    run_no_code()
    arguments, template = template_of_question(question)
    try:
        return _render(question, arguments, template)
    except Exception as error:  # noqa: BLE001 - whatever a template does with a row, ms-swift leaves it out
        first = (str(error).strip().split("\n") or [""])[0][:200]
        return {"unknown": f"ms-swift leaves it out ({type(error).__name__}: {first})"}


def _render(question: dict[str, Any], arguments: Any, template: Any) -> dict[str, Any]:
    from swift.dataset import load_dataset

    place = Path(question["scratch"]) / "row.jsonl"
    place.write_text(json.dumps(question["row"]) + "\n", encoding="utf-8")
    try:
        table, _ = load_dataset([str(place)], **{**arguments.get_dataset_kwargs(), "strict": True})
    except ZeroDivisionError:  # what ms-swift 4.6 makes of a file without one row that it can use
        return {"unknown": "ms-swift leaves it out"}
    row = dict(table[0])
    if not question["answered"] and row["messages"] and row["messages"][-1]["role"] in ASSISTANTS:
        row["messages"] = row["messages"][:-1]
    images = list(row.get("images") or [])
    template.max_length = None
    encoded = template.encode(row, return_length=True)
    texts = [
        {"name": name.removesuffix("_"), "pieces": _pieces(template, tokens, encoded.get(f"{name}labels"))}
        for key, tokens in encoded.items()
        if key.endswith("input_ids") and tokens is not None
        for name in [key.removesuffix("input_ids")]
    ]
    return {"texts": texts, "pictures": _pictures(images, texts)}


def _pieces(template: Any, tokens: Any, labels: Any) -> list[tuple[str, int, bool, bool]]:
    tokens = [int(token) for token in tokens]
    learned = [label != IGNORED for label in labels] if labels is not None else [False] * len(tokens)
    seen = set(template.placeholder_tokens)
    kinds = [(mark, token if token in seen else None) for token, mark in zip(tokens, learned, strict=True)]
    found = []
    for (mark, medium), group in itertools.groupby(zip(kinds, tokens, strict=True), key=lambda pair: pair[0]):
        ids = [token for _, token in group]
        shown = template.tokenizer.decode(ids if medium is None else ids[:1], skip_special_tokens=False)
        found.append((shown, len(ids), mark, medium is not None))
    return found


def _pictures(images: list[Any], texts: list[dict[str, Any]]) -> list[tuple[str, int, int, int]]:
    """Each picture with its size, and its tokens where as many stretches of them are in the first text."""
    from swift.template.vision_utils import load_image

    counts = [tokens for _, tokens, _, medium in texts[0]["pieces"] if medium] if texts else []
    if len(counts) != len(images):
        counts = [0] * len(images)
    found = []
    for image, count in zip(images, counts, strict=True):
        path = image.get("path") or image.get("bytes") if isinstance(image, dict) else image
        picture = load_image(path)
        named = path if isinstance(path, str) and len(path) < 500 else "a picture within the row"
        found.append((named, picture.width, picture.height, count))
    return found
