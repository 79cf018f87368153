"""LLaMA-Factory 0.9.5: its YAML, JSON and ``llamafactory-cli`` calls, for training, export, prediction and serving."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.recipes.importers import llamafactory_after as after
from tunekit.recipes.importers import llamafactory_data as data
from tunekit.recipes.importers import llamafactory_model as model
from tunekit.recipes.importers import llamafactory_stage as stages
from tunekit.recipes.importers import llamafactory_template as templates
from tunekit.recipes.importers import llamafactory_training as training
from tunekit.recipes.importers import trainer
from tunekit.recipes.importers.carried import carry_environment
from tunekit.recipes.importers.source import KeyEntry
from tunekit.recipes.importers.table import rules_in
from tunekit.recipes.importers.translation import LOST, TRAINS, TRANSLATED, Dialect, Draft, Outcome
from tunekit.stages import STAGES, USUAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import Origin

PROGRAMS = ("llamafactory-cli", "lmf", "llamafactory.cli")
SCRIPTS = ("src/train.py", "src/api.py", "src/webui.py", "src/train_bash.py", "src/export_model.py")
SERVE = {"api": "deploy", "chat": "infer", "webchat": "app", "export": "export"}
"""What ``llamafactory-cli WORD`` is of ms-swift, where nothing is trained."""
MARKS = ("finetuning_type", "cutoff_len", "template", "stage", "do_train", "dataset_dir", "export_dir", "lora_target")
"""Keys that only LLaMA-Factory has; `model_name_or_path` others have too."""
NOT_TRAINED = {"oft": "OFT: ms-swift has no such method; its BOFT and BoNE are other ones"}
MODELSCOPE = "USE_MODELSCOPE_HUB"
FOR_ITSELF = (MODELSCOPE, "FORCE_TORCHRUN", "USE_RAY", "MAX_RESTARTS", "RDZV_ID", "ALLOW_EXTRA_ARGS", "API_PORT")
"""Variables that LLaMA-Factory alone reads."""


def _likeness(origin: Origin) -> int:
    if origin.program and (origin.program[0] in PROGRAMS or origin.program[0].endswith(SCRIPTS)):
        return 100
    keys = origin.values()
    known = sum(mark in keys for mark in MARKS)
    if origin.program or not known or "model_name_or_path" not in keys:
        return 0
    return min(95, 30 + 20 * known)


def _begin(draft: Draft) -> None:
    values = draft.source.values()
    stage = str(values.get("stage") or USUAL)
    served = SERVE.get(draft.source.program[1] if len(draft.source.program) > 1 else "")
    if values.get("do_train") is True or (values.get("dataset") and not served and not values.get("do_predict")):
        _begin_training(draft, stage, values)
    elif values.get("do_predict") or values.get("do_eval"):
        draft.command = "infer"
    else:
        draft.command = served or ("export" if values.get("export_dir") else "infer")
    answers = draft.command not in TRAINS and not values.get("do_predict")
    draft.world = None if answers else draft.source.world or training.visible_gpus(draft.source.env)


def _begin_training(draft: Draft, stage: str, values: Mapping[str, Any]) -> None:
    tuning = str(values.get("finetuning_type") or "lora")
    if tuning in NOT_TRAINED:
        raise TunekitError(f"finetuning_type: {NOT_TRAINED[tuning]}", "lora and full are in both tools")
    kind = stages.kind_of(stage, values)
    draft.command = STAGES[kind].command if kind in STAGES else USUAL
    if kind in STAGES and draft.command != kind:
        draft.flags["rlhf_type"] = [kind]
    draft.flags["tuner_type"] = ["lora" if tuning == "lora" else "full"]
    if values.get("do_train") is not True:
        draft.warnings.append("do_train is not true: LLaMA-Factory itself would train nothing with this file")


def _finish(draft: Draft) -> None:
    env = dict(draft.source.env)
    modelscope = env.get(MODELSCOPE, "").lower() in {"1", "true", "y"}
    if not modelscope:
        draft.flags["use_hf"] = ["true"]
        why = "LLaMA-Factory's default: models and datasets come from Hugging Face"
        draft.outcomes.append(Outcome(MODELSCOPE, TRANSLATED, flags=("use_hf",), why=why))
    if draft.command == "deploy" and env.get("API_PORT"):
        draft.flags["port"] = [env["API_PORT"]]
    if "config_file" in draft.source.launch:
        trainer.take_accelerate(draft, draft.source.launch["config_file"])
    gpus = training.visible_gpus(env)
    if draft.flags.get("infer_backend") == ["vllm"] and draft.world is None and gpus:
        draft.put(
            KeyEntry("CUDA_VISIBLE_DEVICES", None),
            "LLaMA-Factory uses all with vLLM",
            vllm_tensor_parallel_size=gpus,
        )
    carry_environment(draft, skip=FOR_ITSELF)
    data.warn_of_equal_names(draft)
    model.say_precision(draft)
    if draft.command in TRAINS:
        training.finish_training(draft)
    if any(outcome.key.startswith("use_") and outcome.status == LOST for outcome in draft.outcomes):
        draft.warnings.append("a method of LLaMA-Factory is lost: look with `tunekit fit` whether the run fits without")


PARTS = (stages, training, model, templates, data, after)
FUNCTIONS = {name: function for part in PARTS for name, function in part.FUNCTIONS.items()}

LLAMAFACTORY = Dialect(
    name="llamafactory",
    title="LLaMA-Factory",
    rules=rules_in("llamafactory"),
    likeness=_likeness,
    functions=FUNCTIONS,
    begin=_begin,
    finish=_finish,
)
