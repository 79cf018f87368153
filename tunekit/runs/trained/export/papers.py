"""What goes with exported weights: a model card, Ollama's Modelfile, and a record of how they were made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tunekit
from tunekit.files import digest_of, read_object
from tunekit.runs.folder import now
from tunekit.runs.trained.export.template import ollama_template

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tunekit.plan.plan import Plan
    from tunekit.runs.trained.export.formats import Format
    from tunekit.runs.trained.export.parity import Parity
    from tunekit.runs.trained.targets import Target

RECORD, CARD, MODELFILE = "export.json", "README.md", "Modelfile"

SAMPLING: Mapping[str, tuple[str, float]] = {
    "temperature": ("temperature", 1.0),
    "top_p": ("top_p", 1.0),
    "top_k": ("top_k", 50),
    "repeat_penalty": ("repetition_penalty", 1.0),
}
"""Ollama's parameters, each with its name in generation_config.json and what transformers takes where none is there:
Ollama's own defaults are others (temperature 0.8, top_k 40, top_p 0.9)."""

LEAST_CONTEXT = 2048
"""Tokens of a conversation that is served at the least: rows of a training are often shorter."""

TOLD_SETTINGS = (
    *("tuner_type", "lora_rank", "lora_alpha", "target_modules", "quant_method", "quant_bits", "learning_rate"),
    *("lr_scheduler_type", "warmup_ratio", "num_train_epochs", "max_steps", "max_length", "packing", "torch_dtype"),
    *("rlhf_type", "beta", "seed"),
)
"""Settings that a card holds."""


@dataclass(frozen=True)
class Made:
    """An export as its papers describe it.

    Attributes:
        quantization: of a GGUF file; empty of anything else.
        prompts: what the worker said of both sides' prompts; empty where it was not asked.
        same_prompt: whether both write the same conversations with the same tokens; None where that is not known.
        commands: that made it, one a line, with paths as they were.
    """

    target: Target
    form: Format
    name: str
    quantization: str = ""
    prompts: Mapping[str, Any] = field(default_factory=dict)
    same_prompt: bool | None = None
    parity: Parity | None = None
    commands: Sequence[str] = ()

    @property
    def base(self) -> str:
        """The model that was trained on, as a hub knows it; empty where it is a folder of this machine, or unknown."""
        plan = self.target.plan
        return plan.model.id if plan and not plan.model.local else ""


def record_of(made: Made) -> str:
    """``export.json``: what it is, what it was made of and how, and how near it is to the trained model."""
    document = {
        "tunekit": tunekit.__version__,
        "made": now(),
        "of": made.target.name,
        "to": made.form.name,
        "quantization": made.quantization or None,
        "base": made.base or None,
        "parity": asdict(made.parity) if made.parity else None,
        "prompt_as_trained": made.same_prompt,
        "commands": list(made.commands),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def modelfile(made: Made, file: str, generation: Mapping[str, Any], ends: Sequence[str]) -> str:
    """A Modelfile for the GGUF `file` beside it; `generation` is generation_config.json, `ends` its end tokens as text.

    ms-swift's own cannot be read by Ollama (``repeat_penalty None``), and names neither the system prompt nor a length.
    """
    parts: Mapping[str, str] = made.prompts.get("parts", {})
    plan = made.target.plan
    length = plan.get("max_length") if plan else None
    context = max(LEAST_CONTEXT, length) if isinstance(length, int) else LEAST_CONTEXT
    lines = [f"FROM ./{file}"]
    if parts:
        lines.append(f'TEMPLATE """{ollama_template(parts)}"""')
    if parts.get("system"):
        lines.append(f'SYSTEM """{parts["system"]}"""')
    stops = [stop for stop in dict.fromkeys([*made.prompts.get("stops", ()), *ends]) if stop]
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops]
    for name, (theirs, usual) in SAMPLING.items():
        value = generation.get(theirs)
        lines.append(f"PARAMETER {name} {value if isinstance(value, (int, float)) else usual}")
    lines.append(f"PARAMETER num_ctx {context}")
    return "\n".join(lines) + "\n"


def card_of(made: Made) -> str:
    """``README.md``: a model card with the metadata that hubs read. No path of this machine is in it."""
    plan = made.target.plan
    head = [
        "---",
        *([f"base_model: {made.base}"] if made.base else []),
        f"library_name: {'gguf' if made.form.gguf else 'transformers'}",
        f"pipeline_tag: {'image-text-to-text' if plan and plan.model.multimodal else 'text-generation'}",
        "tags:",
        *[f"- {tag}" for tag in ("ms-swift", "tunekit", *([plan.stage.name] if plan else []))],
        "---",
    ]
    body = [f"# {made.name}", "", _what_it_is(made), "", *_training(made)]
    body += ["## Prompt format", "", _prompt_words(made), ""]
    if made.parity:
        body += ["## How near it is to the trained model", "", f"{made.parity.in_words()}.", ""]
    licence = "That of the base model holds, and that of the data; neither is known to the program that wrote this."
    body += ["## Licence", "", licence, ""]
    return "\n".join([*head, "", *body])


def _what_it_is(made: Made) -> str:
    base = f"[{made.base}](https://huggingface.co/{made.base})" if made.base else "a model that is on no hub"
    how = f", as GGUF {made.quantization}" if made.quantization else ""
    return f"Fine-tuned from {base} with ms-swift and tunekit{how}."


def _training(made: Made) -> list[str]:
    plan = made.target.plan
    if plan is None:
        return []
    rows = [(name, plan.get(name)) for name in TOLD_SETTINGS]
    rows += [("effective batch", plan.batch.effective)]
    table = [f"| {name} | {_cell(value)} |" for name, value in rows if value is not None]
    return [
        "## Training",
        "",
        f"Stage: {plan.stage.name}.",
        "",
        "| setting | value |",
        "|---|---|",
        *table,
        *_data(plan, made.target.cwd),
    ]


def _data(plan: Plan, cwd: Path) -> list[str]:
    """The data by name and digest: what a reader can compare, and no path. Relative names begin in `cwd`."""
    names = plan.get("dataset")
    found = []
    for name in names if isinstance(names, list) else []:
        path = cwd / str(name)
        digest = f", SHA-256 {digest_of(path)[:16]}…" if path.is_file() else ""
        found.append(f"- {path.name if digest or Path(str(name)).is_absolute() else name}{digest}")
    return ["", "Data:", "", *found, ""] if found else [""]


def _prompt_words(made: Made) -> str:
    parts = made.prompts.get("parts")
    if not parts:
        return "That of the base model's chat template, as far as is known."
    system = f" The system prompt of the training: {parts['system']!r}." if parts["system"] else ""
    return f"As trained:{system}\n\n```\n{parts['system_prefix']}{parts['prompt']}ANSWER{parts['suffix']}\n```"


def _cell(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return Path(text).name if text.startswith("/") else text.replace("|", "\\|")


def end_tokens(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """generation_config.json of a folder, and the end tokens that it names as text."""
    generation = read_object(folder / "generation_config.json")
    said = generation.get("eos_token_id")
    wanted = set(said if isinstance(said, list) else [said]) - {None}
    known = read_object(folder / "tokenizer.json").get("added_tokens")
    return generation, [token["content"] for token in known or () if token.get("id") in wanted]
