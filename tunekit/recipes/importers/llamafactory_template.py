"""LLaMA-Factory: templates of chats, thoughts and formats of tools."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from tunekit.files import read_toml
from tunekit.plan.models.catalogue import template_of
from tunekit.recipes.importers.llamafactory_model import known_model
from tunekit.recipes.importers.table import TABLES
from tunekit.recipes.importers.translation import DEFAULT, LOST, TRAINS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import KeyEntry
    from tunekit.recipes.importers.translation import Draft

    Values = Mapping[str, Any]

AGENTS = {
    "qwen": "hermes",
    "default": "",
    "glm4": "glm4",
    "glm4_moe": "glm4_5",
    "llama3": "llama3",
    "mistral": "mistral",
}
"""``tool_format`` as an ``agent_template`` of ms-swift; the others bear the same name."""


def _template(draft: Draft, entry: KeyEntry, values: Values) -> None:
    row = _templates().get(str(entry.value))
    if row is None:
        why = "no template of ms-swift writes the same; it takes the model's own"
        draft.leave(entry, LOST, why)
        draft.warnings.append(f"template {entry.value}: {why}")
        return
    known = known_model(draft, str(values.get("model_name_or_path") or ""))
    own = template_of(known) if known else None
    more = {"system": ""} if row.get("empty_system") and not values.get("default_system") else {}
    same = row["to"][:1] if row.get("first") else row["to"]
    if own in same and not more:
        draft.leave(entry, DEFAULT, "the model's own: ms-swift takes it by itself")
    elif own is None and len(same) > 1:
        draft.leave(entry, DEFAULT, f"ms-swift chooses by the model: {' or '.join(same)}")
    else:
        draft.put(entry, f"ms-swift itself would take {own}" if own else "", template=same[0], **more)
        if own and own not in row["to"]:
            draft.warnings.append(f"template {entry.value}: ms-swift knows the model's as {own}; is it the right one?")


@cache
def _templates() -> dict[str, Any]:
    return read_toml(TABLES / "llamafactory_templates.toml")[0]


def _thinking(draft: Draft, entry: KeyEntry, values: Values) -> None:
    thinks = _templates().get(str(values.get("template")), {}).get("thinks")
    if not thinks or draft.command not in TRAINS:
        draft.leave(entry, DEFAULT, "it is about models that think alone")
    elif entry.value is True:
        why = "rows without thoughts get empty ones in the answer, which are learned"
        draft.put(entry, why, disable_ignore_empty_think=True)
    else:
        draft.leave(entry, DEFAULT, "ms-swift puts empty thoughts before the answer, without loss, too")


def _tools(draft: Draft, entry: KeyEntry, _: Values) -> None:
    word = AGENTS.get(str(entry.value), str(entry.value))
    if word and entry.value:
        draft.put(entry, agent_template=word)
    else:
        draft.leave(entry, LOST, "ms-swift has no such format of tools")


FUNCTIONS = {
    "template": _template,
    "thinking": _thinking,
    "tools": _tools,
}
