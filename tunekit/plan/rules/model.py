"""What the model itself asks of a plan: weights that come quantized, experts, positions, the adapter it starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.errors import TunekitError, did_you_mean
from tunekit.plan.models.adapter import adapter_in, check_base, other_base
from tunekit.plan.models.catalogue import template_names, type_names
from tunekit.plan.models.positions import positions_of
from tunekit.plan.rules.rule import Rule, Warn
from tunekit.plan.settings import UNSET

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.plan.configuration import Configuration
    from tunekit.plan.models.adapter import Adapter
    from tunekit.plan.models.model import Model
    from tunekit.plan.settings import Setting, Value

QUANTIZES = ("quant_method", "quant_bits", "bnb_4bit_compute_dtype", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant")
"""Flags that quantize weights as they are loaded."""

UNTRAINABLE = ("fp8", "fbgemm_fp8", "nvfp4", "auto-round", "autoround", "gguf", "mlx", "exl2", "vptq", "spqr")
"""Quantizations beside which transformers trains nothing, adapters included."""

EXPERTS = "--target_parameters experts.gate_up_proj experts.down_proj"
"""What peft takes for the fused experts of transformers 5: ends of parameters' names."""

START = ("adapters", "ref_adapters")
"""Flags that name adapters of the model that is trained."""

NAMED = {"template": template_names, "model_type": type_names}
"""Flags that take a name of ms-swift's registry, which plugins of the user's may add to."""

BYTES_OF_COPY = 2 + 2 + 2 * 2
"""Of one number of a module that is saved in whole: a copy in 16 bits, its gradient, the two states of Adam."""

PLUGINS = ("external_plugins", "custom_register_path")


def _start(plan: Configuration) -> Adapter | None:
    """The adapter that training goes on from."""
    names = plan.words("adapters")
    return None if plan.full or not names else adapter_in(names[0])


def _own_rank(plan: Configuration) -> Value | None:
    start = _start(plan)
    return start.rank if start and start.rank else plan.get("lora_rank")


def _own_alpha(plan: Configuration) -> Value | None:
    start = _start(plan)
    return start.alpha if start and start.alpha else plan.get("lora_alpha")


def _other_bases(plan: Configuration) -> list[tuple[str, str]]:
    """Adapters of ours whose base has another name than the model, and that name."""
    found = [(name, adapter_in(name)) for flag in START for name in plan.words(flag)]
    names = [(name, adapter.base) for name, adapter in found if adapter and other_base(adapter, plan.model)]
    return list(dict.fromkeys(names))


def _named_bases(plan: Configuration) -> str:
    return "; ".join(f"{name} has the base model {base}" for name, base in _other_bases(plan))


def _reaches(plan: Configuration, *words: str) -> bool:
    """Whether an adapter, or what is saved beside it, is said to reach parts of these names."""
    flags = ("target_modules", "target_parameters", "modules_to_save", "target_regex", "trainable_parameters")
    return any(word in name for flag in flags for name in plan.words(flag) for word in words)


def _new_tokens_unlearned(plan: Configuration) -> bool:
    return bool(plan.words("new_special_tokens")) and not plan.full and not _reaches(plan, "embed")


def _beyond_positions(plan: Configuration) -> bool:
    length = plan.whole("max_length")
    if length is None or plan.get("rope_scaling") is not None or plan.get("max_model_len") is not None:
        return False
    most = positions_of(plan.model)
    return most is not None and length > most


MODEL_RULES = (
    Rule(
        "positions",
        when=_beyond_positions,
        change={"max_length": lambda plan: positions_of(plan.model)},
        why="the model was made for no more positions in a row (max_position_embeddings in its config.json)",
        hint="--rope_scaling yarn with --max_model_len stretches them; --packing_length makes packs longer, not rows",
        source="transformers modeling_rope_utils.py; ms-swift 4.6 base_args/model_args.py, _init_rope_scaling",
    ),
    Rule(
        "quantized-full",
        when=lambda plan: bool(plan.model.quantized) and plan.full,
        refuse=True,
        why="the weights of this model come quantized: they have no gradient and cannot be trained in full",
        hint="--tuner_type lora trains adapters on them; or name the model that they were made of",
        source="transformers 5 trainer_utils.py: cannot perform fine-tuning on purely quantized models",
    ),
    Rule(
        "quantized-untrainable",
        when=lambda plan: plan.model.quantized in UNTRAINABLE,
        refuse=True,
        why="the weights of this model come in a quantization beside which transformers trains nothing, adapters "
        "included",
        hint="name the model that they were made of; --quant_bits 4 holds its weights in 4 bits",
        source="transformers 5 quantizers: is_trainable is False; trainer_utils.py: do not support training",
    ),
    Rule(
        "quantized-twice",
        when=lambda plan: bool(plan.model.quantized) and any(plan.get(flag) is not None for flag in QUANTIZES),
        change=dict.fromkeys(QUANTIZES),
        why="the weights of this model come quantized, and cannot be quantized once more",
        source="transformers 5 quantizers/auto.py: the model's own quantization_config is used",
    ),
    Rule(
        "quantize-fp8",
        when=lambda plan: plan.get("quant_method") == "fp8",
        refuse=True,
        why="weights in FP8 cannot be trained, and no adapter beside them",
        hint="--quant_method bnb --quant_bits 4, or 8",
        source="transformers 5 quantizer_finegrained_fp8.py: is_trainable is False",
    ),
    Rule(
        "one-adapter",
        when=lambda plan: len(plan.words("adapters")) > 1,
        refuse=True,
        why="training goes on from one adapter, and several are named",
        hint="merge the first ones: tunekit merge RUN, then --model with the merged folder",
        source="ms-swift 4.6 pipelines/train/tuner.py: assert len(args.adapters) == 1",
    ),
    Rule(
        "experts-dropout",
        when=lambda plan: (
            not plan.full and bool(plan.words("target_parameters")) and plan.number("lora_dropout", 0.05) != 0
        ),
        change={"lora_dropout": 0},
        why="an adapter on whole parameters (--target_parameters) takes no dropout",
        source="peft 0.20 tuners/lora/layer.py: ParamWrapper does not work with lora_dropout != 0",
    ),
    Rule(
        "adapter-rank",
        when=lambda plan: (_own_rank(plan), _own_alpha(plan)) != (plan.get("lora_rank"), plan.get("lora_alpha")),
        change={"lora_rank": _own_rank, "lora_alpha": _own_alpha},
        why="the adapter that training goes on from keeps its own rank and scale",
        source="ms-swift 4.6 pipelines/train/tuner.py: --adapters are loaded as they are",
    ),
)
"""Spliced into `tunekit.plan.rules.table.RULES`, as the warnings below into its `WARNINGS`."""

MODEL_WARNINGS = (
    Warn(
        lambda plan: plan.model.moe and not plan.full and not _reaches(plan, "experts"),
        "LoRA leaves the experts frozen: transformers 5 holds those of a layer as one parameter, which "
        f"--target_modules does not reach. {EXPERTS} trains them too",
    ),
    Warn(
        lambda plan: (
            plan.model.moe
            and not plan.full
            and plan.number("router_aux_loss_coef", 0) > 0
            and not _reaches(plan, "gate.", "mlp.gate", "router")
        ),
        "the router is frozen under LoRA: --router_aux_loss_coef cannot balance it, and only pulls at the adapters "
        "below it; 0 leaves it out",
    ),
    Warn(
        _new_tokens_unlearned,
        "the embeddings of --new_special_tokens are random and not trained under LoRA: --modules_to_save embed_tokens "
        "lm_head trains them, and takes the memory of both in full",
    ),
    Warn(
        lambda plan: bool(_other_bases(plan)),
        "{adapters}, and --model is {model}: if that is another model, ms-swift fails after loading it",
        lambda plan: {"adapters": _named_bases(plan), "model": plan.model.id},
    ),
)


def check_names_of_swift(settings: Mapping[str, Setting]) -> None:
    """Raise TunekitError for a template or model type that ms-swift does not know: it says so after a minute."""
    if any(flag in settings for flag in PLUGINS):
        return
    for flag, names in NAMED.items():
        setting = settings.get(flag)
        if setting is None or setting.value == UNSET or setting.value in names():
            continue
        word = str(setting.value)[:60]
        hint = did_you_mean(word, names()) or "a plugin of yours may add one: --external_plugins FILE.py"
        raise TunekitError(f"--{flag} {word}: ms-swift has none of that name", hint)


def check_adapters_of(model: Model, settings: Mapping[str, Setting]) -> None:
    """Raise TunekitError where training is to start from an adapter of another model."""
    for flag in START:
        if flag in settings:
            for name in settings[flag].render():
                check_base(flag, name, model)
