"""What is done with a trained model: one table, and the command of ms-swift behind each line of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunekit.engine.command import PROGRAM, Command, flag_words
from tunekit.plan.settings import TUNEKIT, Setting
from tunekit.stages import MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tunekit.plan.plan import Plan
    from tunekit.plan.settings import Value
    from tunekit.stages import Stage


@dataclass(frozen=True)
class Followup:
    """One thing to do with a trained model: a command of tunekit, and the command of ms-swift behind it.

    `table` says whose flags it takes, a key of `tunekit.engine.flags.AFTER_CLASSES`. It is suggested at the end of a
    run under its `title`, where it has one. `adapter`: it makes sense of an adapter only; `rewards`: of a reward model
    too.
    """

    command: str
    swift: str
    table: str
    title: str = ""
    adapter: bool = False
    rewards: bool = False


FOLLOWUPS: Mapping[str, Followup] = {
    line.command: line
    for line in (
        Followup("chat", "infer", "infer", title="Chat"),
        # `swift export --merge_lora true` would quantize what it merged again where the run was a QLoRA.
        Followup("merge", "merge-lora", "export", title="Merge", adapter=True, rewards=True),
        Followup("predict", "infer", "infer", rewards=True),
        Followup("eval", "eval", "eval"),
        Followup("export", "merge-lora", "export"),
        Followup("serve", "deploy", "deploy"),
    )
}
"""By the command of tunekit, in the order in which they are suggested."""

CARRIED = ("use_hf", "local_repo_path", "model_kwargs", "max_pixels", "enable_thinking")
"""Settings of a run that count for its model afterwards too, and that ms-swift does not take out of the ``args.json``
beside a checkpoint (arguments/base_args/base_args.py, load_args_from_ckpt)."""

PATHS = ("external_plugins", "local_repo_path", "custom_register_path")
"""Settings that name files; relative ones begin in the folder where the run was started."""

CPU: Mapping[str, Value] = {"device_map": "cpu", "torch_dtype": "float32"}
"""How a model is loaded without a GPU: half precision is slow on most CPUs, and wrong on some."""

FLASH = "flash"
"""Attention that needs a GPU begins with that; `ANYWHERE` is what every model can do instead."""
ANYWHERE = "eager"

SHARD = 16
"""Rows that are written at once, for each row that is computed at once: so often is seen how far it is."""


@dataclass(frozen=True)
class Weights:
    """What ms-swift is to load: the folder of a whole model or of an adapter, and the flags it needs beside that.

    The model below an adapter, its type, its template, its precision and its system prompt stand in the ``args.json``
    beside it, where ms-swift finds them. `quantized`: that model is held in a few bits; `flash`: it was trained with
    flash attention.
    """

    folder: Path
    adapter: bool
    flags: Mapping[str, Value] = field(default_factory=dict)
    quantized: bool = False
    flash: bool = False


def suggested(plan: Plan) -> list[Followup]:
    """What is usually done next with what a plan has trained."""
    stage, adapter = plan.stage, plan.get("tuner_type") != "full"
    return [line for line in FOLLOWUPS.values() if line.title and refusal(line, stage, adapter=adapter) is None]


def refusal(followup: Followup, stage: Stage | None, *, adapter: bool) -> tuple[str, str] | None:
    """Why something cannot be done with a model that `stage` trained, and what can be instead; None where it can."""
    if stage and stage.gives != MODEL and not followup.rewards:
        return f"a reward model scores answers, it gives none: {followup.command} needs a model that answers", (
            "tunekit predict scores the rows of a dataset with it"
        )
    if followup.adapter and not adapter:
        return "there is nothing to merge: it is a whole model, not an adapter", "use its folder as it is"
    return None


def weights_of(plan: Plan, folder: Path, *, adapter: bool) -> Weights:
    """The weights in a folder that were trained by a plan."""
    return Weights(
        folder=folder,
        adapter=adapter,
        flags={flag: value for flag in CARRIED if (value := plan.get(flag)) is not None},
        quantized=adapter and plan.get("quant_method") is not None,
        flash=str(plan.get("attn_impl")).startswith(FLASH),
    )


def load_flags(weights: Weights, *, cpu: bool) -> dict[str, Value]:
    """The flags by which ms-swift loads a model to use it."""
    folder = str(weights.folder)
    flags: dict[str, Value] = {"adapters": [folder]} if weights.adapter else {"model": folder}
    flags |= weights.flags
    if cpu:
        flags |= CPU
        if weights.flash:
            flags["attn_impl"] = ANYWHERE
    return flags


def merge_flags(weights: Weights, target: Path) -> dict[str, Value]:
    """The flags by which ms-swift merges an adapter into its model.

    It is done in RAM: a merge computes next to nothing, the model need not fit the GPU without quantization, and one
    that trains there is not disturbed.
    """
    flags: dict[str, Value] = {"adapters": [str(weights.folder)], **weights.flags}
    flags |= {"output_dir": str(target), "device_map": "cpu"}
    return flags | ({"attn_impl": ANYWHERE} if weights.flash else {})


def answer_flags(weights: Weights, rows: list[str], result: Path, *, cpu: bool, at_once: int = 1) -> dict[str, Value]:
    """The flags by which ms-swift answers the `rows` of datasets, `at_once` of them (``--max_batch_size``)."""
    flags = load_flags(weights, cpu=cpu)
    return flags | {"val_dataset": rows, "result_path": str(result), "write_batch_size": SHARD * max(1, at_once)}


def after_command(
    followup: Followup, flags: Mapping[str, Value], env: Mapping[str, str], program: tuple[str, ...] = PROGRAM
) -> Command:
    """The command of ms-swift for a line of the table."""
    argv = [*program, followup.swift]
    for flag, value in flags.items():
        argv += flag_words(flag, Setting(value, TUNEKIT))
    return Command(tuple(argv), dict(env))
