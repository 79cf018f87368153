"""What to do with a trained model: the commands of ms-swift that chat with it and export it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.engine.command import PROGRAM, Command

if TYPE_CHECKING:
    from pathlib import Path

    from tunekit.plan.plan import Plan


def followups(plan: Plan, checkpoint: Path) -> list[tuple[str, Command]]:
    """A word and a command for each thing that is usually done next with `checkpoint`.

    With ``--adapters``, ms-swift takes the model, its type and its template from the ``args.json`` beside the
    adapter, so the commands stay short.
    """
    full = plan.get("tuner_type") == "full"
    trained = ["--model" if full else "--adapters", str(checkpoint)]
    cpu = [] if plan.hardware.gpus else ["--device_map", "cpu", "--torch_dtype", "float32"]
    env = {"CUDA_VISIBLE_DEVICES": plan.hardware.gpus[0].device} if plan.hardware.gpus else {}
    chat = Command((*PROGRAM, "infer", *trained, *cpu), env)
    merged = checkpoint.parent / "merged"
    merge = Command((*PROGRAM, "export", *trained, "--merge_lora", "true", "--output_dir", str(merged), *cpu[:2]), env)
    return [("Chat", chat)] if full else [("Chat", chat), ("Merge", merge)]
