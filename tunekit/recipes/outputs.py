"""What a stage left in its folder: the checkpoint that counts, and the model that its adapter was merged into."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.engine.after import CARRIED, FLASH, FOLLOWUPS, Weights, merges
from tunekit.engine.after import command as command_of
from tunekit.engine.command import PROGRAM
from tunekit.engine.failures import Failure, classify
from tunekit.engine.logs import read_summary
from tunekit.errors import Exit, TunekitError
from tunekit.plan.secrets import secret_values
from tunekit.recipes.chain import MERGED, RESULT
from tunekit.runs import checkpoints
from tunekit.runs.supervisor import StopRequest, supervise
from tunekit.runs.trained.use import as_whole_model

if TYPE_CHECKING:
    from tunekit.engine.command import Command
    from tunekit.engine.locate import Installation
    from tunekit.plan.plan import Plan
    from tunekit.runs.folder import RunFolder

HALF = "merged.part"
"""Where a merge is written until it is whole."""


def best_checkpoint(output: Path) -> Path | None:
    """The checkpoint that counts: the best where the run was evaluated, else the last; None where none was saved."""
    found = read_summary(output / "logging.jsonl")
    for key in ("best_model_checkpoint", "last_model_checkpoint"):
        path = output / Path(str(found.get(key) or "")).name
        if found.get(key) and checkpoints.step(path) >= 0 and path.is_dir():
            return path
    return checkpoints.newest(output)


def link_result(folder: Path) -> Path:
    """Let ``result`` in a finished stage's folder lead to the checkpoint that counts, and return that.

    Raises:
        TunekitError: no checkpoint was saved.
    """
    checkpoint = best_checkpoint(folder / "output")
    if checkpoint is None:
        raise TunekitError(f"{folder} has no checkpoint to go on from", "drop --save_strategy no", Exit.TRAINING_FAILED)
    link, new = folder / RESULT, folder / f".{RESULT}.new"
    new.unlink(missing_ok=True)
    new.symlink_to(os.path.join("output", checkpoint.name))  # noqa: PTH118 - relative, so that the folder can be moved
    new.replace(link)
    return checkpoint


def merge_command(plan: Plan, adapter: Path, target: Path, program: tuple[str, ...] = PROGRAM) -> Command:
    """The command that makes a whole model out of the adapter that a plan trained; a reward model keeps its head."""
    flags = {flag: value for flag in CARRIED if (value := plan.get(flag)) is not None}
    flash = str(plan.get("attn_impl") or "").startswith(FLASH)
    weights = Weights(adapter, adapter=True, flags=flags, flash=flash)
    return command_of(FOLLOWUPS["merge"], merges(weights, target), {}, program)


def merge(folder: RunFolder, plan: Plan, engine: Installation) -> Failure | None:
    """Merge the adapter of a finished stage into ``merged``, unless that is there. The folder's lock must be held.

    Args:
        folder: of the stage's run.
        plan: that it was trained by.
        engine: what merges.

    Returns:
        What went wrong; None where nothing did.

    Raises:
        KeyboardInterrupt: the user stopped it.
    """
    target = folder.path / MERGED
    if target.is_dir():
        return None
    half, log = folder.path / HALF, folder.path / "merge.log"
    shutil.rmtree(half, ignore_errors=True)  # ms-swift takes a folder that is there for one that is done
    adapter = (folder.path / RESULT).resolve()
    command = merge_command(plan, adapter, half.resolve(), engine.program)
    inherited = {name: value for name, value in os.environ.items() if name != "NPROC_PER_NODE"}
    with StopRequest() as stop:
        ended = supervise(
            command.argv, inherited, log, secrets=secret_values(os.environ), inherit=(folder.lock_fd,), stop=stop
        )
    if ended.stopped_by:
        raise KeyboardInterrupt
    if ended.status:
        return classify(ended.status, log.read_text(encoding="utf-8", errors="replace"), oom_kills=ended.oom_kills)
    as_whole_model(half)
    half.replace(target)
    return None


def merged_gib(plan: Plan) -> float:
    """About how large the merged model of a plan is, in GiB; 0 where the size of the model is not known."""
    width = 4 if plan.get("torch_dtype") == "float32" else 2
    return (plan.model.params_b or 0) * 1e9 * width / 2**30
