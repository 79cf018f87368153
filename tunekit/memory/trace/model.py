"""The real model on fake tensors, with its adapter or its quantized layers. Runs inside the worker only."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tunekit.memory.geometry import Geometry
from tunekit.memory.kinds import TAKES
from tunekit.memory.spec import Spec, Unknown
from tunekit.memory.targets import targeted
from tunekit.memory.trace.kernels import FLASH, SDPA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass
class Built:
    """A model ready to train, with its adapter and without that wrapper, and the parameters that the optimizer sees."""

    model: Any
    base: Any
    trainable: list[nn.Parameter]


def build_model(spec: Spec, *, plain: bool) -> Built:
    """The model of `spec` and its tuner for ms-swift's loop or a `plain` one. Raises Unknown for no plain decoder."""
    dtype = DTYPES[spec.precision]
    base = model = _model(spec, dtype)
    if spec.bits == 4:
        quantize(model, spec, dtype)
    if spec.tuner != "full":
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        if spec.kbit_prepare:
            _cast(model, torch.float32, lambda parameter: parameter.dtype in (torch.float16, torch.bfloat16))
            model.tie_weights()
        model = _adapter(model, spec)
    model.train()
    if spec.gradient_checkpointing:
        # ms-swift on one GPU: reentrant (swift/trainers/mixin.py, _fix_gradient_checkpointing)
        reentrant = not plain and spec.gpus == 1
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
        base.enable_input_require_grads()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return Built(model, base, trainable)


def _model(spec: Spec, dtype: torch.dtype) -> Any:
    import transformers
    from transformers.initialization import no_init_weights

    fields = dict(spec.config)
    kind = fields.pop("model_type", None)
    if kind not in transformers.CONFIG_MAPPING:
        raise Unknown(f"transformers {transformers.__version__} does not know the architecture {kind!r}")
    for name in ("torch_dtype", "dtype", "transformers_version", "architectures"):
        fields.pop(name, None)
    config: Any = transformers.AutoConfig.for_model(kind, **fields)
    config.use_cache = False
    if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        raise Unknown(f"{kind} is no plain language model: parts of it cannot be traced")
    attention = {"eager": "eager", "sdpa": SDPA, "flash": FLASH}[spec.attn]
    with no_init_weights():  # there are no numbers to set
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=dtype)
    experts = any(name.endswith("experts") for name, _ in model.named_modules())
    if experts and getattr(model.config, "_experts_implementation", None) != "grouped_mm":
        raise Unknown("the experts are not computed by grouped matrix products, which the trace needs")
    model.tie_weights()  # the initialization would have
    return model


def _adapter(model: Any, spec: Spec) -> Any:
    import peft
    from transformers.initialization import no_init_weights

    named: Any = list(spec.target_modules)
    if spec.target_regex:
        named = spec.target_regex
    elif "all-linear" in named:  # ms-swift names them itself; peft would add the fused experts
        head = model.get_output_embeddings()
        linear = {name for name, item in model.named_modules() if isinstance(item, nn.Linear) and item is not head}
        named = sorted({name.rsplit(".", 1)[-1] for name in linear})
    common: dict[str, Any] = {"target_modules": named, "task_type": "CAUSAL_LM"}
    if spec.adapter in TAKES["modules_to_save"]:
        common["modules_to_save"] = list(spec.modules_to_save)
    lora: dict[str, Any] = {"r": spec.lora_rank, "lora_alpha": 32, "lora_dropout": spec.dropout, "bias": spec.lora_bias}
    settings: Any
    if spec.adapter == "lora":
        parameters = list(spec.target_parameters) or None
        settings = peft.LoraConfig(**common, **lora, use_dora=spec.use_dora, target_parameters=parameters)
    elif spec.adapter == "adalora":
        settings = peft.AdaLoraConfig(**common, **lora, init_r=spec.adalora_init_r, tinit=0, tfinal=0, total_step=100)
    elif spec.adapter == "vera":
        common["target_modules"] = [item.name for item in targeted(spec, Geometry.from_config(spec.config))]
        settings = peft.VeraConfig(**common, r=spec.vera_rank, vera_dropout=spec.dropout)
    elif spec.adapter == "fourierft":
        settings = peft.FourierFTConfig(**common, n_frequency=spec.fourier_n_frequency)
    else:
        settings = peft.IA3Config(**common, feedforward_modules=".*mlp.*")
    with contextlib.nullcontext() if spec.adapter == "vera" else no_init_weights():
        adapted = peft.get_peft_model(model, settings)
    if spec.lora_dtype:
        _cast(adapted, getattr(torch, spec.lora_dtype), lambda parameter: parameter.requires_grad)
    return adapted


@contextlib.contextmanager
def unpacked_for_dora() -> Iterator[None]:
    """Let DoRA unpack the 4-bit layers of this file, which peft would take for others."""
    from peft.tuners.lora import dora

    unpack = dora.dequantize_module_weight

    def unpacked(layer: Any) -> Any:
        state = layer.__dict__.get("quant_state")
        if state is None:
            return unpack(layer)
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(layer.weight, state)

    dora.dequantize_module_weight = unpacked  # type: ignore[assignment]
    try:
        yield
    finally:
        dora.dequantize_module_weight = unpack


def _cast(model: nn.Module, dtype: torch.dtype, which: Callable[[nn.Parameter], bool]) -> None:
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):  # noqa: SLF001 - `.data =` is refused for fakes
            if parameter is not None and which(parameter):
                value = nn.Parameter(parameter.detach().to(dtype), requires_grad=parameter.requires_grad)
                module._parameters[name] = value  # noqa: SLF001


def quantize(model: nn.Module, spec: Spec, dtype: torch.dtype) -> None:
    """Put bitsandbytes' NF4 layers in place of all linear ones but the head.

    bitsandbytes' own Params4bit cannot hold a fake tensor, so the layer is filled by hand; its forward and backward
    are bitsandbytes' own.
    """
    import bitsandbytes
    from bitsandbytes.functional import QuantState

    class Linear4bit(bitsandbytes.nn.Linear4bit):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            bias = None if self.bias is None else self.bias.to(dtype)
            product = bitsandbytes.matmul_4bit(x.to(dtype), self.weight, bias=bias, quant_state=self.quant_state)
            return product.to(x.dtype)

    head = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if type(module) is not nn.Linear or module is head:
            continue
        rows, columns = module.out_features, module.in_features
        blocks = -(-rows * columns // 64)
        code = torch.empty(16)
        common = {"shape": torch.Size((rows, columns)), "dtype": dtype, "blocksize": 64, "code": code}
        if spec.double_quant:
            scales = QuantState(
                absmax=torch.empty(-(-blocks // 256)), blocksize=256, code=torch.empty(256), dtype=torch.float32
            )
            absmax = torch.empty(blocks, dtype=torch.uint8)
            state = QuantState(absmax=absmax, quant_type="nf4", offset=torch.zeros(()), state2=scales, **common)
        else:
            state = QuantState(absmax=torch.empty(blocks), quant_type="nf4", **common)
        layer: Any = Linear4bit.__new__(Linear4bit)
        nn.Module.__init__(layer)
        layer.in_features, layer.out_features, layer.compute_dtype = columns, rows, dtype
        layer.compute_type_is_set, layer.support_avx512bf16_for_cpu = True, False
        packed = torch.empty((rows * columns + 1) // 2, 1, dtype=torch.uint8)
        layer.weight = nn.Parameter(packed, requires_grad=False)
        layer.weight.quant_state, layer.weight.quant_type = state, "nf4"
        layer.weight.compress_statistics, layer.weight.bnb_quantized = spec.double_quant, True
        layer.bias = module.bias
        layer.quant_state = state
        model.set_submodule(name, layer)


def scales(model: nn.Module) -> Iterator[torch.Tensor]:
    """The tensors beside quantized weights."""
    for module in model.modules():
        state = module.__dict__.get("quant_state")
        if state is not None:
            yield from (state.absmax, state.code)
            if state.state2 is not None:
                yield from (state.offset, state.state2.absmax, state.state2.code)
