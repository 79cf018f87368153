"""What ``tunekit fit --where`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.cli.show.duration import hours, money, roughly, with_range
from tunekit.cli.show.lines import print_document, print_table
from tunekit.console import say

if TYPE_CHECKING:
    from tunekit.plan.plan import Plan
    from tunekit.runs.where import Place, Places


def show_places(plan: Plan, places: Places, *, as_json: bool) -> None:
    """A row a place, the quickest first; the quickest and the cheapest are named."""
    quickest, cheapest = places.quickest, places.cheapest
    if as_json:
        rows = [place.document() for place in places.found]
        print_document({"places": rows, "quickest": quickest.document(), "cheapest": cheapest.document()})
        return
    priced = any(place.duration.price for place in places.found)
    print(f"{plan.model.named} · {plan.stage.name} · where it fits\n")
    marks = {id(cheapest): "cheapest" if priced else "least GPU-hours"}
    marks[id(quickest)] = ", ".join(["quickest", *([marks[id(quickest)]] if quickest is cheapest else [])])
    head = ["GPUs", "micro", "GiB", "time", "GPU-hours", *(["cost"] if priced else []), ""]
    print_table([head, *(_row(place, marks.get(id(place), ""), priced=priced) for place in places.found)])
    say(f"\nquickest: {_named(quickest)}, about {roughly(quickest.duration.seconds)}")
    say(f"{'cheapest' if priced else 'least GPU-hours'}: {_named(cheapest)}")
    notes = dict.fromkeys(note for place in places.found for note in place.duration.notes if "rate of" not in note)
    for note in ("roughly: none of these machines was measured; * the rate of this card is assumed", *notes):
        say(note)


def _row(place: Place, mark: str, *, priced: bool) -> list[str]:
    made = place.duration
    gib = f"{place.gib:.0f} of {place.card_gib:.0f}"
    cost = [money(made.cost[0]) if made.cost else "–"] if priced else []
    return [_named(place), str(place.micro), gib, with_range(made), hours(made.gpu_hours), *cost, mark]


def _named(place: Place) -> str:
    return f"{place.gpus} × {place.card}{'*' if place.assumed else ''}"
