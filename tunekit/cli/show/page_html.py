"""Pieces of HTML that several pages share. What comes from a run, a file or an address is escaped here."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def safe(value: object) -> str:
    """A value as text of a page or of an attribute."""
    return escape(str(value), quote=True)


def cells_in_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "", numbers: bool = False, named: bool = False
) -> str:
    """A table of cells that are HTML already; `named` makes the first of each row its heading."""
    aligned = " class=num" if numbers else ""
    heads = "".join(f"<th scope=col{aligned}>{cell}</th>" if cell else "<td></td>" for cell in head)
    body = []
    for row in rows:
        first = f"<th scope=row>{row[0]}</th>" if named else f"<td{aligned}>{row[0]}</td>"
        body.append(f"<tr>{first}{''.join(f'<td{aligned}>{cell}</td>' for cell in row[1:])}</tr>")
    shown = f" class={kind}" if kind else ""
    return f"<table{shown}>{f'<thead><tr>{heads}</tr></thead>' if head else ''}<tbody>{''.join(body)}</tbody></table>"


def folded_part(title: str, body: str, *, key: str, kind: str = "") -> str:
    """A part that is folded away."""
    shown = f' class="{kind}"' if kind else ""
    return f'<details id="{key}"{shown}><summary>{title}</summary>{body}</details>'


def scrolled(title: str, table: str) -> str:
    """A table that may be wider than the page: it can be scrolled with the keys of a keyboard, too."""
    return f'<div class=scroll tabindex=0 role=region aria-label="{title}">{table}</div>'


def copied_lines(lines: Iterable[tuple[str, str]]) -> str:
    """Commands with a title each, ready to be copied."""
    rows = "".join(f"<dt>{title}</dt><dd><code data-copy>{safe(line)}</code></dd>" for title, line in lines)
    return f"<dl class=cmds>{rows}</dl>"


def copied_block(text: str, label: str) -> str:
    """A command of several lines, ready to be copied."""
    return f'<div class=code><pre tabindex=0 role=region aria-label="{label}" data-copy>{safe(text)}</pre></div>'


def key_figures(items: Iterable[tuple[str, str, str]]) -> str:
    """The numbers that count: what, how much, and a note below it; HTML already."""
    cells = (f"<div><dt>{a}</dt><dd class=v>{b}</dd><dd class=n>{c}</dd></div>" for a, b, c in items)
    return f"<dl class=key>{''.join(cells)}</dl>"
