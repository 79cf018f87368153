"""Which model a name means, how large it is, and what ms-swift must know of it."""

from __future__ import annotations

import contextlib
import json
import math
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError, closest
from tunekit.files import path_of, read_json, read_text, shortened
from tunekit.plan.models.hub import cached_folder, kept_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

MORE_TEMPLATES = ("deepseek_coder", "xcomposer2_4khd")
"""Templates of ms-swift that no model of its registry has."""

CATALOGUE = Path(__file__).with_name("catalogue.json")
"""The models of ms-swift's registry; ``scripts/snapshots`` writes it."""

CONFIGS = Path(__file__).with_name("configs.json")
"""The shape of common models: the numbers of their config.json that decide the memory."""

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

QUANTIZED = re.compile(
    r"aqlm|awq|gptq|int4|int8|nvfp4|fp8|bnb|hqq|eetq|gguf|mlx|exl2|auto-?round|w\da\d{1,2}|\dbits?(?![a-z])"
)
"""Marks in the lower-case name of a model whose weights come quantized: not the shape of its base."""

BITS = re.compile(r"int([48])(?!\d)|(?<![\da-z])([2-8])-?bits?(?![a-z])|fp([48])(?!\d)|w([48])a\d")
"""Of the weights, in such a name."""

UNPACKED = ("mxfp4",)
"""Quantizations that transformers undoes where the model is trained, gpt-oss's."""

SENSES = re.compile(
    r"(?<![a-z])(vl\d?|vlm|vision|visual|omni|audio|llava|multimodal|mllm|ocr|image|video|speech|asr|4v)(?![a-z])"
)
"""Words in the lower-case name of a model that sees or hears."""

SMALLEST_B = 0.1
"""Billions of parameters below which they are counted in millions."""

BYTES_PER_WEIGHT = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Model:
    """A model as the plan needs it.

    Attributes:
        id: what ``--model`` gets: a hub id or a folder.
        params_b: billions of parameters, None where neither name nor files say.
        family: ms-swift's model type where it is known.
        model_type: to pass as ``--model_type``; None where ms-swift finds it itself.
        template: to pass as ``--template``; None likewise.
        multimodal: takes images, video or sound.
        moe: a mixture of experts.
        local: a folder on this machine.
        hugging_face: the id exists on Hugging Face only; ms-swift asks ModelScope by default.
        quantized: how its weights come quantized (``gptq``), and `bits` of them; empty where they do not.
        note: a warning for the user, empty where there is none.
        undecided: flags that the user must give, each with the reason.
    """

    id: str
    params_b: float | None = None
    family: str | None = None
    model_type: str | None = None
    template: str | None = None
    multimodal: bool = False
    moe: bool = False
    local: bool = False
    hugging_face: bool = False
    quantized: str = ""
    bits: int | None = None
    note: str = ""
    undecided: tuple[tuple[str, str], ...] = ()

    @property
    def short(self) -> str:
        """The name without its organisation, in lower case: what a run is called after."""
        return (Path(self.id).resolve() if self.local else Path(self.id)).name.lower()

    @property
    def shown(self) -> str:
        """For people: the id at a hub, the name of a folder."""
        return (Path(self.id).resolve().name or self.id) if self.local else self.id

    @property
    def size(self) -> str:
        """For people: ``7B``, ``3.2M``, or that it is not known."""
        if not self.params_b:
            return "size unknown"
        return f"{self.params_b:.3g}B" if self.params_b >= SMALLEST_B else f"{1000 * self.params_b:.2g}M"

    @property
    def named(self) -> str:
        """Name and size for people, where the name does not say the size."""
        told = self.params_b and f"{self.params_b:g}b" in self.shown.lower()
        return self.shown if told else f"{self.shown} · {self.size}"


@cache
def _catalogue() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    return document


def _called(name: str) -> list[list[Any]]:
    """The rows of the catalogue for a name without its organisation."""
    rows, name = _catalogue()["models"], name.lower()
    return [row for row in rows if name in {str(hub_id).split("/")[-1].lower() for hub_id in row[:2]}]


def _hub_id(row: list[Any], *, use_hf: bool = False) -> str:
    return str(row[1] or row[0] if use_hf else row[0] or row[1])


def template_names() -> frozenset[str]:
    """The templates that ms-swift knows by name."""
    catalogue = _catalogue()
    of_types = {known["template"] for known in catalogue["types"].values() if known["template"]}
    return frozenset({*of_types, *(row[3] for row in catalogue["models"] if row[3]), *MORE_TEMPLATES})


def type_names() -> frozenset[str]:
    """The model types that ms-swift knows by name."""
    return frozenset(_catalogue()["types"])


def hub_names() -> frozenset[str]:
    """The names of all listed models, in lower case and without their organisations."""
    return frozenset(hub_id.split("/")[-1].lower() for row in _catalogue()["models"] for hub_id in row[:2] if hub_id)


def resolve(name: str, *, use_hf: bool = False) -> Model:
    """The model that `name` means: a folder, a hub id, or the id without its organisation.

    Ids are those of Hugging Face with `use_hf`, else of ModelScope, ms-swift's default. Raises TunekitError where there
    is no such model, several have that name, or a folder holds none.
    """
    folder = path_of(name)
    is_folder, is_file = folder.is_dir(), folder.is_file()
    if is_folder:
        return _local(folder)
    if is_file:
        raise TunekitError(f"--model {name} is a file, not a model's folder")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise TunekitError(f"model folder {name} does not exist")
    if "/" in name:
        rows = _catalogue()["models"]
        row = next((row for row in rows if name.lower() in {str(hub_id).lower() for hub_id in row[:2]}), None)
        if row is None:
            note = f"{name} is not in the list of ms-swift {_catalogue()['version']}: it finds the type from the files"
            if SENSES.search(name.rsplit("/", maxsplit=1)[-1].lower()):
                note += (
                    "; by its name it sees or hears, and it is planned like a model of text: its images count in "
                    "neither memory nor checks, and --model_type says what it is"
                )
            return Model(name, parameters(name), moe=_moe(name, ""), note=note, **_quantization(name))
        return _listed(name if use_hf or name == row[1] else _hub_id(row), row, use_hf=use_hf)
    named = _called(name)
    if len(named) == 1:
        return _listed(_hub_id(named[0], use_hf=use_hf), named[0], use_hf=use_hf)
    if named:
        ids = ", ".join(_hub_id(row, use_hf=use_hf) for row in named)
        raise TunekitError(f"several models are called {name}", f"name one in full: {ids}")
    raise TunekitError(f"no model is called {name}", _candidates(name))


def _listed(hub_id: str, row: list[Any], *, use_hf: bool) -> Model:
    modelscope, _, family, _ = row
    return Model(
        hub_id,
        parameters(hub_id),
        family,
        multimodal=_catalogue()["types"][family]["multimodal"],
        moe=_moe(hub_id, family),
        hugging_face=not use_hf and hub_id != modelscope,
        **_quantization(hub_id),
    )


def _quantization(name: str, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """How the weights of a model come quantized, by its config.json, or by its name where that is not here."""
    said = (config or {}).get("quantization_config")
    if isinstance(said, dict):
        method = str(said.get("quant_method") or ("bitsandbytes" if "load_in_4bit" in said else "quantized"))
        in_bits = [said.get("bits"), said.get("w_bit"), 4 if said.get("load_in_4bit") is True else None]
        in_bits += [8 if said.get("load_in_8bit") is True or "fp8" in method else None]
        bits = next((bits for bits in in_bits if isinstance(bits, int) and not isinstance(bits, bool)), None)
        return {} if method in UNPACKED else {"quantized": method, "bits": bits}
    short = name.rsplit("/", maxsplit=1)[-1].lower()
    mark = QUANTIZED.search(short) if config is None else None
    if mark is None:
        return {}
    found = BITS.search(short)
    bits = int(next(filter(None, found.groups()))) if found else 4 if mark[0] in ("awq", "bnb", "gptq") else None
    return {"quantized": mark[0], "bits": bits}


def positions_of(model: Model) -> int | None:
    """How many tokens of a row a model can tell apart, by its config.json; None where that is not here."""
    try:
        config = config_of(model) if model.local else kept_config(model) or config_of(model)
    except TunekitError:
        return None
    text = config.get("text_config")
    text = text if isinstance(text, dict) else config
    most = text.get("max_position_embeddings") or config.get("max_position_embeddings")
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        return None
    scaling = text.get("rope_scaling") or text.get("rope_parameters") or config.get("rope_scaling")
    scaling = scaling if isinstance(scaling, dict) else {}
    factor, original = scaling.get("factor"), scaling.get("original_max_position_embeddings")
    stretched = [number for number in (factor, original) if isinstance(number, (int, float)) and 0 < number < 1e9]
    return max(most, int(math.prod(stretched))) if len(stretched) == 2 else most


def _candidates(name: str) -> str:
    ids = {hub_id.split("/")[-1]: hub_id for row in _catalogue()["models"] for hub_id in row[:2] if hub_id}
    inside = sorted((short for short in ids if name.lower() in short.lower()), key=lambda short: (len(short), short))
    near = inside[:6] or closest(name, ids, limit=6)
    if near:
        return f"did you mean {', '.join(ids[short] for short in near)}?"
    return "give the hub id in full (organisation/name) or a folder"


def config_of(model: Model) -> dict[str, Any]:
    """The config.json of a model: from its folder, the shipped one of a common model, or what a hub has left here.

    Raises TunekitError where it is nowhere here, or does not say the shape of the weights.
    """
    if model.local:
        return _json(Path(model.id) / "config.json") or {}
    found = shipped_config(model) or kept_config(model)
    if found is None:
        raise unknown_shape(model)
    return usable_config(model, found)


def kept_config(model: Model) -> dict[str, Any] | None:
    """A model's config.json, as the hubs' clients or tunekit itself have left it here; None where they have not."""
    folder = cached_model(model)
    return (_json(folder / "config.json") if folder else None) or kept_answer(hub_ids(model)[0])


def usable_config(model: Model, config: dict[str, Any]) -> dict[str, Any]:
    """A config.json that came from a hub. Raises TunekitError where it does not say the shape of the weights."""
    if "quantization_config" in config:
        raise TunekitError(f"the weights of {model.id} come quantized, which the prediction does not know")
    return config


def unknown_shape(model: Model, problem: str = "") -> TunekitError:
    """What is raised where a model's config.json is nowhere to be had."""
    why = f" ({problem})" if problem else ""
    hint = "download the model and give its folder: --model ./folder"
    return TunekitError(f"the shape of {model.id} is not known here{why}", hint)


def cached_model(model: Model) -> Path | None:
    """The folder of a model on this machine: its own, or that of a hub's client; None where there is neither."""
    return Path(model.id) if model.local else cached_folder(hub_ids(model))


def hub_ids(model: Model) -> tuple[str, ...]:
    """The ids of a model on the hubs: on ModelScope, then on Hugging Face, where ms-swift knows both."""
    row = next((row for row in _catalogue()["models"] if model.id in row[:2]), None)
    return (_hub_id(row), _hub_id(row, use_hf=True)) if row else (model.id,)


@cache
def _configs() -> dict[str, dict[str, Any]]:
    """The shipped shapes by the lower-case name of the model, without its organisation."""
    shipped: dict[str, dict[str, Any]] = json.loads(CONFIGS.read_text(encoding="utf-8"))
    return {known.split("/")[-1].lower(): config for known, config in shipped.items()}


def shipped_config(model: Model) -> dict[str, Any] | None:
    """The shape of a common model. Chat versions share that of their base: Qwen2.5-7B-Instruct is a Qwen2.5-7B."""
    name = model.id.split("/")[-1].lower().removeprefix("meta-")
    if QUANTIZED.search(name):
        return None
    fitting = [base for base in _configs() if f"{name}-".startswith(f"{base}-")]
    if not fitting:
        return None
    found = _configs()[max(fitting, key=len)]
    # Phi-4-multimodal is no Phi-4: what sees or hears has the shape of a model that does.
    return dict(found) if model.multimodal == ("vision_config" in found) else None


def parameters(name: str) -> float | None:
    """Billions of parameters that a model's name says: 7 for ``Qwen2.5-7B``, 0.135 for ``SmolLM2-135M``.

    ``8x7B`` counts 0.83 of the product, since only the feed-forward layers are multiplied: Mixtral-8x7B has
    46.7 billion (https://arxiv.org/abs/2401.04088). Active parameters (``A3B``) are not counted.
    """
    short = name.rsplit("/", maxsplit=1)[-1]
    experts = re.search(r"(\d+)x(\d+(?:\.\d+)?)b", short, re.IGNORECASE)
    if experts:
        return round(int(experts[1]) * float(experts[2]) * 0.83, 1)
    if re.search(r"\d+b-\d+e\b", short, re.IGNORECASE):  # Llama-4-Scout-17B-16E: 17 billion of 109 are active
        return None
    size = re.search(r"(?<![a-z0-9.])((?:(?<!_)\d_)?\d+(?:\.\d+)?)([bmt])(?![a-z0-9])", short, re.IGNORECASE)
    return float(size[1].replace("_", ".")) * {"m": 0.001, "b": 1, "t": 1000}[size[2].lower()] if size else None


def _moe(name: str, family: str) -> bool:
    marked = re.search(r"-a\d+(\.\d+)?b|\d+b-\d+e\b|\d+x\d+(\.\d+)?b|moe", name.lower())
    return bool(marked) or family in ("gpt_oss", "mixtral") or "moe" in family


def _local(folder: Path) -> Model:
    config = _json(folder / "config.json")
    if config is None:
        adapter = (folder / "adapter_config.json").is_file()
        hint = "it is an adapter: name its base model with --model and this folder with --adapters" if adapter else None
        raise TunekitError(f"{folder} holds no model: there is no config.json", hint)
    trained = _json(folder / "args.json") or {}
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
        **({"quantized": "", "bits": None} | _quantization(folder.name, config)),
    )


def _known_by_name(folder: Path) -> Model | None:
    """ms-swift recognises a folder that bears the name of a model it knows; hub caches are read as it reads them."""
    cached = re.search(r"/models--(?:.+?--)?(.+?)/snapshots/", f"{folder.resolve()}/")
    named = _called((cached[1] if cached else folder.resolve().name).replace("___", "."))
    return _listed(_hub_id(named[0]), named[0], use_hf=False) if named else None


def _by_architecture(folder: Path, config: dict[str, Any], trained_type: str | None) -> Model:
    """Several model types may share an architecture: ms-swift refuses a plain Llama folder for that reason."""
    catalogue = _catalogue()
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
        moe=_moe(folder.name, family),
        undecided=(("template", "its chat template is none that tunekit recognises"),) if unknown else (),
    )


def template_of(model: Model) -> str | None:
    """ms-swift's template for a model, where none is asked for; None where it is not known."""
    if model.template:
        return model.template
    rows = _called(Path(model.id).resolve().name) if model.local else []
    row = next((row for row in _catalogue()["models"] if model.id in row[:2]), rows[0] if rows else None)
    name = row[3] if row else _catalogue()["types"].get(model.family, {}).get("template")
    return None if name is None else str(name)


def template_traits(template: str | None) -> dict[str, str] | None:
    """What is known of a template of ms-swift; None where it is none.

    ``thinks`` says ``always``, or ``both`` where its models also answer without; ``agent`` how calls of tools are
    written.
    """
    known: dict[str, dict[str, str]] = _catalogue()["templates"]
    return known.get(template or "")


def _architecture(config: dict[str, Any]) -> str:
    """The first class that a config.json names; ``null`` where it names none."""
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named else None
    return first if isinstance(first, str) and first else "null"


def _template_with_images(family: str) -> str | None:
    """The template of a family that sees or hears: one for text would leave the images out, without a word."""
    known = {row[3] for row in _catalogue()["models"] if row[2] == family}
    return family if family in known else known.pop() if len(known) == 1 else None


def chat_template(folder: Path) -> str | None:
    """ms-swift's name for the chat template in a model folder, by the marks that it writes; None where unknown."""
    jinja = folder / "chat_template.jinja"
    written = ""
    with contextlib.suppress(OSError, ValueError):
        written = read_text(jinja)
    for name in ("tokenizer_config.json", "chat_template.json"):
        written += json.dumps((_json(folder / name) or {}).get("chat_template", ""), ensure_ascii=False)
    return next((template for mark, template in TEMPLATE_MARKERS if mark in written), None)


def _weights(folder: Path, config: dict[str, Any]) -> float | None:
    """Billions of weights in a folder, from the size of its safetensors files and their type."""
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors") if file.is_file())
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "")
    if not size or dtype not in BYTES_PER_WEIGHT or "quantization_config" in config:
        return None
    return size / BYTES_PER_WEIGHT[dtype] / 1e9


def _json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None where there is no such file. Raises TunekitError where it is not JSON."""
    try:
        document = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        why = shortened(str(getattr(error, "strerror", "") or error), 200)
        raise TunekitError(f"{path}: cannot be read as JSON: {why}") from error
    return document if isinstance(document, dict) else None
