"""Which model a name means, how large it is, and what ms-swift must know of it."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError, closest
from tunekit.files import path_of, read_text
from tunekit.plan.models.catalogue import called, id_of, read_catalogue
from tunekit.plan.models.config import kept_config, quantization, read_config
from tunekit.plan.models.model import Model, is_moe, parameters

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE_MARKERS = (
    ("You are Qwen, created by Alibaba Cloud", "qwen2_5"),
    ("<|im_start|>", "chatml"),
    ("<|start_header_id|>", "llama3_2"),
    ("<start_of_turn>", "gemma"),
    ("<|start|>assistant<|channel|>", "gpt_oss"),
    ("[gMASK]", "chatglm4"),
    ("<|user|>", "zephyr"),
    ("<<SYS>>", "llama"),
    ("[INST]", "llama"),
)
"""What a chat template writes, and the template of ms-swift that writes the same; the first match counts."""


SENSES = re.compile(
    r"(?<![a-z])(vl\d?|vlm|vision|visual|omni|audio|llava|multimodal|mllm|ocr|image|video|speech|asr|4v)(?![a-z])"
)
"""Words in the lower-case name of a model that sees or hears."""


SEEMS_TO_SEE = (
    "it is in no list of ms-swift, and by its name it sees or hears: as a model of text its images would count in "
    "neither memory nor checks"
)

BYTES_PER_WEIGHT = {"float32": 4, "float16": 2, "bfloat16": 2}


def resolve(name: str, *, use_hf: bool = False) -> Model:
    """The model that `name` means: a folder, a hub id, or the id without its organisation.

    Ids are those of Hugging Face with `use_hf`, else of ModelScope, ms-swift's default. Raises TunekitError where there
    is no such model, several have that name, or a folder holds none.
    """
    model = _named(name, use_hf=use_hf)
    config = None if model.local else kept_config(model)
    return replace(model, **({"quantized": "", "bits": None} | quantization(model.id, config))) if config else model


def as_type(model: Model, model_type: str) -> Model:
    """A model that tunekit does not know, as ms-swift takes it with that ``--model_type``."""
    known = read_catalogue()["types"].get(model_type)
    if model.family is not None or known is None:
        return model
    left = tuple(item for item in model.undecided if item[0] != "model_type")
    seen, moe = model.multimodal or known["multimodal"], model.moe or is_moe(model.id, model_type)
    return replace(model, family=model_type, multimodal=seen, moe=moe, undecided=left, note="")


def _named(name: str, *, use_hf: bool) -> Model:
    folder = path_of(name)
    is_folder, is_file = folder.is_dir(), folder.is_file()
    if is_folder:
        return _local(folder)
    if is_file:
        raise TunekitError(f"{name} is a file, not a model's folder")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise TunekitError(f"model folder {name} does not exist")
    if "/" in name:
        rows = read_catalogue()["models"]
        row = next((row for row in rows if name.lower() in {str(hub_id).lower() for hub_id in row[:2]}), None)
        if row is None:
            note = (
                f"{name} is not in the list of ms-swift {read_catalogue()['version']}: it finds the type from the files"
            )
            sees = SENSES.search(name.rsplit("/", maxsplit=1)[-1].lower())
            undecided = (("model_type", SEEMS_TO_SEE),) if sees else ()
            return Model(
                *(name, parameters(name)), moe=is_moe(name, ""), note=note, undecided=undecided, **quantization(name)
            )
        return _listed(name if use_hf or name == row[1] else id_of(row), row, use_hf=use_hf)
    named = called(name)
    if len(named) == 1:
        return _listed(id_of(named[0], use_hf=use_hf), named[0], use_hf=use_hf)
    if named:
        ids = ", ".join(id_of(row, use_hf=use_hf) for row in named)
        raise TunekitError(f"several models are called {name}", f"name one in full: {ids}")
    raise TunekitError(f"no model is called {name}", _candidates(name))


def _listed(hub_id: str, row: list[Any], *, use_hf: bool) -> Model:
    modelscope, _, family, _ = row
    return Model(
        hub_id,
        parameters(hub_id),
        family,
        multimodal=read_catalogue()["types"][family]["multimodal"],
        moe=is_moe(hub_id, family),
        hugging_face=not use_hf and hub_id != modelscope,
        **quantization(hub_id),
    )


def _candidates(name: str) -> str:
    ids = {hub_id.split("/")[-1]: hub_id for row in read_catalogue()["models"] for hub_id in row[:2] if hub_id}
    inside = sorted((short for short in ids if name.lower() in short.lower()), key=lambda short: (len(short), short))
    near = inside[:6] or closest(name, ids, limit=6)
    if near:
        return f"did you mean {', '.join(ids[short] for short in near)}?"
    return "give the hub id in full (organisation/name) or a folder"


def _local(folder: Path) -> Model:
    config = read_config(folder / "config.json")
    if config is None:
        adapter = (folder / "adapter_config.json").is_file()
        hint = "it is an adapter: name its base model with --model and this folder with --adapters" if adapter else None
        raise TunekitError(f"{folder} holds no model: there is no config.json", hint)
    trained = read_config(folder / "args.json") or {}
    kind, template = (word if isinstance(word := trained.get(key), str) else None for key in ("model_type", "template"))
    model = _known_by_name(folder)
    if model is None:
        model = _by_architecture(folder, config, kind)
        if template:
            left = tuple(item for item in model.undecided if item[0] != "template")
            model = replace(model, template=template, undecided=left)
    inner = config.get("text_config")
    text_config = inner if isinstance(inner, dict) and inner else config
    return replace(
        model,
        id=str(folder),
        params_b=_weights(folder, config) or parameters(folder.name),
        multimodal=model.multimodal or "vision_config" in config,
        moe=model.moe or any("expert" in key and value for key, value in text_config.items()),
        local=True,
        hugging_face=False,
        **({"quantized": "", "bits": None} | quantization(folder.name, config)),
    )


def _known_by_name(folder: Path) -> Model | None:
    """ms-swift recognises a folder that bears the name of a model it knows; hub caches are read as it reads them."""
    cached = re.search(r"/models--(?:.+?--)?(.+?)/snapshots/", f"{folder.resolve()}/")
    named = called((cached[1] if cached else folder.resolve().name).replace("___", "."))
    return _listed(id_of(named[0]), named[0], use_hf=False) if named else None


def _by_architecture(folder: Path, config: dict[str, Any], trained_type: str | None) -> Model:
    """Several model types may share an architecture: ms-swift refuses a plain Llama folder for that reason."""
    catalogue = read_catalogue()
    architecture = _architecture(config)
    types = catalogue["architectures"].get(architecture, [])
    named = trained_type or str(config.get("model_type"))
    family = types[0] if len(types) == 1 else named if named in types else None
    if family is None and types:
        reason = f"{architecture} may be any of {', '.join(types)}"
        return Model(str(folder), undecided=(("model_type", reason),))
    if family is None:
        unlisted = f"ms-swift lists no model of the architecture {architecture}"
        return Model(str(folder), note=f"{unlisted}: it trains with a template that adds nothing")
    known = catalogue["types"][family]
    guess = _template_with_images(family) if known["multimodal"] else chat_template(folder)
    template = None if known["template"] else guess
    unknown = template is None and known["template"] is None
    return Model(
        str(folder),
        family=family,
        model_type=family if len(types) > 1 else None,
        template=template,
        multimodal=known["multimodal"],
        moe=is_moe(folder.name, family),
        undecided=(("template", "its chat template is none that tunekit recognises"),) if unknown else (),
    )


def _architecture(config: dict[str, Any]) -> str:
    """The first class that a config.json names; ``null`` where it names none."""
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named else None
    return first if isinstance(first, str) and first else "null"


def _template_with_images(family: str) -> str | None:
    """The template of a family that sees or hears: one for text would leave the images out, without a word."""
    known = {row[3] for row in read_catalogue()["models"] if row[2] == family}
    return family if family in known else known.pop() if len(known) == 1 else None


def chat_template(folder: Path) -> str | None:
    """ms-swift's name for the chat template in a model folder, by the marks that it writes; None where unknown."""
    jinja = folder / "chat_template.jinja"
    written = ""
    with contextlib.suppress(OSError, ValueError):
        written = read_text(jinja)
    for name in ("tokenizer_config.json", "chat_template.json"):
        written += json.dumps((read_config(folder / name) or {}).get("chat_template", ""), ensure_ascii=False)
    return next((template for mark, template in TEMPLATE_MARKERS if mark in written), None)


def _weights(folder: Path, config: dict[str, Any]) -> float | None:
    """Billions of weights in a folder, from the size of its safetensors files and their type."""
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors") if file.is_file())
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "")
    if not size or dtype not in BYTES_PER_WEIGHT or "quantization_config" in config:
        return None
    return size / BYTES_PER_WEIGHT[dtype] / 1e9
