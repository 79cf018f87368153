"""The page of a run: one HTML file that needs nothing else, with its curves as inline SVG.

It has one script, which reads the curves off; without it all is there. The page may run that text and no other, by its
digest, and may ask for nothing.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

import tunekit
from tunekit.cli.show.page_html import safe
from tunekit.cli.show.page_run import RunPage
from tunekit.cli.show.page_words import LANGUAGES, word_of
from tunekit.errors import TunekitError
from tunekit.files import write_atomically
from tunekit.runs.history import past_run

if TYPE_CHECKING:
    from tunekit.runs.history import PastRun

REPORT = "report.html"
"""In the folder of a run."""

POLICY = "default-src 'none';style-src 'unsafe-inline';img-src data:;script-src 'sha256-{}'"


def beside_page(name: str) -> str:
    """A style sheet or a script that stands beside this file."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def language_tag(language: str) -> str:
    """As HTML has it."""
    return "zh-CN" if language == "zh" else "en"


def copy_words(language: str) -> str:
    """What the buttons that copy say, as attributes of the body for the script."""
    return " ".join(f'data-{key}="{safe(word_of(language, key))}"' for key in ("copy", "copied"))


def sections(page: RunPage) -> str:
    """The links to the sections of a page, and the sections."""
    parts = list(page.parts())
    links = "".join(f'<a href="#{key}-of-run">{page.word(key)}</a>' for key, _ in parts)
    body = "".join(f'<section><h2 id="{key}-of-run">{page.word(key)}</h2>{html}</section>' for key, html in parts)
    return f'<nav class=toc aria-label="{page.word("sections")}">{links}</nav>{body}'


def page_of(run: PastRun, language: str = LANGUAGES[0]) -> str:
    """The page of a run in a language, ``en`` or ``zh``."""
    page = RunPage(run, language)
    script = beside_page("page.js")
    policy = POLICY.format(b64encode(hashlib.sha256(script.encode()).digest()).decode())
    foot = page.word("written", tunekit.__version__, run.state.plan.engine)
    return (
        f'<!doctype html><html lang="{language_tag(language)}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<link rel="icon" href="data:,"><title>{safe(run.name)} · tunekit</title>'
        f"<style>{beside_page('page.css')}</style></head><body {copy_words(language)}>"
        f"<header>{page.header()}</header><main>{page.answer()}{sections(page)}</main><footer>{foot}</footer>"
        f"<script>{script}</script></body></html>\n"
    )


def write_page(run: PastRun, out: Path | None = None, language: str = LANGUAGES[0]) -> Path:
    """Write the page of a run, into its folder where no file is named; where it is. Raises TunekitError."""
    path = out or run.folder.path / REPORT
    try:
        write_atomically(path, page_of(run, language))
    except OSError as error:
        raise TunekitError(f"{path} cannot be written: {error.strerror}") from error
    return path


def page_at_the_end(folder: Path) -> Path | None:
    """Write the page of a run that has just ended; None where that cannot be: a run has not failed for want of it."""
    try:
        return write_page(past_run(str(folder)))
    except (TunekitError, OSError, ValueError):
        return None
