"""The adapters, other models and files that a plan names, looked for before a launch: ms-swift finds out later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.data.files import NotHere
from tunekit.errors import TunekitError
from tunekit.files import path_of
from tunekit.plan.models.others import OTHERS, check_other, is_place
from tunekit.runs.folder import MERGED, RESULT

if TYPE_CHECKING:
    from tunekit.plan.plan import Plan

ADAPTERS = {
    "adapters": "model",
    "ref_adapters": "ref_model",
    "reward_adapters": "reward_model",
    "teacher_adapters": "teacher_model",
}
"""Flags that name adapters, and those that name whole models instead."""

CACHED = ("cached_dataset", "cached_val_dataset")
FILES = ("external_plugins", "custom_register_path", "custom_dataset_info", "local_repo_path", *CACHED)
"""Flags that name files and folders which are read when ms-swift starts; what is `CACHED` may be on a hub instead."""

WITHIN = ("adapter_config.json", "*/adapter_config.json", "adapter_model.*")
"""What says that a folder is an adapter; those of ms-swift's own kinds have it in a folder below."""


def check_adapters(plan: Plan) -> None:
    """Raise TunekitError for an adapter that is not there, or is none: ms-swift would ask a hub, for half a minute."""
    for flag, whole in ADAPTERS.items():
        for name in plan.words(flag):
            if not made_before(name):
                _check_adapter(flag, name, whole)


def _check_adapter(flag: str, name: str, whole: str) -> None:
    folder = path_of(name)
    if not folder.is_dir() and is_place(name):
        there = sorted(path.name for path in folder.parent.glob("checkpoint-*"))
        hint = f"{folder.parent} has {', '.join(there)}" if there else "give the folder of a checkpoint, or a hub id"
        raise NotHere(f"--{flag} {name} does not exist", hint)
    if folder.is_dir() and not any(next(folder.glob(pattern), None) for pattern in WITHIN):
        model = (folder / "config.json").is_file()
        raise TunekitError(
            f"--{flag} {name} holds no adapter: there is no adapter_config.json",
            f"it is a whole model: --{whole} {name}" if model else None,
        )


def check_files(plan: Plan) -> None:
    """Raise TunekitError for a file or a folder that a flag names and that is not there."""
    for flag in FILES:
        for name in plan.words(flag):
            itself, on_a_hub = name.lstrip().startswith(("{", "[")), flag in CACHED and not is_place(name)
            if not itself and not on_a_hub and not path_of(name).exists():
                raise NotHere(f"--{flag} {name} does not exist", "paths begin in the folder where tunekit is called")


def check_models(plan: Plan) -> None:
    """Raise TunekitError for a teacher, a reward model or a reference that is not there, or will not do."""
    for flag in OTHERS:
        for name in plan.words(flag):
            if not made_before(name):
                check_other(plan, flag, name)


def made_before(name: str) -> bool:
    """Whether a folder is what an earlier stage of a recipe will leave: it is looked for when its turn has come."""
    folder = path_of(name)
    return folder.name in (RESULT, MERGED) and not folder.exists()
