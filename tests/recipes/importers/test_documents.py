"""Documents with commands and settings in them: every block that asks for a run is understood, key by key.

Those here are our own; ``TUNEKIT_DOCUMENTS`` names a folder with others.
"""

import os
import re
from pathlib import Path

import pytest

from tunekit.recipes.importers.recognition import import_file
from tunekit.recipes.importers.translation import UNKNOWN

OWN = Path(__file__).with_name("examples") / "documents"
FENCE = re.compile(r"^[ \t]*```(bash|sh|shell|toml|yaml|yml)[ \t]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
ENDINGS = {"bash": "sh", "shell": "sh", "yml": "yaml"}
PLACEHOLDER = re.compile(r"<[A-Z_]+>|\.\.\.")


def blocks_in(folder):
    """Each block of a document with its place and the ending of such a file."""
    return [
        (f"{path.name}:{number}", ENDINGS.get(found[1], found[1]), found[2])
        for path in sorted(Path(folder).iterdir())
        if path.is_file()
        for number, found in enumerate(FENCE.finditer(path.read_text(encoding="utf-8")))
    ]


def asks_for_a_run(ending, text):
    """Whether a block trains, merges or serves; the others prepare, or show a program of their own."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    flags = re.search(r"(^|\s)--[a-z]", "\n".join(lines))
    return ending != "sh" or bool(flags and not re.search(r"^\s*(pip|uv|git|conda)\s", "\n".join(lines), re.MULTILINE))


def documents():
    other = os.environ.get("TUNEKIT_DOCUMENTS")
    found = blocks_in(OWN) + (blocks_in(other) if other else [])
    return [pytest.param(ending, text, id=place) for place, ending, text in found if asks_for_a_run(ending, text)]


@pytest.mark.parametrize(("ending", "text"), documents())
def test_every_block_is_understood(tmp_path, ending, text):
    path = tmp_path / f"block.{ending}"
    path.write_text(text, encoding="utf-8")
    _, drafts = import_file(str(path))
    assert drafts
    unknown = [it.key for draft in drafts for it in draft.outcomes if it.status == UNKNOWN]
    assert not [key for key in unknown if not PLACEHOLDER.search(key)]
    assert all(draft.outcomes for draft in drafts)


def test_they_are_counted():
    """One of the eleven blocks here only prepares."""
    asking = [asks_for_a_run(ending, text) for _, ending, text in blocks_in(OWN)]
    assert (len(asking), sum(asking)) == (11, 10)


def test_flags_alone_are_a_run(tmp_path):
    path = tmp_path / "flags.sh"
    path.write_text("--lora_rank 8  # as a rule\n--gradient_checkpointing true\n", encoding="utf-8")
    _, (draft,) = import_file(str(path))
    assert draft.flags["lora_rank"] == ["8"]
    assert draft.flags["gradient_checkpointing"] == ["true"]
