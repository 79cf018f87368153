"""``--preset auto``, first half: which preset's settings suit this model on this GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunekit.hardware import Hardware
    from tunekit.plan.models.find import Model
    from tunekit.plan.presets.library import AutoRow, Library

LARGEST = float("inf")

LAST_RESORT = "low-memory"
"""The preset with the shortest rows and the smallest micro-batch."""


def choose_preset(model: Model, hardware: Hardware, library: Library, *, predictable: bool = True) -> tuple[str, str]:
    """The name of a preset and one line of reason, by the ``[[auto]]`` rows of the presets.

    Of the rows whose models are large enough the tightest counts. Where the memory can be predicted the GPU only
    chooses between rows for the same models, since the micro-batch is solved afterwards (`tunekit.plan.solve`). Where
    it cannot, the row's GPU must be reached too, and `LAST_RESORT` is taken where none is.

    Args:
        model: to be trained.
        hardware: that it is trained on.
        library: of presets.
        predictable: whether the memory of the model can be predicted.
    """
    if not hardware.gpus:
        return "cpu", "there is no GPU to train on (--gpus 1x24GB would plan for one)"
    if model.params_b is None:
        return LAST_RESORT, "the size of the model is not known, so the smallest micro-batch is taken"
    rows = [(row, preset.name) for preset in library.sound()[0] for row in preset.auto if row.moe == model.moe]
    card = hardware.gpu_gib
    kind = "mixture-of-experts models" if model.moe else "models"
    if not predictable:
        fitting = [(row.params_b, -row.gpu_gib, name) for row, name in rows if _suits(row, model, card)]
        if not fitting:
            return LAST_RESORT, f"{model.size} on {card:.0f} GiB: no larger preset is meant for that"
        params_b, gpu_gib, name = min(fitting)
        return name, f"it is meant for {kind} up to {params_b:g}B on {-gpu_gib:g} GiB or more"
    params_b = min((row.params_b for row, _ in rows if model.params_b <= row.params_b), default=LARGEST)
    sized = [row for row in rows if row[0].params_b == min(params_b, max(row.params_b for row, _ in rows))]
    reached = [(row.gpu_gib, name) for row, name in sized if row.gpu_gib <= card]
    name = max(reached)[1] if reached else min((row.gpu_gib, name) for row, name in sized)[1]
    meant = f"up to {params_b:g}B" if params_b < LARGEST else "as large as presets are made for"
    return name, f"it is meant for {kind} {meant}"


def _suits(row: AutoRow, model: Model, gpu_gib: float) -> bool:
    return (model.params_b or 0) <= row.params_b and gpu_gib >= row.gpu_gib
