"""What should not stand in a text that is learned: keys and other secrets, and characters of a wrong encoding."""

from __future__ import annotations

import contextlib
import re
from typing import Any

SECRETS: tuple[tuple[bytes, str, str], ...] = (
    (b"sk-", r"\bsk-(?:proj-|ant-|or-)?[A-Za-z0-9_-]{20,}", "an API key (sk-…)"),
    (b"hf_", r"\bhf_[A-Za-z0-9]{30,}", "a Hugging Face token"),
    (b"ghp_", r"\bghp_[A-Za-z0-9]{36}", "a GitHub token"),
    (b"gho_", r"\bgho_[A-Za-z0-9]{36}", "a GitHub token"),
    (b"ghs_", r"\bghs_[A-Za-z0-9]{36}", "a GitHub token"),
    (b"github_pat_", r"\bgithub_pat_[A-Za-z0-9_]{60,}", "a GitHub token"),
    (b"glpat-", r"\bglpat-[A-Za-z0-9_-]{20,}", "a GitLab token"),
    (b"AKIA", r"\bAKIA[A-Z0-9]{16}\b", "an AWS access key"),
    (b"AIza", r"\bAIza[A-Za-z0-9_-]{35}", "a Google API key"),
    (b"xox", r"\bxox[abprs]-[A-Za-z0-9-]{20,}", "a Slack token"),
    (b"LTAI", r"\bLTAI[A-Za-z0-9]{16,24}\b", "an Alibaba Cloud access key"),
    (b"PRIVATE KEY-----", r"-----BEGIN [A-Z ]*PRIVATE KEY-----", "a private key"),
)
"""What begins a secret, the secret, and what it is called. The forms are those that their makers publish."""


def _gate(mark: bytes) -> bytes:
    return next((sign for sign in (b"_", b"-") if sign in mark), b"")


GATES = {
    gate: [(mark, re.compile(pattern), name) for mark, pattern, name in SECRETS if _gate(mark) == gate]
    for gate in (b"_", b"-", b"")
}
"""The same by a character that each has and most texts have not: it is looked for first, which is ten times as fast."""

DAMAGE: tuple[tuple[str, str], ...] = (
    ("\ufffd", "replacement characters (U+FFFD): what stood there is lost"),
    ("锟斤拷", "锟斤拷: replacement characters that were read as GBK"),
    ("ã€", "UTF-8 that was read as Windows-1252"),
    ("â€", "UTF-8 that was read as Windows-1252"),
    ("Ã©", "UTF-8 that was read as Windows-1252"),
    ("Ã¨", "UTF-8 that was read as Windows-1252"),
    ("Ã¤", "UTF-8 that was read as Windows-1252"),
    ("Ã¶", "UTF-8 that was read as Windows-1252"),
    ("Ã¼", "UTF-8 that was read as Windows-1252"),
    ("Ã±", "UTF-8 that was read as Windows-1252"),
    ("ä½", "UTF-8 that was read as Windows-1252"),
    ("ï¼Œ", "UTF-8 that was read as Windows-1252"),
    ("çš„", "UTF-8 that was read as Windows-1252"),
)
"""What text in a wrong encoding shows, and what it means."""

MARKS = tuple((mark.encode(), meaning) for mark, meaning in DAMAGE)

ASIDE = 3
"""Characters of a secret that are shown."""


def secret_in(blob: bytes) -> tuple[str, str] | None:
    """The first secret in a text in UTF-8: what it is, and how it begins; the rest is not shown."""
    for gate, rows in GATES.items():
        if gate not in blob:
            continue
        for mark, pattern, name in rows:
            if mark in blob and (found := pattern.search(blob.decode("utf-8", "replace"))):
                return name, found[0] if found[0].startswith("-") else f"{found[0][: len(mark) + ASIDE]}…"
    return None


def damage_in(blob: bytes) -> str:
    """What shows that a text in UTF-8 was in a wrong encoding once; empty where nothing does."""
    if blob.isascii():
        return ""
    return next((meaning for mark, meaning in MARKS if mark in blob), "")


def repaired(value: Any) -> Any:
    """A value with the texts in it that UTF-8 was read wrongly in set right; the same where none can be."""
    if isinstance(value, str):
        return _repaired_text(value) if not value.isascii() and damage_in(value.encode("utf-8", "replace")) else value
    if isinstance(value, list):
        return [repaired(item) for item in value]
    return {key: repaired(item) for key, item in value.items()} if isinstance(value, dict) else value


def _repaired_text(text: str) -> str:
    with contextlib.suppress(UnicodeError):
        mended = b"".join(_byte(char) for char in text).decode("utf-8")
        return mended if len(mended) < len(text) else text
    return text


def _byte(char: str) -> bytes:
    """The byte that was read as a character; of the five that Windows-1252 leaves out, too."""
    return char.encode("latin-1") if "\x80" <= char <= "\x9f" else char.encode("cp1252")
