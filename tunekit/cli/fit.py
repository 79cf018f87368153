"""``tunekit fit``: what a run will take of a GPU, before the GPU is touched."""

from __future__ import annotations

from typing import Annotated

import typer

from tunekit.cli.command import swift_flags
from tunekit.cli.options import File, Number, Text, Words, option
from tunekit.errors import TunekitError, did_you_mean
from tunekit.stages import STAGES

WHAT, HOW, SHOW = "What to train", "How", "What to show"

TUNERS: dict[str, dict[str, list[str]]] = {
    "": {},
    "lora": {"tuner_type": ["lora"]},
    "qlora": {"tuner_type": ["lora"], "quant_method": ["bnb"], "quant_bits": ["4"]},
    "full": {"tuner_type": ["full"]},
}
"""Words of ``--tuner``, and what they are in ms-swift's flags."""

NEEDED: dict[str, dict[str, list[str]]] = {"grpo": {"reward_funcs": ["accuracy"]}, "ppo": {"reward_model": ["-"]}}
"""What a stage cannot be planned without, and what need not be named to predict its memory."""


def fit(
    ctx: typer.Context,
    model: Annotated[str, option(WHAT, "A short name (Qwen2.5-7B), a hub id or a folder.")] = "",
    stage: Annotated[str, option(WHAT, "A stage: pt, sft, rm, dpo, kto, grpo and so on. Default: sft.")] = "sft",
    loss_percent: Annotated[Number, option(WHAT, "Of the tokens, those that carry loss: 100 counts all.")] = None,
    preset: Annotated[str, option(HOW, "A name (see tunekit presets list) or a file. Default: auto.")] = "",
    overlays: Annotated[str, option(HOW, "Overlays, in order: stable,long-context.", "--with")] = "",
    tuner: Annotated[str, option(HOW, "lora, qlora or full. Default: the preset's.")] = "",
    micro_batch: Annotated[Number, option(HOW, "Rows one GPU computes at once. Default: the preset's.")] = None,
    max_length: Annotated[Text, option(HOW, "Tokens a row.")] = None,
    lora_rank: Annotated[Text, option(HOW, "Size of the adapter.")] = None,
    gpus: Annotated[str, option(HOW, "24GB, H100, 2x4090. Default: the GPUs of this machine.")] = "",
    by_trace: Annotated[bool, option(SHOW, "Follow the model's own code on fake tensors: seconds.", "--trace")] = False,
    what_if: Annotated[bool, option(SHOW, "A table over GPU sizes, tuners and Liger.", "--what-if")] = False,
    picture: Annotated[File, option(SHOW, "Draw it: FILE.png, .svg or .pdf.", "--plot")] = None,
    as_json: Annotated[bool, option(SHOW, "One JSON object on stdout.", "--json")] = False,
    spec: Annotated[File, option(SHOW, "JSON lines of configurations: one answer a line, as JSON.")] = None,
    dataset: Annotated[Words, option(WHAT, "Measured where ms-swift and the tokenizer are installed.")] = None,
) -> None:
    """Tell the peak memory of a run before it starts: fits, tight, or does not fit (exit code 3).

    Any flag of ms-swift that changes the memory may be added, such as --use_liger_kernel true.
    """
    from tunekit.cli import rows
    from tunekit.cli.show import memory as prediction
    from tunekit.cli.show import picture as plot
    from tunekit.plan.models.find import config_of
    from tunekit.plan.predict import spec_of
    from tunekit.runs.prepare import Asked, prepare

    if picture:
        plot.check(picture, many=spec is not None)
    if spec:
        prediction.answer_lines(spec)
        return
    if not model:
        raise TunekitError("tunekit fit needs --model, or --spec FILE")
    if loss_percent is not None and not 0 <= loss_percent <= 100:
        raise TunekitError(f"--loss-percent takes 0 to 100, not {loss_percent}")
    if tuner not in TUNERS:
        raise TunekitError(f"--tuner takes {', '.join(filter(None, TUNERS))}, not {tuner}")
    if stage not in STAGES:
        raise TunekitError(f"--stage takes {', '.join(STAGES)}, not {stage}", did_you_mean(stage, STAGES))
    rlhf = STAGES[stage].command == "rlhf"
    short = {"max_length": max_length, "lora_rank": lora_rank, "rlhf_type": stage if rlhf else None}
    words = {
        **NEEDED.get(stage, {}),
        **swift_flags(ctx),
        **TUNERS[tuner],
        **{flag: [word] for flag, word in short.items() if word is not None},
    }
    prepared = prepare(
        Asked(
            command="rlhf" if rlhf else stage,
            model=model,
            datasets=dataset or [],
            preset=preset,
            overlays=overlays,
            micro_batch=micro_batch,
            gpus=gpus,
            words=words,
        )
    )
    config = config_of(prepared.plan.model, online=True)
    data = rows.look(prepared.plan, loss_percent)
    asked = spec_of(prepared.plan, config, data.loss_share, data.seq_len)
    asked.check()
    if what_if:
        prediction.show_what_if(prepared, asked, picture, as_json=as_json)
        return
    method = prediction.METHODS["trace" if by_trace else "estimate"]
    raise typer.Exit(prediction.show_prediction(prepared, asked, method, as_json=as_json, picture=picture, data=data))
