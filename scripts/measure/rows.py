"""What is measured, most valuable first."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tunekit.engine.locate import find_package, installed_flash
from tunekit.memory.estimate import estimate
from tunekit.memory.spec import Prediction, Spec, Unknown

CONFIGS = Path(__file__).resolve().parents[2] / "tunekit/plan/models/configs.json"

FRAME, FRAME_VL = 21, 61
"""Tokens that the template chatml puts around a question and an answer, where a letter is a token; and Qwen2.5-VL's,
with its system prompt and the two marks of a picture."""
ENDING = 2
"""... of which those at the end carry loss, as the answer does: ``<|im_end|>`` and a newline."""

TINY, TINY_VL = "tiny", "tiny-vl"
"""Shapes that train on a CPU in a second, to run the same path without a GPU."""
VL3 = "Qwen/Qwen2.5-VL-3B"
"""With its tower: tunekit's list has the text part alone."""


def qwen_vl(
    hidden: int, width: int, layers: int, heads: int, kv_heads: int, *, tower: tuple[int, int, int, int]
) -> dict[str, Any]:
    """The config.json of a Qwen2.5-VL; of its tower depth, width, MLP and heads."""
    depth, tower_hidden, tower_width, tower_heads = tower
    section = hidden // heads // 8
    text = {
        "vocab_size": 151936,
        "hidden_size": hidden,
        "intermediate_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "rope_scaling": {
            "type": "mrope",
            "rope_type": "default",
            "mrope_section": [hidden // heads // 2 - 6 * (section // 2), 3 * (section // 2), 3 * (section // 2)],
        },
        "tie_word_embeddings": True,
        "model_type": "qwen2_5_vl_text",
    }
    vision = {
        "depth": depth,
        "hidden_size": tower_hidden,
        "intermediate_size": tower_width,
        "num_heads": tower_heads,
        "out_hidden_size": hidden,
        "patch_size": PATCH,
        "spatial_merge_size": MERGED,
        "temporal_patch_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": [depth * part // 4 - 1 for part in (1, 2, 3, 4) if depth * part // 4],
    }
    ids = {
        "image_token_id": 151655,
        "video_token_id": 151656,
        "vision_start_token_id": 151652,
        "vision_end_token_id": 151653,
    }
    kind = {"model_type": "qwen2_5_vl", "tie_word_embeddings": True, **ids}
    return {**kind, "text_config": text, "vision_config": vision}


PATCH, MERGED = 14, 2
"""Pixels of a patch's side; patches of a token's side."""
SHAPES: dict[str, dict[str, Any]] = {
    TINY: {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
        "tie_word_embeddings": True,
    },
    TINY_VL: qwen_vl(64, 128, 2, 4, 2, tower=(2, 32, 64, 2)),
    VL3: qwen_vl(2048, 11008, 36, 16, 2, tower=(32, 1280, 3420, 16)),
}


@cache
def shape(model: str) -> dict[str, Any]:
    """The config.json of a model, as tunekit ships it."""
    known: dict[str, dict[str, Any]] = json.loads(CONFIGS.read_text(encoding="utf-8"))
    return {**known, **SHAPES}[model]


def beyond_text(seq_len: int, answer: int, stage: str, side: int, *, tower: bool) -> dict[str, Any]:
    """Fields of a `Spec` for rows of so many tokens: an answer that the model writes, and a picture, told apart."""
    parts = ("llm", "vit", "aligner") if tower else ("llm",)
    found: dict[str, Any] = {"seq_len": seq_len, "trains": parts, "images": int(side > 0)}
    if side:
        found["pixels"] = side * side
    if stage == "grpo":
        found |= {"seq_len": seq_len - answer, "completion_len": answer}
    return found


@dataclass(frozen=True)
class Row:
    """One training configuration; what is not said is as in most runs.

    Attributes:
        model: a name in tunekit's list of shapes.
        loss: share of the tokens that shall carry loss; 1 means all but the template's.
        uneven: every second row is one token shorter, so that a micro-batch is padded and attention gets a mask.
        expandable: PyTorch's expandable segments, which tunekit switches on.
        side: pixels of the side of the square picture in each row; 0 for text.
        tower: whether the vision tower and its aligner are trained too.
    """

    model: str
    tuner: str = "lora"
    micro_batch: int = 1
    seq_len: int = 2048
    lora_rank: int = 8
    attn: str = "sdpa"
    liger: bool = False
    checkpointing: bool = True
    packing: bool = False
    loss: float = 1.0
    optimizer: str = "adamw_torch_fused"
    stage: str = "sft"
    uneven: bool = False
    expandable: bool = True
    side: int = 0
    tower: bool = False

    @property
    def id(self) -> str:
        """A name that says what differs from most runs."""
        short = self.model.split("/")[-1].lower()
        marks = {
            self.stage: self.stage != "sft",
            self.attn: self.attn != "sdpa",
            "packed": self.packing,
            "liger": self.liger,
            "nogc": not self.checkpointing,
            f"loss{round(100 * self.loss)}": self.loss < 1,
            f"r{self.lora_rank}": self.lora_rank != 8,
            self.optimizer: self.optimizer != "adamw_torch_fused",
            "uneven": self.uneven,
            "fixed": not self.expandable,
            f"image{self.side}": self.side > 0,
            "tower": self.tower,
        }
        said = [mark for mark, holds in marks.items() if holds]
        return "-".join([short, self.tuner, f"b{self.micro_batch}x{self.seq_len}", *said])

    @property
    def answer(self) -> int:
        """Letters of the answer: with the template's ending they carry loss."""
        return min(round(self.loss * self.seq_len) - ENDING, self.seq_len - self.frame - 1)

    @property
    def frame(self) -> int:
        """Tokens that are neither question nor answer: of the template, and of the picture."""
        return FRAME_VL + (self.side // (PATCH * MERGED)) ** 2 if self.side else FRAME

    @property
    def question(self) -> int:
        """Letters of the question: what is left of the row."""
        return self.seq_len - self.frame - self.answer

    @property
    def needs(self) -> list[str]:
        """The packages that it takes and that are not installed here, by import name."""
        wanted = {
            "peft": self.tuner != "full",
            "bitsandbytes": self.tuner == "qlora" or "8bit" in self.optimizer,
            "liger_kernel": self.liger,
            "qwen_vl_utils": self.side > 0,
        }
        missing = [name for name, used in wanted.items() if used and find_package(name) is None]
        return [*missing, *(["flash attention"] if self.attn == "flash" and not installed_flash() else [])]

    @property
    def tokens(self) -> int:
        """Of one micro-batch; DPO has two answers a row."""
        return self.micro_batch * self.seq_len * (2 if self.stage == "dpo" else 1)

    @property
    def spec(self) -> Spec:
        """The same in tunekit's words for a prediction."""
        return Spec(
            config=shape(self.model),
            tuner=self.tuner,
            quant_bits=4 if self.tuner == "qlora" else None,
            lora_rank=self.lora_rank,
            micro_batch=self.micro_batch,
            **beyond_text(self.seq_len, self.answer, self.stage, self.side, tower=self.tower),
            loss_share=(self.answer + ENDING) / self.seq_len,
            packing=self.packing,
            gradient_checkpointing=self.checkpointing,
            attn=self.attn,
            optimizer=self.optimizer,
            liger=self.liger,
            stage=self.stage,
            expandable_segments=self.expandable,
        )

    @property
    def estimate(self) -> Prediction | None:
        """What tunekit's closed form says; None where it cannot tell."""
        try:
            return estimate(self.spec)
        except Unknown:
            return None


Q05, Q15, Q3, Q7 = (f"Qwen/Qwen2.5-{size}B" for size in ("0.5", "1.5", "3", "7"))
QWEN3, LLAMA8, LLAMA3 = "Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.2-3B"

GPT_OSS, MOE = "openai/gpt-oss-20b", "Qwen/Qwen3-30B-A3B"

SHAPES_OF_BATCHES = ((16, 256), (4, 1024), (1, 4096))
"""Rows and tokens: one number of tokens, cut in three ways."""
GRID = tuple(
    Row(model, tuner, micro_batch, seq_len, liger=liger)
    for micro_batch, seq_len in SHAPES_OF_BATCHES
    for liger in (False, True)
    for model, tuners in ((LLAMA8, ("lora", "qlora")), (Q3, ("full", "qlora")), (Q05, ("full", "lora")))
    for tuner in tuners
)
"""Sizes, tuners, shapes of micro-batches, with Liger and without."""

ROWS = (
    Row(Q7),
    Row(Q7, "qlora"),
    Row(Q7, micro_batch=8, seq_len=3072, attn="flash", packing=True, loss=0.25),
    Row(Q7, micro_batch=8, seq_len=3072, attn="flash", packing=True, liger=True),
    Row(Q7, micro_batch=8, seq_len=3072, liger=True, loss=0.25),
    Row(QWEN3, micro_batch=6, seq_len=3072, attn="flash", packing=True, liger=True),
    Row(LLAMA8, micro_batch=6, seq_len=3072, liger=True),
    Row(GPT_OSS, micro_batch=2, seq_len=3072, attn="eager", loss=0.25),
    Row(Q7, liger=True),
    Row(Q05, micro_batch=4, seq_len=1024, checkpointing=False),
    Row(Q7, loss=0.25),
    Row(Q7, micro_batch=4, uneven=True),
    Row(Q15, stage="dpo", seq_len=1024),
    Row(Q7, expandable=False),
    Row(Q7, attn="flash"),
    Row(LLAMA8, micro_batch=2),
    Row(Q15, "qlora", seq_len=1024, checkpointing=False),
    Row(QWEN3, seq_len=4096, liger=True),
    Row(Q15, "full", 2, liger=True),
    Row(Q7, micro_batch=2, seq_len=4096, attn="flash", packing=True, loss=0.25),
    Row(Q3, "full"),
    Row(LLAMA8, "qlora", 2, 4096, liger=True),
    Row(Q05, micro_batch=16, seq_len=512),
    Row(Q15, lora_rank=64, micro_batch=2, seq_len=1024),
    Row(Q3, "full", 1, 8192, attn="flash", packing=True, liger=True),
    Row(Q05, "full", 2, 1024, optimizer="adamw_torch"),
    Row(Q05, micro_batch=2, seq_len=1024, attn="eager"),
    Row(LLAMA3, "qlora", 1, 1024, stage="dpo"),
    Row(Q3, micro_batch=4, checkpointing=False, liger=True),
    Row(VL3, liger=True, side=1008),
    Row(VL3, liger=True, side=1008, tower=True),
    Row(VL3, "full", liger=True, side=504, seq_len=1024, tower=True),
    Row(Q05, micro_batch=8, stage="grpo", seq_len=640, loss=0.8),
    *GRID,
    Row(MOE, seq_len=1024, liger=True),
    Row(QWEN3, "full", 1, 1024, liger=True),
)
"""Of each kind first the one that is run most, then what is told least by the others; the largest last."""

TINY_ROWS = (
    Row(TINY, micro_batch=2, seq_len=64),
    Row(TINY, "full", 2, 64, loss=0.5, uneven=True),
    Row(TINY, "qlora", seq_len=64),
    Row(TINY, stage="dpo", seq_len=64, checkpointing=False),
    Row(TINY, micro_batch=2, stage="grpo", seq_len=64, loss=0.5),
    Row(TINY_VL, seq_len=128, side=112, tower=True),
)
"""For a machine without a GPU."""

OOM_ROW = Row(Q15, micro_batch=8)
"""Too large for a card of 24 GB, and half of it is not: `tunekit sft` must find that out."""
OOM_ROW_TINY = Row(TINY, micro_batch=8, seq_len=64)
CAP_GIB = 23.0
"""What PyTorch can take of a card of 24 GB: 23.6 GiB less the CUDA context."""
