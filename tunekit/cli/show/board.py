"""The frame of the board's pages. They hold all that they show; scripts only renew it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import tunekit
from tunekit.cli.show.board_words import board_word
from tunekit.cli.show.page import copy_words, language_tag
from tunekit.cli.show.page_html import safe
from tunekit.cli.show.page_words import LANGUAGES, time_in_language
from tunekit.cli.show.screen import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

OFTEN, SELDOM = 2000, 10_000
"""Milliseconds after which a page asks again: while a run goes on, and while none does."""


@dataclass(frozen=True)
class Frame:
    """What stands around each page.

    Attributes:
        path: of the page, and `query` behind it, for the link to the same in the other language.
    """

    language: str
    path: str
    query: Sequence[tuple[str, str]] = ()

    def word(self, key: str, *values: object) -> str:
        """A word, escaped with what is put in."""
        return safe(board_word(self.language, key, *values))

    def told(self, seconds: float) -> str:
        """A time, to be put into a word."""
        return time_in_language(self.language, duration(seconds))

    def long(self, seconds: float) -> str:
        """A time, escaped."""
        return safe(self.told(seconds))

    def page(self, title: str, body: str, *, every: int = 0) -> str:
        """A whole page; `title` is escaped already. `every` says after how many milliseconds it asks again."""
        other = next(language for language in LANGUAGES if language != self.language)
        swap = safe(f"{self.path}?{urlencode([*(pair for pair in self.query if pair[0] != 'lang'), ('lang', other)])}")
        here = "planner" if self.path == "/plan" else "runs"
        links = "".join(
            f'<a href="{href}"{" aria-current=page" if key == here else ""}>{self.word(key)}</a>'
            for key, href in (("runs", "/"), ("planner", "/plan"))
        )
        return (
            f'<!doctype html><html lang="{language_tag(self.language)}"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">'
            f"<title>{title} · tunekit board</title>"
            '<link rel="stylesheet" href="/page.css"><link rel="stylesheet" href="/board.css">'
            '<script src="/page.js" defer></script><script src="/board.js" defer></script></head>'
            f'<body {copy_words(self.language)} data-every="{every}"><a class=skip href="#main">{self.word("skip")}</a>'
            f'<header><a class=brand href="/">tunekit</a><nav aria-label="{self.word("main")}">{links}</nav>'
            f'<a class=lang lang="{language_tag(other)}" href="{swap}">{self.word("other language")}</a></header>'
            f"<main id=main><p class=off id=gone role=alert hidden>{self.word('gone')} <code>tunekit board</code></p>"
            f"{body}<p class=vh role=status id=said></p></main>"
            f"<footer>{self.word('read only')} tunekit {safe(tunekit.__version__)}</footer></body></html>\n"
        )

    def sorry(self, said: str) -> str:
        """A page that says one sentence, escaped already, and leads back."""
        back = f'<p><a href="/">{self.word("runs")}</a></p>'
        return self.page(said, f"<h1>{said}</h1>{back}")


def run_link(key: str) -> str:
    """The address of a run's page."""
    return f"/run/{quote(key)}"
