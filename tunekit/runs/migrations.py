"""Steps by which a ``run.json`` of an older tunekit becomes one of this version, so that old runs stay readable."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = re.compile(r"(command line|\w+)(?:[ :]([^←]*?))?(?: ← (.+))?")
"""How schema 1 wrote where a setting comes from: ``preset 7b ← base``, ``rule:cpu``, ``command line``."""


def _typed_sources(document: dict[str, Any]) -> dict[str, Any]:
    """1 → 2: sources are no texts any more, and a plan names its stage."""
    plan = dict(document["plan"])
    command = plan.pop("command")
    stage = plan["settings"].get("rlhf_type", {}).get("value", command)
    settings = {flag: {**setting, "source": _source(setting["source"])} for flag, setting in plan["settings"].items()}
    changes = [{**change, "by": _source(change["by"])} for change in plan["changes"]]
    added: dict[str, Any] = {"packages": None, "memory_correction": 1.0, "loss_share": None, "row_tokens": None}
    added |= {"rewards": [], "row_format": None}
    return {**document, "plan": {**added, **plan, "stage": stage, "settings": settings, "changes": changes}}


def _source(text: str) -> dict[str, str]:
    found = SOURCE.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return {"kind": found[1], "name": found[2] or "", "origin": found[3] or ""}


STEPS: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (_typed_sources,)
"""The first one makes schema 2 of schema 1, and so on."""

SCHEMA = len(STEPS) + 1
"""The one that is written."""


def migrate(document: dict[str, Any]) -> dict[str, Any]:
    """The document as this version writes it. Raises KeyError, TypeError, AttributeError or ValueError for others."""
    schema = document["schema"]
    if not 1 <= schema <= SCHEMA:
        raise ValueError(f"schema {schema}")
    for step in STEPS[schema - 1 :]:
        document = step(document)
    return document
