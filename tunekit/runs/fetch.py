"""The one small file that tunekit may ask a model hub for: config.json. A few kilobytes; never weights or code."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.files import keep_answer
from tunekit.plan.models.catalogue import hub_ids
from tunekit.plan.models.config import config_of, kept_config, shipped_config, unknown_shape, usable_config
from tunekit.plan.models.hub import answer_place

if TYPE_CHECKING:
    from collections.abc import Sequence
    from urllib.request import Request

    from tunekit.plan.models.model import Model

TIMEOUT = 3.0
"""Seconds a hub may take; whoever waits longer downloads the model anyway."""

LARGEST = 2**20
"""Bytes of a config.json that are read: real ones have a few thousand."""

HUGGING_FACE, MODELSCOPE = "https://huggingface.co", "https://www.modelscope.cn"

TRUE = ("1", "true", "yes", "on")
"""Words that switch a variable on (huggingface_hub/constants.py)."""


def find_config(model: Model) -> dict[str, Any]:
    """A model's config.json; may ask a hub, for seconds. Raises TunekitError where none gives its shape."""
    if model.local or shipped_config(model) or kept_config(model):
        return config_of(model)
    first = model.hugging_face or os.environ.get("USE_HF", "").lower() in TRUE
    try:
        found = fetch_config(hub_ids(model), hugging_face_first=first)
    except TunekitError as error:
        raise unknown_shape(model, error.message) from error
    return usable_config(model, found)


def fetch_config(ids: Sequence[str], *, hugging_face_first: bool) -> dict[str, Any]:
    """Ask the hubs for the config.json of a model, and keep it.

    ``HF_ENDPOINT``, ``MODELSCOPE_ENDPOINT`` and ``MODELSCOPE_DOMAIN`` name other hosts, ``HF_HUB_OFFLINE`` forbids the
    question. ``HF_TOKEN`` goes to Hugging Face only, in a header that no redirect carries on. Raises TunekitError where
    neither hub gives it; the message says why.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in TRUE:
        raise TunekitError("HF_HUB_OFFLINE is set")
    hubs = (_hugging_face, _modelscope) if hugging_face_first else (_modelscope, _hugging_face)
    problems = []
    for hub in hubs:
        try:
            config = _read(hub(ids))
        except TunekitError as error:
            problems.append(error.message)
            continue
        keep_answer(answer_place(ids[0]), config)
        return config
    raise TunekitError("; ".join(problems))


def _hugging_face(ids: Sequence[str]) -> Request:
    """The last of the ids is that of Hugging Face, where a model has two."""
    endpoint = (os.environ.get("HF_ENDPOINT") or HUGGING_FACE).rstrip("/")
    request = _request(f"{endpoint}/{ids[-1]}/resolve/main/config.json")
    token = os.environ.get("HF_TOKEN", "").strip()
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


def _modelscope(ids: Sequence[str]) -> Request:
    endpoint = os.environ.get("MODELSCOPE_ENDPOINT") or os.environ.get("MODELSCOPE_DOMAIN") or MODELSCOPE
    endpoint = (endpoint if "://" in endpoint else f"https://{endpoint}").rstrip("/")
    return _request(f"{endpoint}/models/{ids[0]}/resolve/master/config.json")


def _request(address: str) -> Request:
    from urllib.request import Request  # 20 ms that only a question to a hub should cost

    if not address.startswith(("https://", "http://")):
        raise TunekitError(f"{address} is no address of a hub")
    return Request(address, headers={"User-Agent": "tunekit"})  # noqa: S310 - the scheme is checked above


def _read(request: Request) -> dict[str, Any]:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        with urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310 - the scheme was checked by _request
            document = json.loads(answer.read(LARGEST).decode("utf-8"))
    except HTTPError as error:
        raise TunekitError(f"{request.host} answers {error.code} {error.reason}") from None
    except (OSError, ValueError, HTTPException) as error:  # no network, no such host, an answer that is no JSON
        raise TunekitError(f"{request.host}: {getattr(error, 'reason', None) or error}") from None
    if not isinstance(document, dict) or not (document.get("model_type") or document.get("architectures")):
        raise TunekitError(f"{request.host} answers something that is no config.json")
    return document
