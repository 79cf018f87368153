"""What a GPU costs an hour, as the user says it. None is shipped: prices age, and sellers differ by a factor of two."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.speed.cards import Untold, rates_of

if TYPE_CHECKING:
    from collections.abc import Mapping

DEAREST = 1e6
"""What a GPU and hour may cost, in any currency."""
ANY = ""
"""The card that a price without one is for."""


def read_prices(text: str, label: str = "--price") -> dict[str, float]:
    """Prices by card: ``1.40`` is for all, ``H100=2.49, A100-40GB=1.1`` for these. Raises TunekitError, as `label`."""
    found: dict[str, float] = {}
    for part in text.split(","):
        card, _, word = part.rpartition("=")
        number = 0.0
        with contextlib.suppress(ValueError):
            number = float(word)
        if not 0 < number < DEAREST:
            hint = "a number for all cards, or H100=2.49,A100-40GB=1.1"
            raise TunekitError(f"{label} takes what a GPU costs an hour, as in 1.40, not {part.strip()[:40]}", hint)
        try:
            found[rates_of(card).name if card.strip() else ANY] = number
        except Untold as error:
            raise TunekitError(f"{label}: {error.message}") from error
    return found


def price_for(prices: Mapping[str, float], card: str) -> float:
    """The price of a card by its name, 0 where none was said."""
    with contextlib.suppress(Untold):
        return prices.get(rates_of(card).name, prices.get(ANY, 0.0))
    return prices.get(ANY, 0.0)
