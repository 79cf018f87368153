"""What model hubs have left on this machine, and the one small file that tunekit may ask them for: config.json."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.files import cache_folder, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from urllib.request import Request

TIMEOUT = 3.0
"""Seconds a hub may take; whoever waits longer downloads the model anyway."""

LARGEST = 2**20
"""Bytes of a config.json that are read: real ones have a few thousand."""

HUGGING_FACE, MODELSCOPE = "https://huggingface.co", "https://www.modelscope.cn"

TRUE = ("1", "true", "yes", "on")
"""Words that switch a variable on (huggingface_hub/constants.py)."""


def cached_folder(ids: Sequence[str]) -> Path | None:
    """The folder of a model that a hub's client has downloaded, with at least its config.json; None without one.

    Args:
        ids: hub ids of the model, each ``organisation/name``.
    """
    return next((folder for folder in _folders(ids) if (folder / "config.json").is_file()), None)


def _folders(ids: Sequence[str]) -> Iterator[Path]:
    """Where the clients of both hubs would have put a model (huggingface_hub 1, modelscope 1.9 to 1.40)."""
    modelscope = Path(os.environ.get("MODELSCOPE_CACHE") or Path.home() / ".cache" / "modelscope").expanduser()
    for hub_id in ids:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id):
            continue
        yield from _snapshots(_hugging_face_cache() / f"models--{hub_id.replace('/', '--')}", "main")
        owner, name = hub_id.split("/")
        yield from _snapshots(modelscope / "models" / f"{owner}--{name}", "master")
        for root in (modelscope / "models", modelscope / "hub" / "models", modelscope, modelscope / "hub"):
            yield root / owner / name.replace(".", "___")
            yield root / owner / name


def _hugging_face_cache() -> Path:
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if named:
        return Path(named).expanduser()
    home = os.environ.get("HF_HOME")
    shared = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(home) if home else shared / "huggingface").expanduser() / "hub"


def _snapshots(repository: Path, branch: str) -> Iterator[Path]:
    """The snapshot that the branch points to, then the others, newest first."""
    with contextlib.suppress(OSError):
        yield repository / "snapshots" / (repository / "refs" / branch).read_text(encoding="utf-8").strip()
    with contextlib.suppress(OSError):
        yield from sorted(
            (repository / "snapshots").iterdir(), key=lambda folder: folder.stat().st_mtime_ns, reverse=True
        )


def kept_config(hub_id: str) -> dict[str, Any] | None:
    """A config.json that `fetch_config` has brought before; None without one, or where it is damaged."""
    try:
        document = json.loads(_place(hub_id).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def fetch_config(ids: Sequence[str], *, hugging_face_first: bool) -> dict[str, Any]:
    """Ask the hubs for the config.json of a model, and keep it. A few kilobytes; never weights or code.

    ``HF_ENDPOINT``, ``MODELSCOPE_ENDPOINT`` and ``MODELSCOPE_DOMAIN`` name other hosts, ``HF_HUB_OFFLINE`` forbids
    the question. ``HF_TOKEN`` goes to Hugging Face only, in a header that no redirect carries on.

    Args:
        ids: hub ids of the model.
        hugging_face_first: whether to ask Hugging Face before ModelScope.

    Raises:
        TunekitError: neither hub gives it; the message says why.
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
        with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to withhold the answer
            write_atomically(_place(ids[0]), json.dumps(config))
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
    """The answer to a request, which must be a JSON object."""
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


def _place(hub_id: str) -> Path:
    return cache_folder() / "configs" / f"{hub_id.lower().replace('/', '--')}.json"
