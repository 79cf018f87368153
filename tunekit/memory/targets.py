"""Which modules and parameters of a model get an adapter, and which are saved in whole, by their names."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from tunekit.memory.kinds import taken
from tunekit.memory.names import EMBEDDING_NAME, ends_as, linear_names, parameters_of
from tunekit.memory.spec import Unknown

if TYPE_CHECKING:
    from tunekit.memory.geometry import Geometry, Linear
    from tunekit.memory.names import Parameter
    from tunekit.memory.spec import Spec

ALL_LINEAR, ALL_EMBEDDING, ALL_NORM = "all-linear", "all-embedding", "all-norm"
"""Words of ms-swift's for modules (pipelines/train/tuner.py)."""


def targeted(spec: Spec, geometry: Geometry) -> tuple[Linear, ...]:
    """The linear layers that get an adapter, each kind with the number of layers that have it.

    Raises Unknown where VeRA, whose layers must be of one size, finds none: ms-swift looks for those of the first with
    a v in its name (pipelines/train/tuner.py, get_vera_target_modules).
    """
    linears = _targeted(spec, geometry)
    if spec.adapter != "vera" or spec.tuner == "full" or len({(item.outputs, item.inputs) for item in linears}) <= 1:
        return linears
    first = next((item for item in linears if "v" in item.name), None)
    if first is None:
        raise Unknown("VeRA takes layers of one size: name them with --target_modules")
    return tuple(item for item in linears if (item.outputs, item.inputs) == (first.outputs, first.inputs))


def _targeted(spec: Spec, geometry: Geometry) -> tuple[Linear, ...]:
    saved = saved_names(spec)
    plain = not spec.target_regex and not saved and not any("." in name for name in spec.target_modules)
    if plain:
        return tuple(item for item in geometry.linears if _by_name(spec, item.name))
    found = []
    for linear in geometry.linears:
        names = [name for name in linear_names(geometry, linear) if not is_saved(name, saved)]
        number = sum(_is_target(spec, name) for name in names)
        if number:
            found.append(replace(linear, layers=number))
    return tuple(found)


def targets_module(spec: Spec, name: str) -> bool:
    """Whether the embedding or the head gets an adapter."""
    if spec.tuner == "full" or is_saved(name, saved_names(spec)):
        return False
    if ALL_EMBEDDING in spec.target_modules and name.endswith(EMBEDDING_NAME) and not spec.target_regex:
        return True
    return bool(re.fullmatch(spec.target_regex, name)) if spec.target_regex else ends_as(name, spec.target_modules)


def _by_name(spec: Spec, name: str) -> bool:
    return ALL_LINEAR in spec.target_modules or name in spec.target_modules


def _is_target(spec: Spec, name: str) -> bool:
    if spec.target_regex:
        return re.fullmatch(spec.target_regex, name) is not None
    return ALL_LINEAR in spec.target_modules or ends_as(name, spec.target_modules)


def saved_names(spec: Spec) -> tuple[str, ...]:
    """The ends of names that modules_to_save means."""
    words = {ALL_EMBEDDING: (EMBEDDING_NAME,), ALL_NORM: ("norm",)}
    return tuple(name for word in taken(spec, "modules_to_save") for name in words.get(word, (word,)))


def is_saved(module: str, saved: tuple[str, ...]) -> bool:
    """Whether a module, or one that it is part of, is saved (peft.utils.other, _set_trainable)."""
    if not saved:
        return False
    parts = module.split(".")
    return any(".".join(parts[:end]).endswith(saved) for end in range(1, len(parts) + 1))


def parametrized(spec: Spec, geometry: Geometry) -> list[Parameter]:
    """The parameters that get an adapter themselves. Raises Unknown where none has a name of target_parameters."""
    names = taken(spec, "target_parameters")
    found = [item for item in parameters_of(geometry) if ends_as(item.name, names)] if names else []
    if names and not found:
        raise Unknown(f"no parameter of {geometry.model_type} is called {' or '.join(names)}")
    return found
