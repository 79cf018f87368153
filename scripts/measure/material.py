"""Models without content, a tokenizer in which a letter is a token, and rows of an exact length. No hub is asked.

Memory depends on the shapes of weights, not on what is in them: a model's file is its header and a hole of the right
size, which a file system keeps in no space and reads as zeros. 15 GiB are made at once and loaded without a disk.
"""

from __future__ import annotations

import json
import random
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from measure.rows import Row

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LONGEST = 131072
"""Positions; nothing is kept for those that no row has."""


def make_model(folder: Path, shape: Mapping[str, Any]) -> Path:
    """Write a Hugging Face folder of that shape in bfloat16, with its tokenizer, unless it is there."""
    if (folder / "config.json").is_file():  # written last
        return folder
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    ids = make_tokenizer(folder)
    fields = {"max_position_embeddings": LONGEST, **shape, "bos_token_id": None, **ids}
    kind: Any = transformers.AutoModelForCausalLM
    if "vision_config" in shape:
        give_eyes(folder)
        kind = transformers.AutoModelForImageTextToText
        fields = {**shape, "text_config": {"max_position_embeddings": LONGEST, **shape["text_config"], **ids}}
    config: Any = transformers.AutoConfig.for_model(**fields)
    config.dtype = "bfloat16"
    with torch.device("meta"):
        model = kind.from_config(config)
    shapes = {name: list(weight.shape) for name, weight in model.named_parameters()}  # tied ones once
    write_zeros(folder / "model.safetensors", shapes)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    return folder


def write_zeros(path: Path, shapes: Mapping[str, list[int]]) -> None:
    """A safetensors file of bfloat16 zeros (https://huggingface.co/docs/safetensors, format)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, sizes in shapes.items():
        end = offset + 2
        for size in sizes:
            end = offset + (end - offset) * size
        header[name] = {"dtype": "BF16", "shape": sizes, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the weights begin at a multiple of 8
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)


def make_tokenizer(folder: Path) -> dict[str, int]:
    """Write a tokenizer of single bytes and three marks; the numbers of the marks that a model's config names."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([START, END, PAD])
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=END, pad_token=PAD).save_pretrained(folder)
    return {"eos_token_id": inner.token_to_id(END), "pad_token_id": inner.token_to_id(PAD)}


VISION = {"<|vision_start|>": 151652, "<|vision_end|>": 151653, "<|image_pad|>": 151655, "<|video_pad|>": 151656}
"""Marks of a picture, at the numbers at which ms-swift knows them (template/templates/qwen.py)."""


def give_eyes(folder: Path) -> None:
    """Add the marks of pictures to the tokenizer in a folder, and write Qwen2.5-VL's processors beside it."""
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for word, number in VISION.items():
        document["model"]["vocab"][word] = number
        options = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        document["added_tokens"].append({"id": number, "content": word, "special": True} | options)
    path.write_text(json.dumps(document), encoding="utf-8")
    pixels = {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "merge_size": 2}
    for name, kind in (("", "ImageProcessor"), ("video_", "VideoProcessor")):
        key = f"{name or 'image_'}processor_type"
        words = {key: f"Qwen2VL{kind}", "processor_class": "Qwen2_5_VLProcessor", **pixels}
        (folder / f"{name}preprocessor_config.json").write_text(json.dumps(words), encoding="utf-8")


def make_picture(path: Path, side: int) -> Path:
    """A square of one colour."""
    from PIL import Image

    Image.new("RGB", (side, side), (200, 30, 30)).save(path)
    return path


def make_rows(path: Path, row: Row, count: int) -> Path:
    """Write `count` rows of exactly ``row.seq_len`` tokens in the template chatml, as random letters.

    Where the rows are uneven, every second answer is one letter shorter. Rows of DPO have two answers of one length.
    """
    letters = random.Random(0)  # noqa: S311 - text to count, not a secret

    def word(length: int) -> str:
        return "".join(letters.choices(LETTERS, k=length))

    picture = make_picture(path.with_suffix(".png"), row.side) if row.side else None
    with path.open("w", encoding="utf-8") as file:
        for index in range(count):
            length = row.answer - (row.uneven and index % 2)
            asked, answer = word(row.question), word(length)
            messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
            more: dict[str, Any] = {"rejected_response": word(length)} if row.stage == "dpo" else {}
            if row.stage == "grpo":
                messages.pop()  # the answer is the model's
            if row.side:
                more["images"] = [str(picture)]
                messages[0]["content"] = f"<image>{asked}"
            file.write(json.dumps({"messages": messages, **more}) + "\n")
    return path
