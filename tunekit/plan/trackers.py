"""What ``--report_to`` names asks of a plan: names that are known, a name for the run, keys, variables."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError, did_you_mean
from tunekit.plan import secrets
from tunekit.plan.settings import TUNEKIT, Setting, Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.plan.plan import Plan

TRACKERS = (
    *("swanlab", "wandb", "tensorboard", "mlflow", "comet_ml", "neptune", "clearml", "dagshub", "codecarbon"),
    *("azure_ml", "flyte", "dvclive", "trackio", "none", "all"),
)
"""What --report_to takes (transformers 5.19 integrations, and swanlab); others fail after the model is loaded."""

NAME_FLAGS = {"swanlab": "swanlab_exp_name", **dict.fromkeys(("wandb", "mlflow", "trackio", "comet_ml"), "run_name")}
"""What names a run in a tracker; ms-swift would take the path of the output folder (sft_args.py, _add_version)."""

TRACKED: Mapping[str, Mapping[str, str]] = {
    "wandb": {"project": "WANDB_PROJECT", "group": "WANDB_RUN_GROUP", "entity": "WANDB_ENTITY"},
    "swanlab": {"project": "swanlab_project", "group": "SWANLAB_GROUP", "entity": "swanlab_workspace"},
    "trackio": {"project": "project"},
    "mlflow": {"project": "MLFLOW_EXPERIMENT_NAME"},
}
"""What ``--project``, ``--group`` and ``--entity`` are to each tracker: a variable, or a flag of ms-swift.

From wandb's wandb_settings.py, swanlab's sdk/internal/settings (and its older SWANLAB_GROUP), and transformers'
integration_utils.py, which passes a project to trackio alone.
"""

OF_TRACKER: Mapping[str, re.Pattern[str]] = {
    "wandb": re.compile(r"WANDB_[A-Z_]+"),
    "swanlab": re.compile(r"SWANLAB_(?:GROUP|LOG_?DIR)"),
    "mlflow": re.compile(r"MLFLOW_(?:EXPERIMENT_NAME|TRACKING_URI)"),
}
"""Variables of the shell that say where and how a tracker keeps a run; keys are left out by `secrets.is_secret`."""

SWANLAB, WANDB = "swanlab", "wandb"
OFFLINE: Mapping[str, tuple[str, ...]] = {
    WANDB: ("offline", "dryrun", "disabled"),
    SWANLAB: ("local", "offline", "disabled"),
}
"""Values of ``WANDB_MODE`` and ``SWANLAB_MODE`` with which nothing is sent, so that no key is needed."""
LOCAL = "swanlab_mode"
"""ms-swift's flag. It passes it to SwanLab, cloud where none is given, so that ``SWANLAB_MODE`` alone does nothing."""

PROJECT, TOKEN = "SWANLAB_PROJECT", "SWANLAB_TOKEN"
"""Variables of SwanLab's guides that its package does not take as they are: it reads the first as JSON and stops, and
knows the second as ``SWANLAB_API_KEY``."""
MISREAD = (PROJECT, TOKEN)


def name_for_trackers(plan: Plan, name: str, tracked: Mapping[str, Setting], environ: Mapping[str, str]) -> Plan:
    """The plan with what its trackers call the run and where they keep it; `tracked` is what the user said of that.

    Raises TunekitError for a tracker that is unknown, and for what was said for this run and none of them takes.
    """
    for tracker in plan.trackers:
        if tracker not in TRACKERS:
            hint = did_you_mean(tracker, TRACKERS) or f"there are {', '.join(TRACKERS)}"
            raise TunekitError(f"--report_to does not know {tracker}", hint)
    setting = Setting(name, TUNEKIT, "else it would be the path of the output folder")
    wanted = [flag for tracker, flag in NAME_FLAGS.items() if tracker in plan.trackers and flag not in plan.settings]
    plan = plan.with_settings(dict.fromkeys(wanted, setting))
    project = environ.get(PROJECT, "").strip()
    if project and SWANLAB in plan.trackers and "project" not in tracked and "swanlab_project" not in plan.settings:
        given = Setting(project, Source("environment", PROJECT), "SwanLab itself would read the variable as JSON")
        plan = plan.with_settings({"swanlab_project": given})
    mode = environ.get("SWANLAB_MODE", "")
    if SWANLAB in plan.trackers and mode in OFFLINE[SWANLAB] and LOCAL not in plan.settings:
        said = Setting("local", Source("environment", "SWANLAB_MODE"), "ms-swift would pass cloud")
        plan = plan.with_settings({LOCAL: said})
    variables = {
        variable: value
        for variable, value in sorted(environ.items())
        if value and any(OF_TRACKER[tracker].fullmatch(variable) for tracker in plan.trackers if tracker in OF_TRACKER)
        if not secrets.is_secret(variable) and secrets.redact(value) == value  # those are inherited, and not shown
    }
    plan = replace(plan, env={**variables, **plan.env})
    for option, said in tracked.items():
        plan = _kept_in(plan, option, said)
    return plan


def _kept_in(plan: Plan, option: str, said: Setting) -> Plan:
    """The plan whose trackers keep a run in the project, group or entity that was named."""
    takers = [TRACKED[tracker][option] for tracker in plan.trackers if option in TRACKED.get(tracker, {})]
    if not takers and said.explicit:
        having = " or ".join(f"--report-to {tracker}" for tracker, of in TRACKED.items() if option in of)
        raise TunekitError(f"--{option} does nothing here: no tracker of this run has one", f"add {having}")
    flags, variables = {}, {}
    for taker in takers:
        if taker.isupper():
            if said.explicit or taker not in plan.env:  # what the shell says is nearer than what holds for all runs
                variables[taker] = str(said.value)
        elif not plan.typed(taker):
            flags[taker] = replace(said, why=f"--{option}")
        elif plan.get(taker) != said.value:
            raise TunekitError(f"--{option} and --{taker} are the same", "give one of them")
    return replace(plan.with_settings(flags), env={**plan.env, **variables})


def known_environment(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment as a run has it: SwanLab's token under the name that SwanLab reads."""
    key = secrets.VARIABLE_OF_TRACKER[SWANLAB]
    token = environ.get(TOKEN)
    return {**environ, key: token} if token and not environ.get(key) else environ


def sends_nothing(plan: Plan, tracker: str, environ: Mapping[str, str]) -> bool:
    """Whether a tracker keeps all on this machine, as the plan or the shell says: then it needs no key."""
    if tracker == SWANLAB:
        return plan.get(LOCAL) == "local"
    return environ.get(f"{tracker.upper()}_MODE", "") in OFFLINE.get(tracker, ())


def tracker_notes(plan: Plan, environ: Mapping[str, str]) -> list[str]:
    """Lines about keys that are missing, and about variables that a command in a shell must not see.

    Trackers ask for a login only after the model is loaded, and fail where there is no terminal to answer.
    """
    notes = []
    if SWANLAB in plan.trackers:
        if environ.get(PROJECT):
            notes.append(
                f"{PROJECT} is passed on as --swanlab_project, and kept from SwanLab, which stops at it: unset it "
                "where you run the command yourself"
            )
        if environ.get(TOKEN) and not environ.get(secrets.VARIABLE_OF_TRACKER[SWANLAB]):
            notes.append(
                f"{TOKEN} is passed on as {secrets.VARIABLE_OF_TRACKER[SWANLAB]}, the name that SwanLab reads: export "
                "it by that name where you run the command yourself"
            )
    known = known_environment(environ)
    return notes + [
        f"{variable} is not set: {tracker} must have been logged in to on the machine that trains"
        for tracker in dict.fromkeys(plan.trackers)
        if (variable := secrets.VARIABLE_OF_TRACKER.get(tracker)) and not known.get(variable)
        if not sends_nothing(plan, tracker, known)
    ]
