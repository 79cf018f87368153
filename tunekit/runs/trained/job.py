"""One call that uses a trained model: which model, on which GPUs, with which flags, and the commands for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.engine.after import FOLLOWUPS, after_command, answer_flags, load_flags, merge_flags
from tunekit.engine.command import PROGRAM
from tunekit.engine.flags import AFTER_CLASSES, flag_table
from tunekit.errors import TunekitError
from tunekit.plan.settings import whole_number
from tunekit.runs.attempts import engine_or_fail
from tunekit.runs.trained.targets import find_target
from tunekit.runs.trained.use import devices_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tunekit.engine.after import Followup
    from tunekit.engine.command import Command
    from tunekit.plan.settings import Value
    from tunekit.runs.trained.targets import Target

OWN: Mapping[str, str] = {
    "adapters": "RUN and --checkpoint name the weights",
    "model": "RUN names the model",
    "load_args": "what the run was trained with is taken from it",
    "ckpt_dir": "RUN and --checkpoint name the weights",
    "merge_lora": "tunekit merge RUN merges, and --merged takes what it made",
    "val_dataset": "tunekit predict RUN --dataset DATA answers the rows of a dataset",
    "cached_val_dataset": "tunekit predict RUN --dataset DATA answers the rows of a dataset",
    "split_dataset_ratio": "tunekit predict RUN --dataset DATA answers every row",
    "result_path": "--output names the file",
    "write_batch_size": "tunekit sets it, so that it can say how far it is",
    "remove_unused_columns": "rows keep all their columns anyway",
    "val_dataset_shuffle": "answers come in the order of the rows",
    "push_to_hub": "merge first, then: swift export --model FOLDER --push_to_hub true --hub_model_id ID",
    "eval_output_dir": "results are kept with the run",
    "eval_url": "RUN names the model",
    "api_key": "the model is served to this machine alone, while it is evaluated: it needs no key",
}
"""Flags of ms-swift that tunekit sets by itself, and what to say instead."""

UNUSED = {
    "merge": (
        *("to_ollama", "to_mcore", "to_hf", "to_cached_dataset", "to_peft_format", "mcore_model", "mcore_adapter"),
        *("thread_count", "test_convert_precision", "test_convert_dtype", "save_missing_weights", "template_mode"),
        *("quant_method", "quant_bits", "quant_n_samples", "quant_batch_size", "group_size", "hqq_axis"),
        *("bnb_4bit_compute_dtype", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "bnb_4bit_quant_storage"),
        *("hub_model_id", "hub_private_repo", "commit_message", "dataset"),
    ),
}
"""Flags that ms-swift takes for a command and does nothing with: they are of ``swift export``, which shares its flags
with the merge (ms-swift 4.6 cli/merge_lora.py, pipelines/export/merge_lora.py)."""


@dataclass(frozen=True)
class Job:
    """One call of `followup` with the model of `target`.

    Attributes:
        devices: the GPUs that it is loaded on; none means the CPU.
        typed: flags of ms-swift that the user gave. They are stronger than those that tunekit sets.
    """

    followup: Followup
    target: Target
    devices: tuple[str, ...]
    typed: Mapping[str, Value]

    def load_flags(self) -> dict[str, Value]:
        """The flags by which ms-swift loads the model."""
        return load_flags(self.target.weights, cpu=not self.devices)

    def command(self, flags: Mapping[str, Value], *, real: bool = False, followup: Followup | None = None) -> Command:
        """The command with tunekit's flags and those that were typed: `real` to be started here, else to be printed."""
        env = {"CUDA_VISIBLE_DEVICES": ",".join(self.devices)} if self.devices else {}
        program = engine_or_fail().program if real else PROGRAM
        return after_command(followup or self.followup, {**flags, **self.typed}, env, program)

    def to_talk(self, *, real: bool = False) -> Command:
        """The command of a chat."""
        return self.command(self.load_flags(), real=real)

    def to_merge(self, output: Path, *, real: bool = False, more: Mapping[str, Value] | None = None) -> Command:
        """The command that merges the adapter into a whole model, in the folder `output`; `more` are flags for it."""
        flags = {**merge_flags(self.target.weights, output), **(more or {})}
        return self.command(flags, real=real, followup=FOLLOWUPS["merge"])

    def to_answer(self, rows: list[str], result: Path, columns: str = "", *, real: bool = False) -> Command:
        """The command that answers the rows of datasets into a file; `columns` is JSON, as ``--columns`` takes it."""
        at_once = whole_number(self.typed.get("max_batch_size", 1))
        flags = answer_flags(self.target.weights, rows, result, cpu=not self.devices, at_once=at_once)
        if columns:
            flags["columns"] = columns
        return self.command(flags, real=real, followup=FOLLOWUPS["predict"])


def prepare_job(
    name: str, run: str, checkpoint: str, flags: Mapping[str, Sequence[str]], *, merged: bool = False
) -> Job:
    """Find the model, and check that the command can be done with it and that the flags are ms-swift's.

    `name` is a key of `FOLLOWUPS`; `run`, `checkpoint` and `merged` are as `find_target` takes them. Raises
    TunekitError where the command cannot be done, or a flag is not for it.
    """
    followup = FOLLOWUPS[name]
    typed = check_flags(followup, flags)
    target = find_target(run, checkpoint, merged=merged)
    target.check(followup)
    return Job(followup, target, devices_for(target), typed)


def check_flags(followup: Followup, flags: Mapping[str, Sequence[str]]) -> dict[str, Value]:
    """The values of typed flags of ms-swift. Raises TunekitError for those that the command does not take."""
    if not flags:
        return {}
    table = flag_table(AFTER_CLASSES)
    for flag in flags:
        if flag in OWN:
            raise TunekitError(f"tunekit {followup.command} takes no --{flag}", OWN[flag])
        if flag in UNUSED.get(followup.command, ()):
            after = f"--{' '.join((flag, *flags[flag]))}"
            problem = f"--{flag} does nothing here: swift {followup.swift} reads no such flag"
            raise TunekitError(problem, f"{followup.command} first, then: swift export --model FOLDER {after}")
        if flag not in table.by_command[followup.table] and flag in flag_table().by_command["rlhf"]:
            raise TunekitError(f"--{flag} is for training; swift {followup.table} takes no such flag")
    return {flag: table.parse(flag, words, followup.table) for flag, words in flags.items()}
