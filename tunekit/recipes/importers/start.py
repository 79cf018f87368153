"""Write an imported run to a file, or start it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.files import write_atomically
from tunekit.recipes.importers.written import swift_words, tunekit_words, variables_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tunekit.recipes.importers.translation import Draft


def write_imported(path: Path, text: str, drafts: Sequence[Draft], *, executable: bool) -> None:
    """Write the command or recipe, and what must stand beside it. Raises TunekitError where one is there."""
    head = "#!/bin/sh\nset -e\n" if executable else ""
    write_atomically(path, head + text, 0o777 if executable else 0o666)
    write_beside(drafts)


def write_beside(drafts: Sequence[Draft]) -> None:
    """Write the files that the runs name and that are not there yet. Raises TunekitError where another one is."""
    for name, content in {name: content for draft in drafts for name, content in draft.files.items()}.items():
        place = Path(name)
        if place.exists() and place.read_text(encoding="utf-8", errors="replace") != content:
            raise TunekitError(f"{place} exists already and says something else", "move it away")
        write_atomically(place, content)


def run_imported(drafts: Sequence[Draft], *, recipe: Path | None, swift: bool) -> int:
    """Start the runs one after the other, with what comes before them; gives the exit code of the first that fails."""
    write_beside(drafts)
    for words, env in [([*TUNEKIT, "run", str(recipe)], {})] if recipe else _commands(drafts, swift=swift):
        code = subprocess.run(words, env=os.environ | env, check=False).returncode
        if code:
            return code
    return 0


TUNEKIT = (sys.executable, "-m", "tunekit")


def _commands(drafts: Sequence[Draft], *, swift: bool) -> list[tuple[list[str], dict[str, str]]]:
    found: list[tuple[list[str], dict[str, str]]] = []
    for draft in drafts:
        words = swift_words(draft) if swift else tunekit_words(draft)
        env = variables_of(draft, swift=swift)
        found += [(_called(before), {}) for before in draft.before]
        found.append((_called(words), env))
    return found


def _called(words: list[str]) -> list[str]:
    return [*TUNEKIT, *words[1:]] if words[0] == "tunekit" else words
