"""What a plan takes of a card: a bar with its parts, and the same as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.cli.show.page_html import cells_in_table, safe
from tunekit.cli.show.page_words import word_of

if TYPE_CHECKING:
    from tunekit.memory.spec import Prediction

PARTS_SHOWN = {
    "weights": ("weights",),
    "trained": ("adapter", "gradients", "optimizer"),
    "kept": ("checkpoints",),
    "computed": ("layer", "logits", "other"),
}
"""What a bar shows of a prediction's breakdown, by the key of its word; the allocator and CUDA come last."""


def memory_parts(prediction: Prediction) -> dict[str, float]:
    """GiB by part; they sum to what the process takes."""
    found = {part: sum(prediction.breakdown.get(name, 0.0) for name in names) for part, names in PARTS_SHOWN.items()}
    return {**found, "allocator": prediction.process_gib - sum(found.values())}


def memory_bar(prediction: Prediction, card: str, card_gib: float, language: str, verdict: str) -> str:
    """The bar: the card's end is a line, and what is more than there is is underlined."""
    parts, needs = memory_parts(prediction), prediction.process_gib
    whole = max(card_gib, needs)

    def share(gib: float) -> str:
        return f"{100 * gib / whole:.2f}%"

    told = ", ".join(f"{word_of(language, part)} {gib:.1f} GiB" for part, gib in parts.items())
    drawn = [
        f'<svg class="mem" role="img"><title>{safe(verdict)} {safe(told)}</title>',
        f'<rect width="{share(card_gib)}" height="28" y="6" fill="var(--wash)" stroke="var(--rule)"/>',
    ]
    at = 0.0
    for number, gib in enumerate(parts.values(), start=1):
        width = f'x="{share(at)}" width="{share(gib)}"'
        drawn.append(f'<rect {width} y="6" height="28" fill="var(--m{number})" stroke="var(--paper)"/>')
        at += gib
    end, over = share(card_gib), needs > card_gib
    ink = "var(--warn)" if over else "var(--ink)"
    anchor = "start" if card_gib / whole < 0.4 else "end"
    drawn.append(f'<line x1="{end}" x2="{end}" y1="0" y2="40" stroke="{ink}" stroke-width="2"/>')
    drawn.append(f'<text x="{end}" y="53" text-anchor="{anchor}">{safe(card)} {card_gib:.1f} GiB</text>')
    if over:
        excess = share(needs - card_gib)
        drawn.append(f'<rect x="{end}" width="{excess}" y="36" height="3" fill="var(--warn)"/>')
    return "".join(drawn) + "</svg>"


def memory_table(prediction: Prediction, language: str) -> str:
    """The same in numbers."""
    rows = [
        [
            f'<svg class="sw" aria-hidden="true"><rect width="10" height="10" fill="var(--m{number})"/></svg>'
            f"{safe(word_of(language, part))}",
            f"{gib:.1f}",
        ]
        for number, (part, gib) in enumerate(memory_parts(prediction).items(), start=1)
    ]
    rows.append([safe(word_of(language, "together")), f"{prediction.process_gib:.1f} GiB"])
    table = cells_in_table([], rows, kind="parts")
    return table.replace("</td><td>", "</td><td class=num>")
