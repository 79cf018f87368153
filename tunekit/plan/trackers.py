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

NAME_FLAGS = {"swanlab": "swanlab_exp_name", "wandb": "run_name"}
"""What names a run in a tracker."""

TRACKED: Mapping[str, Mapping[str, str]] = {
    "wandb": {"project": "WANDB_PROJECT", "group": "WANDB_RUN_GROUP", "entity": "WANDB_ENTITY"},
    "swanlab": {"project": "swanlab_project", "group": "SWANLAB_GROUP", "entity": "swanlab_workspace"},
    "trackio": {"project": "project"},
}
"""What ``--project``, ``--group`` and ``--entity`` are to each tracker: a variable, or a flag of ms-swift.

From wandb's wandb_settings.py, swanlab's sdk/internal/settings (and its older SWANLAB_GROUP), and transformers'
integration_utils.py, which passes a project to trackio alone.
"""

OF_WANDB = re.compile(r"WANDB_[A-Z_]+")
"""Variables that say where and how W&B keeps a run; keys are left out by `secrets.is_secret`."""

SWANLAB, WANDB = "swanlab", "wandb"
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
    variables = {
        variable: value
        for variable, value in sorted(environ.items())
        if WANDB in plan.trackers and value and OF_WANDB.fullmatch(variable)
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
    if plan.get("swanlab_mode") == "local":
        return notes
    known = known_environment(environ)
    return notes + [
        f"{variable} is not set: {tracker} must have been logged in to on the machine that trains"
        for tracker in dict.fromkeys(plan.trackers)
        if (variable := secrets.VARIABLE_OF_TRACKER.get(tracker)) and not known.get(variable)
    ]
