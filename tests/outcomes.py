"""What came of the keys of an imported file, for the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunekit.recipes.importers.translation import Draft


def status(draft: Draft, key: str) -> str:
    """What became of a key that stands in the file, not of a default."""
    (found,) = [outcome for outcome in draft.outcomes if outcome.key == key and outcome.line]
    return found.status


def said(draft: Draft, *flags: str) -> dict[str, str | None]:
    """The words of these flags; None where a flag is not set."""
    return {flag: " ".join(draft.flags[flag]) if flag in draft.flags else None for flag in flags}
