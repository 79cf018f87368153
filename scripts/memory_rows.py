"""Measured rows of memory, and what is assumed of those that were published: by source, in one table."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from measure.table import spec_of as spec_of_run  # noqa: E402

from tunekit.hardware import CARDS  # noqa: E402
from tunekit.memory.spec import Spec  # noqa: E402

HELD_OUT = "final-t4"
"""The file of fitcheck-llm's rows that its numbers were not fitted to."""
KINDS = ("allocated", "reserved", "process")


def _shape(kind: str, sizes: tuple[int, int, int, int, int, int], **more: Any) -> dict[str, Any]:
    """A config.json by vocabulary, hidden size, layers, heads, heads of keys, and width of the MLP."""
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    named = dict(zip((*names, "intermediate_size"), sizes, strict=True))
    return {"model_type": kind, "tie_word_embeddings": False, **named, **more}


SHAPES = {
    # Qwen's first generation in the shape of its second: as many heads of keys as of queries
    "Qwen/Qwen-1_8B": _shape("qwen2", (151936, 2048, 24, 16, 16, 5504)),
    "Qwen/Qwen-7B": _shape("qwen2", (151936, 4096, 32, 32, 32, 11008)),
    "Qwen/Qwen-14B": _shape("qwen2", (151936, 5120, 40, 40, 40, 13696)),
    "NousResearch/Llama-2-70b-hf": _shape("llama", (32000, 8192, 80, 64, 8, 28672)),
    "meta-llama/Llama-2-7b-hf": _shape("llama", (32000, 4096, 32, 32, 32, 11008)),
    "meta-llama/Meta-Llama-3-8B": _shape("llama", (128256, 4096, 32, 32, 8, 14336)),
    "mistralai/Mistral-7B-v0.1": _shape("mistral", (32000, 4096, 32, 32, 8, 14336)),
    "TinyLlama/TinyLlama-1.1B": _shape("llama", (32000, 2048, 22, 32, 4, 5632)),
    "google/gemma-2b": _shape("gemma", (256000, 2048, 18, 8, 1, 16384), head_dim=256, tie_word_embeddings=True),
    "google/gemma-7b": _shape("gemma", (256000, 3072, 28, 16, 16, 24576), head_dim=256, tie_word_embeddings=True),
    "microsoft/Phi-3-mini-4k-instruct": _shape("phi3", (32064, 3072, 32, 32, 32, 8192)),
    "microsoft/phi-2": _shape("phi", (51200, 2560, 32, 32, 32, 10240), hidden_act="gelu_pytorch_tanh"),
    "tiiuae/falcon-7b": _shape("falcon", (65024, 4544, 32, 71, 1, 18176), multi_query=True, parallel_attn=True),
    "stabilityai/stablelm-base-alpha-3b": _shape("gpt_neox", (50688, 4096, 16, 32, 32, 16384), attention_bias=True),
    "bigcode/gpt_bigcode-santacoder": _shape(
        "gpt_bigcode",
        (49280, 2048, 24, 16, 1, 8192),
        tie_word_embeddings=True,
        n_positions=2048,
        activation_function="gelu_fast",
    ),
    "ibm-granite/granite-3.0-3b-a800m-instruct": _shape(
        "granitemoe",
        (49155, 1536, 32, 24, 8, 512),
        tie_word_embeddings=True,
        num_local_experts=40,
        num_experts_per_tok=8,
    ),
}
CONFIGS = {**json.loads((ROOT / "tunekit/plan/models/configs.json").read_text(encoding="utf-8")), **SHAPES}


@dataclass(frozen=True)
class Assumed:
    """What rows of one source have in common and their file does not say."""

    words: str
    fields: dict[str, Any]
    quantized: dict[str, Any]  # ... of those that train beside 4-bit weights


HF_TRAINER = {"accumulates": False, "transformers": "4.48", "liger_mlp": False}
"""Hugging Face's trainer, one micro-batch a step; the kernels called Liger are its loss, with norms and rotation."""

ASSUMED = {
    "fitcheck": Assumed(
        "a loop of its own on a T4: no autocast, no dropout, logits held, one micro-batch a step; 4-bit rows once "
        "quantized, with embedding, head and norms in float32",
        {"loop": "plain"},
        {"kbit_prepare": True},
    ),
    "qwen1": Assumed("ms-swift's defaults, all tokens with loss; the card's unit is taken for GiB", {}, {}),
    "fms": Assumed(
        "Hugging Face's trainer with accelerate's first FSDP, one micro-batch a step, packed rows, all tokens with "
        "loss; mixed precision where the scenario says bf16, which is with 4-bit weights or the kernels called Liger",
        HF_TRAINER,
        {},
    ),
    "litcfg": Assumed(
        "litgpt's own code: 16-bit adapters, no autocast, several micro-batches a step, the longest row of 512 tokens; "
        "4-bit rows once quantized, and float32 between the layers, which was concluded from the rows: no source",
        {"autocast": False, "lora_dtype": "bfloat16"},
        {"double_quant": False, "kbit_prepare": True},
    ),
    "minicpmv": Assumed(
        "DeepSpeed's ZeRO-3 with everything off the GPU; ViT and aligner learn too, an image of a million pixels a row",
        {"accumulates": False, "transformers": "4.40", "trains": ("llm", "vit", "aligner")},
        {},
    ),
}
"""By what the id of a row begins with."""


@dataclass(frozen=True)
class MeasuredRow:
    """A measured configuration.

    Attributes:
        id: its name in the file.
        file: where it stands.
        kind: its class.
        held_out: whether fitcheck-llm's own numbers were fitted without it.
        spec: what was trained.
        card: on which GPU.
        measured: GiB by kind, of what was measured.
    """

    id: str
    file: str
    kind: str
    held_out: bool
    spec: Spec
    card: str
    measured: dict[str, float]


def capability(card: str) -> tuple[int, int] | None:
    """The compute capability of a card by its name as the driver gives it, None where it is not known."""

    def words(name: str) -> set[str]:
        return {word for word in name.lower().replace("-", " ").split() if not word.endswith("gb")}

    named = [item for item in CARDS.values() if words(item[0]) <= words(card)]
    return max(named, key=lambda item: len(words(item[0])))[2] if named else None


def rows_of(path: Path) -> list[MeasuredRow]:
    """The rows of one file."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    found = []
    for line in lines:
        measured = {kind: float(line[f"{kind}_gib"]) for kind in KINDS if line[f"{kind}_gib"]}
        spec = spec_of_published(line) if path.stem == "measured" else spec_of_run(line)
        spec = replace(spec, capability=capability(line["card"]))
        named = line.get("class") or f"{line['tuner']}, ms-swift"
        row = MeasuredRow(line["id"], path.stem, named, HELD_OUT in line["source"], spec, line["card"], measured)
        found.append(row)
    return found


def spec_of_published(line: dict[str, str]) -> Spec:
    """A line of measured.csv, with what is assumed of its source."""
    source = line["id"].split("-", maxsplit=1)[0]
    assumed = ASSUMED[source]
    said: dict[str, Any] = {
        "config": CONFIGS[line["model"]],
        "tuner": line["tuner"],
        "quant_bits": int(line["quant_bits"]) if line["quant_bits"] else None,
        "lora_rank": int(line["lora_rank"] or 8),
        "target_modules": (line["target_modules"] or "all-linear").split("+"),
        "micro_batch": int(line["micro_batch"]),
        "seq_len": int(line["seq_len"]),
        "loss_share": float(line["loss_share"]),
        "gradient_checkpointing": line["gradient_checkpointing"] == "yes",
        "packing": line["packing"] == "yes",
        "liger": line["liger"] == "yes",
        **{name: line[name] for name in ("attn", "optimizer", "precision", "sharding")},
        "gpus": int(line["gpus"]),
        "offload": line["offload"].split("+") if line["offload"] else [],
        **assumed.fields,
        **(assumed.quantized if line["tuner"] == "qlora" else {}),
    }
    if line["lora_dropout"]:
        said["lora_dropout"] = float(line["lora_dropout"])
    if source == "fms":  # its scenarios
        said["autocast"] = line["quant_bits"] != "" or line["liger"] == "yes"
    return Spec.from_json(said)
