"""Merge an adapter into its model: for `tunekit merge`, and between the stages of a recipe."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.engine.after import FOLLOWUPS, after_command, merge_flags, weights_of
from tunekit.engine.command import PROGRAM
from tunekit.errors import Exit, TunekitError
from tunekit.files import read_object
from tunekit.runs.checkpoints import has_weights
from tunekit.runs.folder import MERGED, RESULT
from tunekit.runs.trained.use import ProgressLine, program_error, try_program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tunekit.engine.command import Command
    from tunekit.engine.failures import Failure
    from tunekit.engine.locate import Installation
    from tunekit.plan.plan import Plan
    from tunekit.runs.folder import RunFolder
    from tunekit.runs.trained.job import Job

HALF = "merged.part"
"""In the folder of a recipe's stage: where a merge is written until it is whole."""


def merge_adapter(
    command: Command,
    half: Path,
    output: Path,
    log: Path,
    *,
    progress: ProgressLine | None = None,
    inherit: Sequence[int] = (),
) -> Failure | None:
    """Merge an adapter into its model. The folder of the merged model is there when all of it is.

    `command` merges into `half`, where what an earlier merge left goes; `output`, on the same disk, must not be there,
    or be empty. ms-swift writes to `log` and keeps the file descriptors `inherit` open. Gives why it failed; None where
    it did not.

    Raises:
        KeyboardInterrupt: the user stopped it.
        TunekitError: ms-swift wrote no model, and said nothing.
        OSError: the folder cannot be written.
    """
    shutil.rmtree(half, ignore_errors=True)  # ms-swift takes a folder that is there for one that is done
    failure = try_program(command, log, progress, inherit)
    if failure:
        return failure
    if not has_weights(half):
        raise TunekitError(f"ms-swift merged nothing into {output}", f"full log: {log}", Exit.TRAINING_FAILED)
    _load_unquantized(half)
    if output.is_dir():
        output.rmdir()  # it was empty a moment ago; if it is not any more, that is an error
    half.rename(output)
    return None


def _load_unquantized(folder: Path) -> None:
    """Take the adapter's quantization out of ``args.json``: ms-swift would load the merged model in a few bits."""
    path = folder / "args.json"
    trained = read_object(path)
    if trained.get("quant_method") is not None:
        path.write_text(json.dumps(trained | {"quant_method": None, "quant_bits": None}, indent=2), encoding="utf-8")


def merge_target(job: Job, output: Path) -> None:
    """Merge the adapter that a user named into a folder that is free (`check_free`). Raises TunekitError."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
    except OSError as error:
        raise TunekitError(f"{output} cannot be written: {error.strerror}", "take another --output-dir") from error
    half, log = scratch / output.name, job.target.log("merge")
    progress = ProgressLine(f"merging {job.target.name}")
    try:
        failure = merge_adapter(job.to_merge(half, real=True), half, output, log, progress=progress)
    except OSError as error:
        raise TunekitError(f"{output} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if failure:
        raise program_error(progress.what, failure, log)


def check_free(output: Path) -> None:
    """Refuse a folder that holds something. Raises TunekitError."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        there = "it holds a model already" if has_weights(output) else "it exists and is not empty"
        raise TunekitError(f"{output}: {there}", "delete it, or take another --output-dir")


def merge_stage(folder: RunFolder, plan: Plan, engine: Installation) -> Failure | None:
    """Merge a finished stage's adapter into ``merged``, unless that is there; gives and raises as `merge_adapter`."""
    output, half = folder.path / MERGED, folder.path / HALF
    if output.is_dir():
        return None
    command = stage_merge_command(plan, (folder.path / RESULT).resolve(), half.resolve(), engine.program)
    return merge_adapter(command, half, output, folder.path / "merge.log", inherit=(folder.lock_fd,))


def stage_merge_command(plan: Plan, adapter: Path, target: Path, program: tuple[str, ...] = PROGRAM) -> Command:
    """The command that makes a whole model out of the adapter that a plan trained; a reward model keeps its head."""
    flags = merge_flags(weights_of(plan, adapter, adapter=True), target)
    return after_command(FOLLOWUPS["merge"], flags, {}, program)


def merged_gib(plan: Plan) -> float:
    """About how large the merged model of a plan is, in GiB; 0 where the size of the model is not known."""
    width = 4 if plan.get("torch_dtype") == "float32" else 2
    return (plan.model.params_b or 0) * 1e9 * width / 2**30
