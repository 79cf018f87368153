"""Where the weights of a model come from: a folder, a hub's cache, or how much there is to fetch. Nobody is asked."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tunekit.errors import TunekitError
from tunekit.files import path_of, read_json
from tunekit.memory.geometry import Geometry
from tunekit.plan.models.catalogue import hub_ids
from tunekit.plan.models.config import config_of
from tunekit.plan.models.hub import folders_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tunekit.plan.models.model import Model

FOLDER, HUGGING_FACE, MODELSCOPE = "folder", "Hugging Face", "ModelScope"

MIRRORS = {HUGGING_FACE: ("HF_ENDPOINT",), MODELSCOPE: ("MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN")}
"""Variables that name another host (huggingface_hub/constants.py, modelscope/hub/constants.py)."""

GATED = (
    *("meta-llama/", "google/gemma", "google/codegemma", "google/paligemma", "google/recurrentgemma"),
    *("google/medgemma", "google/shieldgemma", "coherelabs/", "cohereforai/", "mistralai/mistral-7b"),
    *("mistralai/mixtral", "mistralai/ministral", "mistralai/codestral", "mistralai/mistral-nemo"),
)
"""Families whose pages on Hugging Face ask for consent; ModelScope hands them out without."""

WEIGHTS = ("*.safetensors", "*.bin")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")

TRUE = ("1", "true", "yes", "on")
"""Words that switch a variable on (huggingface_hub/constants.py)."""


@dataclass(frozen=True)
class ModelSource:
    """Where the weights of a model come from.

    Attributes:
        hub: ``folder``, or the name of a hub.
        mirror: the host that is asked instead of the hub's own; empty for its own.
        folder: where they are on this machine, whole; empty where they are to be fetched.
        gigabytes: of the weights, 10^9 bytes; None where their number is not known.
        note: what may stand in the way, for people; empty where nothing is known to.
    """

    hub: str
    mirror: str = ""
    folder: str = ""
    gigabytes: float | None = None
    note: str = ""

    def in_words(self) -> str:
        """One line for people."""
        size = "" if self.gigabytes is None else f"{_size(self.gigabytes)} of weights"
        if self.hub == FOLDER:
            return ", ".join(filter(None, (f"the folder {self.folder}", size, self.note)))
        by = f" by way of {self.mirror}" if self.mirror else ""
        to_fetch = (
            f"about {_size(self.gigabytes)} to fetch" if self.gigabytes else "to be fetched, nobody knows how much"
        )
        where = f"in its cache here, whole: {self.folder}" if self.folder else to_fetch
        return "; ".join(filter(None, (f"{self.hub}{by}, {where}", self.note)))


def source_of(model: Model, environ: Mapping[str, str], *, use_hf: bool) -> ModelSource:
    """Where ms-swift would take a model from; `use_hf` says which hub (ms-swift's utils/hub_utils.py)."""
    if model.local:
        folder = path_of(model.id)
        return ModelSource(FOLDER, folder=str(folder), gigabytes=_on_disk(folder), note=_incomplete(folder))
    hub = HUGGING_FACE if use_hf else MODELSCOPE
    ids = hub_ids(model)
    folders = {name: _whole(folders_of(ids, hugging_face=name == HUGGING_FACE)) for name in (HUGGING_FACE, MODELSCOPE)}
    here = folders[hub]
    notes = [] if here else _obstacles(model, environ, hub)
    other = folders[HUGGING_FACE if hub == MODELSCOPE else MODELSCOPE]
    if other and not here:
        switch = "--use_hf true" if hub == MODELSCOPE else "--use_hf false"
        notes.insert(0, f"although it is in the other hub's cache: --model {other}, or {switch}, takes that")
    size = _on_disk(here) if here else _to_fetch(model)
    return ModelSource(hub, _mirror(hub, environ), str(here or ""), size, "; ".join(notes))


def _obstacles(model: Model, environ: Mapping[str, str], hub: str) -> list[str]:
    """What may keep a hub from giving a model."""
    notes = []
    offline = [name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if environ.get(name, "").lower() in TRUE]
    if offline and hub == HUGGING_FACE:
        notes.append(f"{offline[0]} is set, so a start would not find it")
    if hub == HUGGING_FACE and hub_ids(model)[-1].lower().startswith(GATED):
        logged = environ.get("HF_TOKEN") or _token_file(environ).is_file()
        notes.append("gated: its terms must be accepted on its page" + ("" if logged else ", and HF_TOKEN is not set"))
    elif model.family is None:
        notes.append("in no list of ms-swift: whether it is there, and who may have it, shows when it starts")
    if hub == MODELSCOPE and environ.get("HF_ENDPOINT"):
        notes.append("HF_ENDPOINT is for --use_hf true")
    return notes


def _token_file(environ: Mapping[str, str]) -> Path:
    home = environ.get("HF_HOME") or f"{environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return path_of(environ.get("HF_TOKEN_PATH") or f"{home}/token")


def _mirror(hub: str, environ: Mapping[str, str]) -> str:
    """The host of a mirror, without what may be secret in its address."""
    address = next((environ[name] for name in MIRRORS[hub] if environ.get(name)), "")
    try:
        host = urlsplit(address if "://" in address else f"https://{address}").hostname or "" if address else ""
    except ValueError:
        return "an address that is none"
    return "" if host in ("huggingface.co", "www.modelscope.cn", "modelscope.cn") else host


def _whole(folders: list[Path]) -> Path | None:
    """The first of these folders that holds a model with all its weights."""
    return next((folder for folder in folders if (folder / "config.json").is_file() and not _incomplete(folder)), None)


def _incomplete(folder: Path) -> str:
    """What is missing of the weights in a folder, for people; empty where they are whole."""
    for name in INDEXES:
        try:
            index = read_json(folder / name)
        except (OSError, ValueError):
            continue
        pieces = index.get("weight_map") if isinstance(index, dict) else None
        files = {str(piece) for piece in pieces.values()} if isinstance(pieces, dict) else set()
        missing = sorted(file for file in files if not (folder / file).is_file())
        return f"{len(missing)} of {len(files)} files of weights are missing" if missing else ""
    return "" if any(next(folder.glob(kind), None) for kind in WEIGHTS) else "there are no weights in it"


def _on_disk(folder: Path) -> float:
    kinds = ([file for file in folder.glob(kind) if file.is_file()] for kind in WEIGHTS)
    return sum(file.stat().st_size for file in next((files for files in kinds if files), [])) / 1e9


def _to_fetch(model: Model) -> float | None:
    """About how large the files of a model are; hubs keep weights in 16 bits, or in those of their quantization."""
    billions = model.params_b
    if not model.multimodal:  # the known shape of one that sees is that of its language model
        with contextlib.suppress(TunekitError):  # the name says it less exactly, or not at all
            billions = Geometry.from_config(config_of(model)).parameters / 1e9
    if model.quantized and model.bits is None:
        return None
    return billions * (model.bits or 16) / 8 if billions else None


def _size(gigabytes: float) -> str:
    return f"{gigabytes:.1f} GB" if gigabytes >= 0.1 else f"{1000 * gigabytes:.0f} MB"
