"""An imported run, written as a command of ms-swift, as one of tunekit, or with others as a recipe."""

from __future__ import annotations

import json
import math
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunekit.plan.batch import MINIMUM_EFFECTIVE
from tunekit.recipes.importers.translation import TRAINS
from tunekit.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tunekit.recipes.importers.translation import Draft

MICRO, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"
ROWS = 16
"""Rows a step that ms-swift fills up to where no accumulation is said (sft_args.py, _init_override)."""
FIRST = ("model", "adapters", "tuner_type", "dataset", "val_dataset")
"""Flags that stand in front."""
OWN = (
    "rlhf_type",
    MICRO,
    ACCUMULATION,
    "output_dir",
    "add_version",
    "resume_from_checkpoint",
    "create_checkpoint_symlink",
)
"""Flags that tunekit decides by itself, or says in its own words."""
STARTS = ("model", "adapters", "ref_model", "ref_adapters")
"""Flags that say what a run starts from: in a recipe the stage before it."""
LAUNCH = ("CUDA_VISIBLE_DEVICES", "NPROC_PER_NODE")
"""Variables that tunekit sets for the GPUs that it is told to use."""


@dataclass(frozen=True)
class SourceBatch:
    """The batch of a run as it was.

    Attributes:
        data_parallel: copies of the model; None where nothing says how many processes there were.
        warning: what is to be known of it.
    """

    micro: int
    accumulation: int
    data_parallel: int | None
    warning: str | None = None

    @property
    def effective(self) -> int:
        """Rows a step; of one process where their number is not known."""
        return self.micro * self.accumulation * (self.data_parallel or 1)


def batch_of(draft: Draft) -> SourceBatch | None:
    """The batch that a run trains with; None where nothing is trained."""
    if draft.command not in TRAINS:
        return None
    world = draft.world or draft.source.world
    shards = _number(draft.flags.get("sequence_parallel_size")) or 1
    copies = max(world // shards, 1) if world else None
    micro = draft.micro or _number(draft.flags.get(MICRO)) or 1
    said = draft.accumulation or _number(draft.flags.get(ACCUMULATION))
    accumulation = said or math.ceil(ROWS / (micro * (copies or 1)))
    batch = SourceBatch(micro, accumulation, copies)
    warnings = []
    if batch.effective < MINIMUM_EFFECTIVE and copies:
        warnings.append(f"{batch.effective} rows a step: tunekit trains with {MINIMUM_EFFECTIVE} or more")
    if copies is None:
        rows = f"one process makes {batch.effective} rows a step, each further one as many again"
        warnings.append(f"how many processes there were stands nowhere: {rows} (--world N says it)")
    return SourceBatch(micro, accumulation, copies, "; ".join(warnings) or None)


def _number(words: list[str] | None) -> int | None:
    word = words[0] if words else ""
    return int(word) if re.fullmatch(r"[1-9][0-9]{0,8}", word) else None


def swift_words(draft: Draft) -> list[str]:
    """The command of ms-swift: the run as it was."""
    return ["swift", draft.command, *_flag_words(draft, _ordered(draft))]


def _ordered(draft: Draft) -> list[str]:
    head = [name for name in ("rlhf_type", *FIRST) if name in draft.flags]
    return [*head, *(name for name in draft.flags if name not in head)]


def _flag_words(draft: Draft, names: Sequence[str]) -> list[str]:
    return [word for name in names for word in (f"--{name}", *draft.flags[name])]


def tunekit_words(draft: Draft) -> list[str]:
    """The command of tunekit that pins every value, with 32 rows a step or more; ms-swift's if nothing is trained."""
    batch = batch_of(draft)
    if batch is None:
        return swift_words(draft)
    words = ["tunekit", stage_of(draft), "--preset", "none"]
    if batch.data_parallel:
        words += ["--gpus", str(draft.world or draft.source.world)]
    words += ["--micro-batch", str(batch.micro), "--effective-batch", str(raised(batch))]
    if "output_dir" in draft.flags:
        words += ["--output-dir", *draft.flags["output_dir"]]
    return [*words, *_flag_words(draft, [name for name in _ordered(draft) if name not in OWN])]


def raised(batch: SourceBatch) -> int:
    """Rows a step that tunekit trains with: as many as before, and 32 at the least, in whole micro-batches."""
    unit = batch.micro * (batch.data_parallel or 1)
    return max(batch.effective, math.ceil(MINIMUM_EFFECTIVE / unit) * unit)


def stage_of(draft: Draft) -> str:
    """The stage of tunekit that a run is."""
    return draft.flags.get("rlhf_type", [draft.command])[0]


def variables_of(draft: Draft, *, swift: bool) -> dict[str, str]:
    """The variables to set in front of the command; tunekit sets those of the launch by itself."""
    trains = draft.command in TRAINS
    return {name: value for name, value in draft.env.items() if swift or not trains or name not in LAUNCH}


def script_of(drafts: Sequence[Draft], *, swift: bool) -> str:
    """The runs as lines of a shell."""
    lines: list[str] = []
    for draft in drafts:
        lines += [shlex.join(words) for words in draft.before]
        env = [f"{name}={shlex.quote(value)}" for name, value in variables_of(draft, swift=swift).items()]
        words = swift_words(draft) if swift else tunekit_words(draft)
        lines.append(" \\\n  ".join(_lines_of([*env, *_head(words)], words)))
    return "\n".join(lines) + "\n"


def _head(words: list[str]) -> list[str]:
    return [shlex.quote(word) for word in words[:2]]


def _lines_of(head: list[str], words: list[str]) -> list[str]:
    """The command a flag a line."""
    lines = [" ".join(head)]
    for word in words[2:]:
        if word.startswith("--"):
            lines.append(word)
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return lines


def recipe_of(drafts: Sequence[Draft], title: str) -> str:
    """A recipe with a stage for each run that trains."""
    lines = [f"title = {_toml(title)}"]
    names: list[str] = []
    for draft in drafts:
        batch = batch_of(draft)
        if batch is None or stage_of(draft) not in STAGES:
            continue
        name = stage_of(draft)
        number = sum(used.partition("-")[0] == name for used in names)
        names.append(f"{name}-{number + 1}" if number else name)
        lines += ["", "[[stage]]", f"type = {_toml(name)}", f"name = {_toml(names[-1])}", 'preset = "none"']
        lines += [f"micro_batch = {batch.micro}", f"effective_batch = {raised(batch)}"]
        goes_on = _goes_on(draft, drafts)
        if len(names) > 1 and not goes_on:
            lines.append('from = "base"')
        for flag in _ordered(draft):
            if flag not in OWN and not (goes_on and flag in STARTS):
                words = draft.flags[flag]
                lines.append(f"{flag} = {_toml(words[0] if len(words) == 1 else words)}")
    return "\n".join(lines) + "\n"


def _goes_on(draft: Draft, drafts: Sequence[Draft]) -> bool:
    """Whether a run starts from what an earlier one of the file leaves."""
    earlier = drafts[: list(drafts).index(draft)]
    left = [word.rstrip("/") for other in earlier for word in other.flags.get("output_dir", ())]
    starts = [word for flag in STARTS for word in draft.flags.get(flag, ())]
    return any(start == place or start.startswith(f"{place}/") for start in starts for place in left)


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
