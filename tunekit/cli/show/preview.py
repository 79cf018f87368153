"""What ``tunekit data preview`` prints: the text of a row, and what of it is learned."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from tunekit.cli.show.lines import print_document
from tunekit.console import shown_plainly

if TYPE_CHECKING:
    from tunekit.data.preview import Piece, Preview
    from tunekit.plan.plan import Plan

OPEN, CLOSE = "⟦", "⟧"
"""What stands around learned tokens, so that they are told apart without colour too."""


def print_preview(made: tuple[Plan, Preview], *, as_json: bool) -> None:
    """Print a row as its template renders it."""
    plan, row = made
    if as_json:
        texts = [{**asdict(text), "tokens": text.tokens, "learned": text.learned} for text in row.texts]
        document = {"file": str(row.file), row.unit: row.number, "model": plan.model.id, "stage": plan.stage.name}
        print_document({**document, "texts": texts, "pictures": [asdict(picture) for picture in row.pictures]})
        return
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    print(f"{row.file} {row.unit} {row.number} · {plan.model.named} · {plan.stage.name}")
    for text in row.texts:
        limit = plan.whole("max_length")
        over = f", max_length is {limit:,}" if limit and text.tokens > limit else ""
        name = f"{text.name}: " if text.name else ""
        print(f"\n{name}{text.tokens:,} tokens, {text.learned:,} learned{over}\n")
        print("".join(_shown(piece, coloured=coloured) for piece in text.pieces))
    if row.pictures:
        print()
    for picture in row.pictures:
        tokens = f", {picture.tokens:,} tokens" if picture.tokens else ""
        print(f"picture {shown_plainly(picture.path)}: {picture.width} × {picture.height} pixels{tokens}")
    print(f"\n{OPEN}…{CLOSE} is learned, all else is only read")


def _shown(piece: Piece, *, coloured: bool) -> str:
    text = shown_plainly(piece.text)
    text = f"[{text} × {piece.tokens:,}]" if piece.medium else text
    marked = f"{OPEN}{text}{CLOSE}" if piece.learned else text
    if not coloured:
        return marked
    return typer.style(marked, fg="green", bold=True) if piece.learned else typer.style(marked, dim=True)
