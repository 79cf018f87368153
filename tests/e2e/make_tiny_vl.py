"""Make a tiny random Qwen2.5-VL with the tokenizer of another model folder, and a few pictures to train it on.

python make_tiny_vl.py TOKENIZER_FOLDER TARGET

TARGET gets the model; TARGET/data.jsonl asks for the colours of the pictures in TARGET/images.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from PIL import Image
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

SPECIAL = {
    "<|vision_start|>": 151652,
    "<|vision_end|>": 151653,
    "<|vision_pad|>": 151654,
    "<|image_pad|>": 151655,
    "<|video_pad|>": 151656,
}
"""Tokens of the vision part. ms-swift knows them by these numbers (template/templates/qwen.py)."""

VOCABULARY = 151936
LAYERS = 4
BLOCKS = 2
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


def main(source: str, target: str) -> None:
    """Write the model, its tokenizer, its processors and the data to `target`."""
    folder = Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    Qwen2_5_VLForConditionalGeneration(shape()).to(torch.bfloat16).save_pretrained(folder)
    tokenizer(Path(source), folder)
    processors(folder)
    data(folder)


def shape() -> Qwen2_5_VLConfig:
    """Four layers of language model, two blocks of vision."""
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2], "rope_type": "default"},
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": BLOCKS,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": [1],
    }
    ids = {
        "image_token_id": SPECIAL["<|image_pad|>"],
        "video_token_id": SPECIAL["<|video_pad|>"],
        "vision_start_token_id": SPECIAL["<|vision_start|>"],
        "vision_end_token_id": SPECIAL["<|vision_end|>"],
    }
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)


def tokenizer(source: Path, folder: Path) -> None:
    """The tokenizer of `source` with the tokens of the vision part at their numbers."""
    document = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    for word, number in SPECIAL.items():
        document["model"]["vocab"][word] = number
        options = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        document["added_tokens"].append({"id": number, "content": word, "special": True} | options)
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)


def processors(folder: Path) -> None:
    """The files from which transformers makes the processors: written here, since its classes want torchvision."""
    pixels = {"min_pixels": 56 * 56, "max_pixels": 112 * 112, "patch_size": 14, "merge_size": 2}
    image = {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"} | pixels
    (folder / "preprocessor_config.json").write_text(json.dumps(image), encoding="utf-8")
    video = {"video_processor_type": "Qwen2VLVideoProcessor", "processor_class": "Qwen2_5_VLProcessor"} | pixels
    (folder / "video_preprocessor_config.json").write_text(json.dumps(video), encoding="utf-8")


def data(folder: Path) -> None:
    """Pictures of one colour each, and a question about every one."""
    (folder / "images").mkdir(exist_ok=True)
    rows = []
    for name, colour in COLOURS.items():
        path = folder / "images" / f"{name}.png"
        Image.new("RGB", (84, 84), colour).save(path)
        question = {"role": "user", "content": "<image>What colour is this?"}
        answer = {"role": "assistant", "content": f"It is {name}."}
        rows.append(json.dumps({"messages": [question, answer], "images": [str(path.resolve())]}) + "\n")
    (folder / "data.jsonl").write_text("".join(rows * 8), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
