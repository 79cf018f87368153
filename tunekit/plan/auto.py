"""``--preset auto``: which preset suits this model on this GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunekit.hardware import Hardware
    from tunekit.plan.models import Model
    from tunekit.plan.presets import AutoRow, Library


def choose_preset(model: Model, hardware: Hardware, library: Library) -> tuple[str, str]:
    """The name of a preset and one line of reason.

    By the ``[[auto]]`` rows of the presets: of those whose models are large enough and whose GPU is small
    enough, the tightest for the model, then the one that asks for the largest GPU.
    """
    if not hardware.gpus:
        return "cpu", "there is no GPU to train on (--gpus 1x24GB would plan for one)"
    if model.params_b is None:
        return "low-memory", "the size of the model is not known, so the smallest micro-batch is taken"
    card = f"{model.size} on {hardware.gpu_gib:.0f} GiB"
    fitting: list[tuple[float, float, str]] = []
    for name in library.names():
        fitting += [
            (row.params_b, -row.gpu_gib, name)
            for row in library.load(name).auto
            if _suits(row, model, hardware.gpu_gib)
        ]
    if not fitting:
        return "low-memory", f"{card}: no larger preset is meant for that"
    params_b, gpu_gib, name = min(fitting)
    kind = "mixture-of-experts models" if model.moe else "models"
    return name, f"{card}: it is meant for {kind} up to {params_b:g}B on {-gpu_gib:g} GiB or more"


def _suits(row: AutoRow, model: Model, gpu_gib: float) -> bool:
    return row.moe == model.moe and (model.params_b or 0) <= row.params_b and gpu_gib >= row.gpu_gib
