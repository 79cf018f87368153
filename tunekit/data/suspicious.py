"""What should not stand in a text that is learned: keys and other secrets, and characters of a wrong encoding."""

from __future__ import annotations

import contextlib
import re
from typing import Any

SECRETS: tuple[tuple[bytes, bytes, str, str], ...] = (
    (b"-", b"sk-", r"\bsk-(?:proj-|ant-|or-)?[A-Za-z0-9_-]{20,}", "an API key (sk-…)"),
    (b"_", b"hf_", r"\bhf_[A-Za-z0-9]{30,}", "a Hugging Face token"),
    (b"_", b"ghp_", r"\bghp_[A-Za-z0-9]{36}", "a GitHub token"),
    (b"_", b"gho_", r"\bgho_[A-Za-z0-9]{36}", "a GitHub token"),
    (b"_", b"ghs_", r"\bghs_[A-Za-z0-9]{36}", "a GitHub token"),
    (b"_", b"github_pat_", r"\bgithub_pat_[A-Za-z0-9_]{60,}", "a GitHub token"),
    (b"-", b"glpat-", r"\bglpat-[A-Za-z0-9_-]{20,}", "a GitLab token"),
    (b"K", b"AKIA", r"\bAKIA[A-Z0-9]{16}\b", "an AWS access key"),
    (b"I", b"AIza", r"\bAIza[A-Za-z0-9_-]{35}", "a Google API key"),
    (b"-", b"xox", r"\bxox[abprs]-[A-Za-z0-9-]{20,}", "a Slack token"),
    (b"L", b"LTAI", r"\bLTAI[A-Za-z0-9]{16,24}\b", "an Alibaba Cloud access key"),
    (b"K", b"PRIVATE KEY-----", r"-----BEGIN [A-Z ]*PRIVATE KEY-----", "a private key"),
)
"""A character that each has and many texts have not, which is looked for first: that is ten times as fast; what begins
the secret; all of it; and what it is called. The forms are those that their makers publish."""

GATES = {
    gate: [(mark, re.compile(pattern), name) for first, mark, pattern, name in SECRETS if first == gate]
    for gate in dict.fromkeys(gate for gate, *_ in SECRETS)
}

READ_WRONGLY = "UTF-8 that was read as Windows-1252"
DAMAGE: tuple[tuple[str, str, str], ...] = (
    ("\ufffd", "\ufffd", "replacement characters (U+FFFD): what stood there is lost"),
    ("锟", "锟斤拷", "锟斤拷: replacement characters that were read as GBK"),
    *(("", mark, READ_WRONGLY) for mark in ("ã€", "â€", "Ã©", "Ã¨", "Ã¤", "Ã¶", "Ã¼", "Ã±", "ä½", "ï¼Œ", "çš„")),
)
"""What is looked for first (where nothing is named, the byte with which all those begin), what text in a wrong encoding
shows, and what it means."""

MARKS = {
    gate.encode() or b"\xc3": [(mark.encode(), meaning) for first, mark, meaning in DAMAGE if first == gate]
    for gate in dict.fromkeys(gate for gate, *_ in DAMAGE)
}

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
    for gate, rows in MARKS.items():
        if gate in blob:
            found = next((meaning for mark, meaning in rows if mark in blob), "")
            if found:
                return found
    return ""


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
