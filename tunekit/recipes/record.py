"""What a finished stage was made of, so that the same is not done twice and another is not taken for it."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.data.files import local_file
from tunekit.errors import TunekitError
from tunekit.files import digest_of, path_of, write_atomically
from tunekit.plan.configuration import BATCH_FLAGS
from tunekit.plan.settings import text
from tunekit.runs.folder import RESULT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.plan.plan import Plan
    from tunekit.recipes.chain import Step

FILE = "stage.json"
SCHEMA = 1

# fmt: off
NOT_LEARNED = (
    *BATCH_FLAGS, "per_device_eval_batch_size", "gradient_checkpointing", "vit_gradient_checkpointing",
    "use_liger_kernel", "deepspeed", "ddp_backend", "attn_impl", "padding_free", "use_cpu", "dataloader_num_workers",
    "dataset_num_proc", "save_total_limit", "logging_steps", "report_to",
)
# fmt: on
"""Flags of how it is computed and reported, not of what is learned; they may follow the free memory of the moment."""

DATA_FLAGS = ("dataset", "val_dataset", "external_plugins")
"""Flags that name files whose content counts."""


@dataclass(frozen=True)
class Record:
    """What ``stage.json`` in a stage's folder holds.

    Attributes:
        id: of this training of the stage; a stage that starts from it is done again when it changes.
        settings: flags that decide what is learned, as text, the effective batch among them.
        files: each file that was learned from: its size, the time of its last change in ns, and its SHA-256.
        starts: each earlier stage that it starts from, with that one's id and checkpoint.
        planned: all flags as they were planned; a run may have changed them since, for want of memory.
    """

    id: str
    settings: Mapping[str, str]
    files: Mapping[str, tuple[int, int, str]]
    starts: Mapping[str, str]
    planned: Mapping[str, str] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write ``stage.json``."""
        document = {"schema": SCHEMA, **asdict(self)}
        write_atomically(folder / FILE, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def load_record(folder: Path) -> Record | None:
    """The record in a stage's folder; None where there is none that this version can read."""
    try:
        document = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if document.pop("schema") != SCHEMA:
            return None
        files = {name: (size, changed, digest) for name, (size, changed, digest) in document.pop("files").items()}
        return Record(**document, files=files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def make_record(item: Step, earlier: Mapping[str, Path], before: Record | None = None) -> Record:
    """The record of a stage about to be trained; files as they are in the record `before` are not read again."""
    known = before.files if before else {}
    files = {str(path): _content(path, known.get(str(path))) for path in files_of(item)}
    starts = {name: version(path) for name, path in earlier.items()}
    return Record(uuid.uuid4().hex, learned_flags(item.plan), files, starts, flags_of(item.plan))


def flags_of(plan: Plan) -> dict[str, str]:
    """All flags of a plan, as text."""
    return {flag: text(setting.value) for flag, setting in plan.settings.items()}


def learned_flags(plan: Plan) -> dict[str, str]:
    """What of a plan decides what is learned, as text."""
    kept = {flag: words for flag, words in flags_of(plan).items() if flag not in NOT_LEARNED}
    return kept | {"effective_batch": str(plan.batch.effective)}


def takes_over(before: Record, reached: Plan, now: Plan) -> bool:
    """Whether a run that was broken off goes on by another plan that learns the same, with another micro-batch perhaps.

    Not where the plan is as it was, so that what retries have found stays; nor where a lossy retry has changed what is
    learned; nor with other processes or another DeepSpeed, whose checkpoints ms-swift would restart from, silently.
    `reached` is the plan that the run has come to, `now` what would be planned now.
    """
    was, will = ((plan.batch.data_parallel, plan.get("deepspeed")) for plan in (reached, now))
    return was == will and before.planned != flags_of(now) and learned_flags(reached) == before.settings


def files_of(item: Step) -> list[Path]:
    """The files whose content a stage learns from: datasets, functions, and the folder that it starts from."""
    names = [name for flag in DATA_FLAGS for name in item.plan.words(flag)]
    functions = [*item.plan.rewards, *([item.plan.row_format] if item.plan.row_format else [])]
    found = [_local(name) for name in names] + [Path(function.file) for function in functions]
    start = path_of(item.part.start)
    if item.start.how != "base" and start.is_dir():
        found.append(start)
    paths: list[Path] = []
    for path in dict.fromkeys(path for path in found if path):
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        paths += [file for file in inside if file.is_file()]
    return paths


def _local(name: str) -> Path | None:
    """The file or folder that a dataset's name means; None for an id on a hub."""
    try:
        return local_file(name) or (Path(name) if Path(name).is_dir() else None)
    except TunekitError:  # the check of the data says so
        return None


def _content(path: Path, known: tuple[int, int, str] | None) -> tuple[int, int, str]:
    stat = path.stat()
    if known and known[:2] == (stat.st_size, stat.st_mtime_ns):
        return known
    return stat.st_size, stat.st_mtime_ns, digest_of(path)


def version(folder: Path) -> str:
    """Which training of a stage, and which checkpoint of it, its folder holds; empty where it holds none."""
    record = load_record(folder)
    result = folder / RESULT
    return f"{record.id} {result.resolve().name}" if record and result.exists() else ""


def differences(old: Record, new: Record) -> list[str]:
    """What a stage would learn from now, and did not then; in a few words each."""
    found = [
        f"{flag} {old.settings.get(flag, 'not set')} → {new.settings.get(flag, 'not set')}"
        for flag in dict.fromkeys((*new.settings, *old.settings))
        if flag not in NOT_LEARNED and old.settings.get(flag) != new.settings.get(flag)
    ]
    found += [
        f"{name} has changed"
        for name in dict.fromkeys((*new.files, *old.files))
        if old.files.get(name, (0, 0, ""))[2] != new.files.get(name, (0, 0, ""))[2]
    ]
    found += [f"{name} was trained anew" for name, made in new.starts.items() if old.starts.get(name) != made]
    return found
