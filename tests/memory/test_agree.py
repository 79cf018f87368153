"""The closed form says what the trace says: families, tuners and settings, on shapes of real width and little depth."""

from dataclasses import asdict, replace

import pytest

from tunekit.memory.estimate import estimate
from tunekit.memory.spec import Spec
from tunekit.memory.trace.client import prediction_of

SHAPE = {
    "hidden_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "intermediate_size": 4096,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
}
EXPERTS = {"num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 768, "head_dim": 128}
FAMILIES = {
    "llama": {"model_type": "llama"},
    "qwen2": {"model_type": "qwen2", "num_key_value_heads": 2, "vocab_size": 64000, "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "head_dim": 128},
    "gemma2": {"model_type": "gemma2", "head_dim": 128, "tie_word_embeddings": True, "final_logit_softcapping": 30.0},
    "phi3": {"model_type": "phi3", "pad_token_id": 0},
    "qwen3_moe": {"model_type": "qwen3_moe", **EXPERTS},
    "gpt_oss": {"model_type": "gpt_oss", "num_local_experts": 8, "num_experts_per_tok": 4, "intermediate_size": 1024},
}
LAYERS = {"loss_share": 0.05, "seq_len": 4096}
"""So few tokens with loss that a layer decides."""
PACKED = {"attn": "flash", "packing": True, "micro_batch": 2}
CASES = [
    ("llama", "lora", {}),
    ("llama", "lora", LAYERS),
    ("llama", "lora", {**LAYERS, **PACKED}),
    ("llama", "lora", {**LAYERS, "micro_batch": 2}),
    ("llama", "lora", {**LAYERS, "lora_dropout": 0.0}),
    ("llama", "lora", {**LAYERS, "target_modules": ("q_proj", "v_proj")}),
    ("llama", "lora", {**LAYERS, "lora_dtype": "bfloat16"}),
    ("llama", "lora", {**LAYERS, "liger": True}),
    ("llama", "lora", {"attn": "eager"}),
    ("llama", "lora", {"gradient_checkpointing": False}),
    ("llama", "lora", {"gradient_checkpointing": False, "liger": True}),
    ("llama", "lora", {"stage": "dpo", "seq_len": 1024}),
    ("llama", "lora", {"precision": "fp16", "gpus": 2}),
    ("llama", "lora", {**LAYERS, "use_dora": True}),
    ("llama", "lora", {**LAYERS, "use_dora": True, "lora_dropout": 0.0}),
    ("llama", "lora", {**LAYERS, "modules_to_save": ("embed_tokens", "lm_head")}),
    ("llama", "lora", {"modules_to_save": ("embed_tokens",)}),
    ("llama", "lora", {**LAYERS, "adapter": "vera", "lora_dropout": 0.0}),
    ("llama", "lora", {**LAYERS, "adapter": "ia3"}),
    ("llama", "qlora", {**LAYERS, "use_dora": True}),
    ("llama", "qlora", {}),
    ("llama", "qlora", {**LAYERS, "double_quant": False}),
    ("llama", "qlora", {"gradient_checkpointing": False}),
    ("llama", "full", {}),
    ("llama", "full", {"accumulates": False}),
    ("llama", "full", {**LAYERS, **PACKED}),
    ("llama", "full", {"optimizer": "adamw_torch", "seq_len": 256}),
    ("llama", "full", {"stage": "dpo", "seq_len": 1024}),
    ("qwen2", "lora", {}),
    ("qwen2", "lora", {**LAYERS, "liger": True, "micro_batch": 2}),
    ("qwen2", "full", {"liger": True, "micro_batch": 2}),
    ("qwen2", "full", {"liger": True, "accumulates": False}),
    ("qwen3", "lora", LAYERS),
    ("qwen3", "lora", {"liger": True, "micro_batch": 2}),
    ("qwen3", "full", {"accumulates": False, **LAYERS}),
    ("gemma2", "lora", {}),
    ("gemma2", "lora", {**LAYERS, **PACKED}),
    ("gemma2", "full", {}),
    ("phi3", "lora", {}),
    ("phi3", "qlora", {**LAYERS, **PACKED}),
    ("qwen3_moe", "lora", {}),
    ("qwen3_moe", "lora", {**LAYERS, **PACKED}),
    ("qwen3_moe", "full", {}),
    ("gpt_oss", "lora", {"attn": "eager", "seq_len": 1024}),
    ("gpt_oss", "lora", {**LAYERS, **PACKED}),
]
CLOSE, NEAR = 0.02, 0.03
"""Of allocated. Without checkpointing the last layer, which is a quarter of these, is told with less care."""


@pytest.fixture(scope="module")
def worker():
    """The worker without its process: the libraries are loaded once for all."""
    for package in ("torch", "transformers", "peft", "bitsandbytes"):
        pytest.importorskip(package)
    return pytest.importorskip("tunekit.memory.trace.worker", exc_type=ImportError)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("family", "tuner", "change"),
    [pytest.param(*case, id=" ".join([*case[:2], *map(str, case[2].values())])) for case in CASES],
)
def test_the_estimate_says_what_the_trace_says(worker, family, tuner, change):
    spec = replace(Spec(config={**SHAPE, **FAMILIES[family]}, tuner=tuner), **change)
    traced = prediction_of(worker.answer_trace({"spec": asdict(spec), "loop": "swift"}), spec)
    assert estimate(spec).allocated_gib == pytest.approx(
        traced.allocated_gib, rel=CLOSE if spec.gradient_checkpointing else NEAR
    )
