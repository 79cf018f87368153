"""What an export asks of torch and ms-swift: the prompts of both sides, and what a model thinks of the same answers.

One process answers all questions of an export: it keeps the probabilities of the trained model for the comparisons.
"""

from __future__ import annotations

import gc
from typing import Any

from tunekit.runs.trained.export.template import matching_template

HELD: dict[str, Any] = {}
"""What the trained model said: the tokens of each prompt, those of its answer, and the logarithms of probabilities."""

TEXTS = 3
"""Answers that are shown."""


def answer_export(question: dict[str, Any]) -> dict[str, Any]:
    """Answer a question of `tunekit.runs.trained.export`; its ``do`` says which."""
    return {"prompts": _prompts, "reference": _reference, "compare": _compare}[question["do"]](question)


def _prompts(question: dict[str, Any]) -> dict[str, Any]:
    """Each conversation as training writes it and as the folder's own chat template does, in tokens and in text."""
    from transformers import AutoTokenizer

    template = _template(question["load"])
    served: Any = AutoTokenizer.from_pretrained(question["folder"])
    if question["chat_template"]:
        served.chat_template = question["chat_template"]
    pairs = []
    for messages in question["conversations"]:
        trained = _ids(template, messages)
        try:
            given = served.apply_chat_template(messages, add_generation_prompt=True, tokenize=True)
        except Exception as error:  # noqa: BLE001 - a chat template may refuse a system message, or not be there
            pairs.append({"trained": served.decode(trained), "served": None, "same": False, "why": str(error)[:200]})
            continue
        given = given["input_ids"] if hasattr(given, "keys") else given
        same = list(given) == list(trained)
        pairs.append({"trained": served.decode(trained), "served": served.decode(given), "same": same})
    meta = template.template_meta
    parts = {
        name: _text(getattr(meta, name) or [], template.tokenizer)
        for name in ("prefix", "system_prefix", "prompt", "chat_sep", "suffix")
    }
    begin = _begin(template.tokenizer) if meta.auto_add_bos else ""
    parts |= {name: begin + parts[name] for name in ("prefix", "system_prefix")}
    system = meta.default_system or ""
    stops = [_text([word], template.tokenizer) for word in meta.stop_words]
    plain = not any(mark in parts["prompt"] for mark in ("{{SYSTEM}}", "{{ROUND"))
    return {
        "pairs": pairs,
        "parts": {**parts, "system": system},
        "stops": list(dict.fromkeys([parts["suffix"].strip(), *(word.strip() for word in stops)])),
        "jinja": matching_template(parts, system) if plain else "",
    }


def _reference(question: dict[str, Any]) -> dict[str, Any]:
    """Let the trained model answer, and hold what it thinks of its answers; the same of the model below an adapter."""
    import torch
    from swift.pipelines.utils import prepare_model_template

    torch.manual_seed(0)
    model, template = prepare_model_template(_arguments(question["load"]))
    model.eval()
    prompts = [_ids(template, messages) for messages in question["conversations"]]
    prompts = [ids for ids in prompts if ids][: question["prompts"]]
    end = template.tokenizer.eos_token_id
    answers = [_answer(model, ids, question["tokens"], end) for ids in prompts]
    HELD.update(prompts=prompts, answers=answers, logs=_logs(model, prompts, answers))
    made: dict[str, Any] = {
        "prompts": len(prompts),
        "tokens": sum(map(len, answers)),
        "texts": [template.tokenizer.decode(ids, skip_special_tokens=True) for ids in answers[:TEXTS]],
        "base": None,
    }
    if hasattr(model, "disable_adapter"):
        with model.disable_adapter():
            made["base"] = _distance(_logs(model, prompts, answers))
    del model
    gc.collect()
    return made


def _compare(question: dict[str, Any]) -> dict[str, Any]:
    """How near the model in a folder is to the trained one, on the answers that the latter gave."""
    from transformers import AutoModelForCausalLM

    file = {"gguf_file": question["gguf"]} if question.get("gguf") else {}
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(question["folder"], dtype=question["dtype"], **file)
    except ValueError:  # not a causal language model by itself: one that sees, which ms-swift knows
        if file:
            raise
        from swift.pipelines.utils import prepare_model_template

        model = prepare_model_template(_arguments(question["load"]))[0]
    model.eval()
    return _distance(_logs(model, HELD["prompts"], HELD["answers"]))


def _arguments(load: dict[str, Any]) -> Any:
    from swift.arguments import BaseArguments

    return BaseArguments(**load)


def _template(load: dict[str, Any]) -> Any:
    arguments = _arguments(load)
    return arguments.get_template(arguments.get_model_processor(load_model=False)[1])


def _ids(template: Any, messages: list[dict[str, Any]]) -> list[int]:
    """The tokens of a conversation up to where the model is to answer."""
    template.set_mode("transformers")
    return [int(number) for number in template.encode({"messages": messages})["input_ids"]]


def _text(prompt: list[Any], tokenizer: Any) -> str:
    """A part of an ms-swift template as text: it may hold words, names of special tokens, and numbers of tokens."""
    words = []
    for part in prompt:
        if isinstance(part, str):
            words.append(part)
            continue
        for token in part:
            named = getattr(tokenizer, token[: -len("_id")], None) or "" if isinstance(token, str) else ""
            words.append(named if isinstance(token, str) else tokenizer.decode([token]))
    return "".join(words)


def _begin(tokenizer: Any) -> str:
    """What a tokenizer puts before a text by itself, as ms-swift finds it (template/base.py, auto_add_bos)."""
    (single,) = tokenizer.encode("a", add_special_tokens=False)
    every = tokenizer.encode("a")
    return str(tokenizer.decode(every[: every.index(single)]))


def _answer(model: Any, prompt: list[int], most: int, end: int | None) -> list[int]:
    import torch

    with torch.no_grad():
        ids = torch.tensor([prompt], device=model.device)
        made = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=most,
            do_sample=False,
            pad_token_id=end,
        )
    return [int(number) for number in made[0][len(prompt) :]]


def _logs(model: Any, prompts: list[list[int]], answers: list[list[int]]) -> list[Any]:
    """Of each answer the logarithms of the probabilities of all tokens, at each of its places."""
    import torch

    found = []
    with torch.no_grad():
        for prompt, answer in zip(prompts, answers, strict=True):
            ids = torch.tensor([prompt + answer], device=model.device)
            logits = model(input_ids=ids).logits[0, len(prompt) - 1 : len(prompt) + len(answer) - 1]
            found.append(torch.log_softmax(logits.float(), -1).half().cpu())
    return found


def _distance(logs: list[Any]) -> dict[str, float]:
    """The share of places where both think of the same token first, and the mean KL divergence from the trained one."""
    import torch

    trained, other = torch.cat(HELD["logs"]).float(), torch.cat(logs).float()
    width = min(trained.shape[-1], other.shape[-1])  # a head may be padded, or rows for padding may be cut off
    trained, other = trained[:, :width], other[:, :width]
    same = (trained.argmax(-1) == other.argmax(-1)).float().mean()
    apart = (trained.exp() * (trained - other)).sum(-1).mean()
    return {"top1": float(same), "kl": max(0.0, float(apart))}
