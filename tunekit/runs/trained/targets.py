"""Which weights a name means: a run's, a checkpoint's, or those of any folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.engine.after import FLASH, PATHS, Weights, refusal, weights_of
from tunekit.errors import TunekitError
from tunekit.files import path_of, read_object
from tunekit.plan.models.find import resolve
from tunekit.runs.checkpoints import best_checkpoint, has_weights, is_adapter, saved_checkpoints, step
from tunekit.runs.folder import RUNS, RunFolder
from tunekit.runs.places import find_run
from tunekit.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.engine.after import Followup
    from tunekit.plan.plan import Plan
    from tunekit.plan.settings import Value
    from tunekit.stages import Stage

BEST, LAST = "best", "last"
"""Names of checkpoints, beside their numbers."""


@dataclass(frozen=True)
class Target:
    """What a user means by RUN.

    Attributes:
        name: for people: ``kit · checkpoint-15``.
        word: what names it on the command line of tunekit.
        home: the folder that gets logs and results.
        merged: where its merged model is, or would be.
        plan: of the run; None for a folder that no run made.
        cwd: where relative paths of the run begin.
    """

    name: str
    word: str
    weights: Weights
    home: Path
    merged: Path
    plan: Plan | None = None
    cwd: Path = Path()

    @property
    def stage(self) -> Stage | None:
        """The stage that trained it; None where that is not known."""
        if self.plan:
            return self.plan.stage
        return STAGES.get(str(read_object(self.weights.folder / "args.json").get("rlhf_type")))

    def log(self, what: str) -> Path:
        """Where the messages of ms-swift are kept while it does `what`: those of the last time."""
        return self.home / "logs" / f"{what}-{self.weights.folder.name}.log"

    def check(self, followup: Followup) -> None:
        """Raise TunekitError where that cannot be done with it."""
        refused = refusal(followup, self.stage, adapter=self.weights.adapter)
        if refused:
            raise TunekitError(f"{self.name}: {refused[0]}", refused[1])


def find_target(name: str, checkpoint: str = "", *, merged: bool = False) -> Target:
    """The weights of RUN: a run's name or folder, a checkpoint of one, or any folder with an adapter or a model.

    `checkpoint` is ``best``, ``last`` or a number; empty takes the best one that is known, else the last. `merged`
    takes the merged model of that checkpoint. Raises TunekitError where there is no such thing, or it has no weights.
    """
    path = path_of(name)
    run = None if (RUNS / name / "run.json").is_file() else _run_around(path)
    if run is None and path.is_dir() and not (path / "run.json").is_file() and has_weights(path):
        target = _of_folder(path, checkpoint)
    else:
        folder = run or _find(name)
        inside = path.resolve() if run and has_weights(path) else None
        target = _of_run(folder, inside or _choose(folder, checkpoint), checkpoint if inside else "")
    if not merged or not target.weights.adapter:
        return target
    if not has_weights(target.merged):
        raise TunekitError(f"{target.name} is not merged yet", f"tunekit merge {target.word}")
    return replace(target, name=f"{target.name} (merged)", weights=_whole(target.weights, target.merged))


def _find(name: str) -> RunFolder:
    """The run of that name. Raises TunekitError where there is none, or several because it is a recipe's."""
    for path in (RUNS / name, path_of(name)):
        stages = sorted(str(stage.parent) for stage in path.glob("*/run.json")) if name else []
        if stages and not (path / "run.json").is_file() and path.resolve() != RUNS.resolve():
            raise TunekitError(f"{name} is a recipe of several runs", f"name one of them: {', '.join(stages)}")
    return find_run(name)


def _run_around(path: Path) -> RunFolder | None:
    """The run in which a folder stands, as its ``output`` or a checkpoint does."""
    if not path.is_dir():
        return None
    parents = list(path.resolve().parents)[:2]
    return next((RunFolder(parent) for parent in parents if (parent / "run.json").is_file()), None)


def _of_folder(path: Path, checkpoint: str) -> Target:
    if checkpoint:
        raise TunekitError(f"{path} holds weights, not checkpoints", "--checkpoint chooses among those of a run")
    adapter = is_adapter(path)
    trained = read_object(path / "args.json")
    flags: dict[str, Value] = {}
    if not adapter and not trained:  # a model of its own: ms-swift may not know what it is
        model = resolve(str(path))
        known = {"model_type": model.model_type, "template": model.template}
        flags = {flag: value for flag, value in known.items() if value}
    bits = trained.get("quant_method") is not None
    weights = Weights(path.resolve(), adapter, flags, bits, str(trained.get("attn_impl")).startswith(FLASH))
    name = path.resolve().name
    return Target(name, str(path), weights, RUNS / name, path.resolve().with_name(f"{name}-merged"))


def _of_run(folder: RunFolder, weights: Path, checkpoint: str) -> Target:
    if checkpoint:
        raise TunekitError("a checkpoint's folder and --checkpoint name it twice", "drop one of them")
    state = folder.load()
    plan, cwd = state.plan, Path(state.cwd)
    known = weights_of(plan, _short(weights), adapter=is_adapter(weights))
    flags = dict(known.flags)
    if known.adapter and plan.model.local and not Path(plan.model.id).is_absolute():
        flags["model"] = str((cwd / plan.model.id).resolve())
    flags |= {flag: _from(cwd, value) for flag in PATHS if (value := plan.get(flag)) is not None}
    word = folder.path.name if folder.path.resolve().parent == RUNS.resolve() else str(folder.path)
    merged = folder.path / f"merged-{step(weights)}" if step(weights) >= 0 else weights
    return Target(f"{state.name} · {weights.name}", word, replace(known, flags=flags), folder.path, merged, plan, cwd)


def _choose(folder: RunFolder, which: str) -> Path:
    """A checkpoint of a run. Raises TunekitError where there is none of that name."""
    found = saved_checkpoints(folder.output)
    state = folder.load()
    if not found:
        why = {
            "running": ("it runs, or the machine died while it ran", f"wait, or: tunekit resume {state.name}"),
            "done": ("it saved none", "train with --save_strategy steps"),
        }.get(state.status, (f"it {'failed' if state.status == 'failed' else 'was stopped'} too early", None))
        hint = why[1] or f"go on with it: tunekit resume {state.name}"
        raise TunekitError(f"{state.name} has no checkpoint: {why[0]}", hint)
    known = best_checkpoint(folder.output, evaluated=True)
    best = step(known) if known else -1
    if which == BEST and best not in found:
        message = f"{state.name} has no best checkpoint: nothing was evaluated, or it was deleted"
        raise TunekitError(message, f"there {_listed(found)}")
    if which in ("", BEST) and best in found:
        return found[best]
    if which in ("", LAST):
        return found[max(found)]
    if which.isdigit() and int(which) in found:
        return found[int(which)]
    raise TunekitError(f"{state.name} has no checkpoint {which}", f"there {_listed(found)}; or say best, last")


def _listed(found: Mapping[int, Path]) -> str:
    return f"{'is' if len(found) == 1 else 'are'} {', '.join(map(str, sorted(found)))}"


def _whole(weights: Weights, folder: Path) -> Weights:
    """The weights of a merged model, with what counts of the settings of its adapter."""
    flags = {flag: value for flag, value in weights.flags.items() if flag != "model"}
    return replace(weights, folder=_short(folder), adapter=False, flags=flags, quantized=False)


def _from(cwd: Path, value: Value) -> Value:
    return [str(cwd / name) for name in value] if isinstance(value, list) else str(cwd / str(value))


def _short(path: Path) -> Path:
    """A path as one would type it from here."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path.resolve()
