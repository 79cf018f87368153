"""What is measured, most valuable first."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tunekit.engine.locate import find_package
from tunekit.memory.estimate import estimate
from tunekit.memory.spec import Prediction, Spec, Unknown

CONFIGS = Path(__file__).resolve().parents[2] / "tunekit/plan/models/configs.json"

FRAME = 21
"""Tokens that the template chatml puts around a question and an answer, where a letter is a token."""
ENDING = 2
"""... of which those at the end carry loss, as the answer does: ``<|im_end|>`` and a newline."""

TINY = "tiny"
"""A shape that trains on a CPU in a second, to run the same path without a GPU."""
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
    }
}


@cache
def shape(model: str) -> dict[str, Any]:
    """The config.json of a model, as tunekit ships it."""
    known: dict[str, dict[str, Any]] = json.loads(CONFIGS.read_text(encoding="utf-8"))
    return {**known, **SHAPES}[model]


@dataclass(frozen=True)
class Row:
    """One training configuration; what is not said is as in most runs.

    Attributes:
        model: a name in tunekit's list of shapes.
        loss: share of the tokens that shall carry loss; 1 means all but the template's.
        uneven: every second row is one token shorter, so that a micro-batch is padded and attention gets a mask.
        expandable: PyTorch's expandable segments, which tunekit switches on.
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
        }
        said = [mark for mark, holds in marks.items() if holds]
        return "-".join([short, self.tuner, f"b{self.micro_batch}x{self.seq_len}", *said])

    @property
    def answer(self) -> int:
        """Letters of the answer: with the template's ending they carry loss."""
        return min(round(self.loss * self.seq_len) - ENDING, self.seq_len - FRAME - 1)

    @property
    def question(self) -> int:
        """Letters of the question: what is left of the row."""
        return self.seq_len - FRAME - self.answer

    @property
    def needs(self) -> list[str]:
        """The packages that it takes and that are not installed here, by import name."""
        wanted = {
            "peft": self.tuner != "full",
            "bitsandbytes": self.tuner == "qlora" or "8bit" in self.optimizer,
            "liger_kernel": self.liger,
            "flash_attn": self.attn == "flash",
        }
        return [name for name, used in wanted.items() if used and find_package(name) is None]

    @property
    def spec(self) -> Spec:
        """The same in tunekit's words for a prediction."""
        return Spec(
            config=shape(self.model),
            tuner=self.tuner,
            quant_bits=4 if self.tuner == "qlora" else None,
            lora_rank=self.lora_rank,
            micro_batch=self.micro_batch,
            seq_len=self.seq_len,
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

ROWS = (
    Row(Q7),
    Row(Q7, "qlora"),
    Row(Q05, "full", 4, 1024),
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
    Row(Q7, micro_batch=6, seq_len=3072, liger=True),
    Row(Q3, "full"),
    Row(LLAMA8, "qlora", 2, 4096, liger=True),
    Row(Q05, micro_batch=16, seq_len=512),
    Row(Q15, lora_rank=64, micro_batch=2, seq_len=1024),
    Row(Q3, "full", 1, 8192, attn="flash", packing=True, liger=True),
    Row(Q05, "full", 2, 1024, optimizer="adamw_torch"),
    Row(Q05, micro_batch=2, seq_len=1024, attn="eager"),
    Row(LLAMA3, "qlora", 1, 1024, stage="dpo"),
    Row(Q3, micro_batch=4, checkpointing=False, liger=True),
    Row(QWEN3, "full", 1, 1024, liger=True),
)
"""Of each kind first the one that is run most, then what is told least by the others."""

TINY_ROWS = (
    Row(TINY, micro_batch=2, seq_len=64),
    Row(TINY, "full", 2, 64, loss=0.5, uneven=True),
    Row(TINY, "qlora", seq_len=64),
    Row(TINY, stage="dpo", seq_len=64, checkpointing=False),
)
"""For a machine without a GPU."""

OOM_ROW = Row(Q15, micro_batch=8)
"""Too large for a card of 24 GB, and half of it is not: `tunekit sft` must find that out."""
OOM_ROW_TINY = Row(TINY, micro_batch=8, seq_len=64)
CAP_GIB = 23.0
"""What PyTorch can take of a card of 24 GB: 23.6 GiB less the CUDA context."""
