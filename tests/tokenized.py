"""A model whose tokenizer makes one token of a word, and rows of so many words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tunekit.data.tokens import Lengths, Sequence

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ["user", "assistant", "system", "say", "yes", "no"]
SPECIAL = ["<unk>", "<pad>", "<|im_start|>", "<|im_end|>"]


def make_tokenized(folder: Path) -> Path:
    """A model without weights, whose tokenizer makes one token of a word."""
    folder.mkdir()
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    added = [
        {"id": number, "content": word, "special": True, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False}
        for number, word in enumerate(SPECIAL)
    ]
    tokenizer = {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "eos_token": "<|im_end|>",
        "chat_template": "<|im_start|>",
    }
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
        "max_position_embeddings": 4096,
    }
    for name, document in (("tokenizer", tokenizer), ("tokenizer_config", settings), ("config", config)):
        (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def row(question: int, answer: int, **more: Any) -> dict[str, Any]:
    """A row whose question and answer have so many words."""
    turns = [("user", "say " * question), ("assistant", "yes " * answer)]
    return {"messages": [{"role": role, "content": text.strip()} for role, text in turns], **more}


def write_lines(path: Path, *rows: dict[str, Any]) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(item) + "\n" for item in rows), encoding="utf-8")
    return path


def lengths_of(*texts: tuple[int, int]) -> Lengths:
    """Rows of one text each, by tokens and tokens with loss."""
    return Lengths(("d.jsonl",), len(texts), tuple((Sequence(size, size, loss),) for size, loss in texts))
