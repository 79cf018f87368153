"""The models, types and templates that ms-swift lists."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunekit.plan.models.model import Model

MORE_TEMPLATES = ("deepseek_coder", "xcomposer2_4khd")
"""Templates of ms-swift that no model of its registry has."""

CATALOGUE = Path(__file__).with_name("catalogue.json")
"""The models of ms-swift's registry; ``scripts/snapshots`` writes it."""


@cache
def read_catalogue() -> dict[str, Any]:
    """What ``scripts/snapshots`` wrote: ``models``, ``types``, ``architectures`` and ``templates`` of a ``version``."""
    document: dict[str, Any] = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    return document


def called(name: str) -> list[list[Any]]:
    """The rows of the catalogue for a name without its organisation."""
    rows, name = read_catalogue()["models"], name.lower()
    return [row for row in rows if name in {str(hub_id).split("/")[-1].lower() for hub_id in row[:2]}]


def id_of(row: list[Any], *, use_hf: bool = False) -> str:
    """The id that a row of the catalogue has on ModelScope, or on Hugging Face; that of the other where it has none."""
    return str(row[1] or row[0] if use_hf else row[0] or row[1])


def template_names() -> frozenset[str]:
    """The templates that ms-swift knows by name."""
    catalogue = read_catalogue()
    of_types = {known["template"] for known in catalogue["types"].values() if known["template"]}
    return frozenset({*of_types, *(row[3] for row in catalogue["models"] if row[3]), *MORE_TEMPLATES})


def type_names() -> frozenset[str]:
    """The model types that ms-swift knows by name."""
    return frozenset(read_catalogue()["types"])


def hub_names() -> frozenset[str]:
    """The names of all listed models, in lower case and without their organisations."""
    return frozenset(
        hub_id.split("/")[-1].lower() for row in read_catalogue()["models"] for hub_id in row[:2] if hub_id
    )


def hub_ids(model: Model) -> tuple[str, ...]:
    """The ids of a model on the hubs: on ModelScope, then on Hugging Face, where ms-swift knows both."""
    row = next((row for row in read_catalogue()["models"] if model.id in row[:2]), None)
    return (id_of(row), id_of(row, use_hf=True)) if row else (model.id,)


def template_of(model: Model) -> str | None:
    """ms-swift's template for a model, where none is asked for; None where it is not known."""
    if model.template:
        return model.template
    rows = called(Path(model.id).resolve().name) if model.local else []
    row = next((row for row in read_catalogue()["models"] if model.id in row[:2]), rows[0] if rows else None)
    name = row[3] if row else read_catalogue()["types"].get(model.family, {}).get("template")
    return None if name is None else str(name)


def template_traits(template: str | None) -> dict[str, str] | None:
    """What is known of a template of ms-swift; None where it is none.

    ``thinks`` says ``always``, or ``both`` where its models also answer without; ``agent`` how calls of tools are
    written.
    """
    known: dict[str, dict[str, str]] = read_catalogue()["templates"]
    return known.get(template or "")
