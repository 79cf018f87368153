"""Messages of any tool in one form: a role that ms-swift knows, a text, and the pictures that stood within."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tunekit.data.rows import ASSISTANTS, CALLS, CONTENTS, RESULTS, ROLES, USERS, messages_in

if TYPE_CHECKING:
    from collections.abc import Mapping

SPEAKER: Mapping[str, str] = {
    **dict.fromkeys((*USERS, "prompter", "customer"), "user"),
    **dict.fromkeys((role for role in ASSISTANTS if role.replace("-", "_") not in CALLS), "assistant"),
    **dict.fromkeys(("model", "chatgpt", "ai"), "assistant"),
    **dict.fromkeys((*CALLS, "tool-call"), "tool_call"),
    **dict.fromkeys((*RESULTS, "function", "ipython"), "tool_response"),
    **dict.fromkeys(("system", "developer"), "system"),
}
"""What other tools call a speaker, and what ms-swift does."""

CONTENT_KEYS = (*CONTENTS, "text")

MARKS: Mapping[str, str] = {"images": "<image>", "videos": "<video>", "audios": "<audio>"}
"""Columns of pictures and sounds, and what places them in a text (ms-swift 4.6 template/base.py)."""

PARTS: Mapping[str, str] = {
    **dict.fromkeys(("image", "image_url", "input_image"), "images"),
    **dict.fromkeys(("video", "video_url"), "videos"),
    **dict.fromkeys(("audio", "audio_url", "input_audio"), "audios"),
}
"""Parts of a message, as OpenAI's and Qwen's formats have them, and the column that each becomes."""

KEPT = ("loss", "loss_scale")
"""What ms-swift takes of a message beside role and content (dataset/preprocessor/core.py, _check_messages)."""


class ShapelessRow(ValueError):  # noqa: N818 - named as what the row is
    """A row cannot be brought into another form; the message says why, `alike` what is the same of other rows."""

    def __init__(self, message: str, alike: str = "") -> None:
        super().__init__(message)
        self.alike = alike or re.sub(r"\d+", "#", message)


Turn = dict[str, Any]
Media = dict[str, list[Any]]


def conversation_in(cell: Any, media: Media) -> list[Turn]:
    """The turns of a cell: a list of messages, that list as text, or one message. What they show goes into `media`.

    Raises ShapelessRow where it is none.
    """
    messages = messages_in(cell)
    messages = [messages] if isinstance(messages, dict) else messages
    if not isinstance(messages, list) or not messages:
        raise ShapelessRow("the conversation is no list of messages")
    turns: list[Turn] = []
    for number, message in enumerate(_results_in_order(messages), start=1):
        if not isinstance(message, dict):
            raise ShapelessRow(f"message {number} is no object")
        try:
            turns += _turns(message, media)
        except ShapelessRow as error:
            raise ShapelessRow(f"message {number} {error}") from None
    return turns


def _turns(message: dict[str, Any], media: Media) -> list[Turn]:
    named = next((message[key] for key in ROLES if message.get(key)), None)
    if named is None:
        spoken = [(SPEAKER[key], value) for key, value in message.items() if SPEAKER.get(key) in ("user", "assistant")]
        if not spoken:
            raise ShapelessRow("has no role")
        return [{"role": role, "content": str(value)} for role, value in spoken]
    role = SPEAKER.get(str(named).strip().lower())
    if role is None:
        raise ShapelessRow(f"has the role {str(named)[:40]!r}, which ms-swift does not know")
    more = {key: message[key] for key in KEPT if message.get(key) is not None}
    content = next((message[key] for key in CONTENT_KEYS if message.get(key) is not None), None)
    turns = [{**turn, **more} for turn in _said(role, content, media)]
    thought = message.get("reasoning_content")
    if isinstance(thought, str) and thought.strip() and role == "assistant":
        said = turns.pop(0)["content"] if turns else ""
        turns.insert(0, {"role": role, "content": f"<think>\n{thought.strip()}\n</think>\n\n{said}", **more})
    turns += [{"role": "tool_call", "content": _call(call), **more} for call in _calls(message)]
    if not turns:
        raise ShapelessRow("has no content")
    return turns


def _said(role: str, content: Any, media: Media) -> list[Turn]:
    """The turns of a content: one, or several where calls and results stand among its parts (Anthropic's format)."""
    if content is None or (content == "" and role == "assistant"):
        return []
    if not isinstance(content, list) or not all(isinstance(part, (dict, str)) for part in content):
        return [{"role": role, "content": content if isinstance(content, str) else _as_text(content)}]
    turns: list[Turn] = []
    text = ""
    for part in content:
        kind = "text" if isinstance(part, str) else str(part.get("type", "text" if "text" in part else ""))
        if kind in ("tool_use", "tool_result"):
            turns += [{"role": role, "content": text}] if text else []
            text = ""
            turns.append(_call_part(part) if kind == "tool_use" else _result_part(part, media))
        else:
            text += _part(part, kind, media)
    return turns + ([{"role": role, "content": text}] if text else [])


def _part(part: Any, kind: str, media: Media) -> str:
    if isinstance(part, str):
        return part
    column = PARTS.get(kind)
    if column is None:
        if "text" not in part:
            raise ShapelessRow(f"has a part of the kind {kind[:40]!r}")
        return str(part["text"])
    value = part.get(kind, part.get("source"))
    if isinstance(value, dict):
        coded = f"data:{value.get('media_type', 'image/png')};base64,{value['data']}" if value.get("data") else None
        value = value.get("url") or coded or value.get("path")
    if not value:
        raise ShapelessRow(f"has an empty {kind}")
    media[column].append(value)
    return MARKS[column]


def _call_part(part: dict[str, Any]) -> Turn:
    return {"role": "tool_call", "content": _as_text({"name": part.get("name"), "arguments": part.get("input", {})})}


def _result_part(part: dict[str, Any], media: Media) -> Turn:
    said = _said("tool_response", part.get("content", ""), media)
    return {"role": "tool_response", "content": "".join(turn["content"] for turn in said)}


def _calls(message: dict[str, Any]) -> list[Any]:
    calls = message.get("tool_calls") or message.get("function_call") or []
    return calls if isinstance(calls, list) else [calls]


def _call(call: Any) -> str:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not function.get("name"):
        raise ShapelessRow("calls a tool without a name")
    arguments = function.get("arguments", {})
    return _as_text({"name": function["name"], "arguments": messages_in(arguments)})


def _results_in_order(messages: list[Any]) -> list[Any]:
    """The messages with the results of calls in the order of the calls, as ms-swift tells them apart by place alone."""
    found = list(messages)
    for place, message in enumerate(messages):
        calls = _calls(message) if isinstance(message, dict) else []
        order = {call.get("id"): number for number, call in enumerate(calls) if isinstance(call, dict)}
        end = place + 1 + len(order)
        results = found[place + 1 : end]
        answered = [result.get("tool_call_id") for result in results if isinstance(result, dict)]
        if len(order) > 1 and None not in order and sorted(map(str, answered)) == sorted(map(str, order)):
            found[place + 1 : end] = sorted(results, key=lambda result: order[result["tool_call_id"]])
    return found


def before_answer(messages: list[Turn]) -> list[Turn]:
    """The conversation without the answer that it ends with; as it is where it ends with none."""
    return messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages


def _as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
