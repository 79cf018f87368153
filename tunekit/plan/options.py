"""What tunekit itself takes: one row an option, wherever it may stand.

The parameters of ``tunekit sft`` and ``tunekit fit`` and their help, the keys of a recipe's ``[[stage]]``, those of
``config.toml`` and ``TUNEKIT_*``, and docs/cli.md are all made from these rows. Beside them every flag of ms-swift may
stand in each of these places, by its own name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.plan.strategies import STRATEGIES
from tunekit.stages import STAGES, USUAL

if TYPE_CHECKING:
    from collections.abc import Mapping

TRAIN, FIT, STATS, PREVIEW = "train", "fit", "stats", "preview"
"""Commands that take options of this table: those of the stages, ``tunekit fit``, and two of ``tunekit data``."""

BOTH, ROWS = (TRAIN, FIT), (STATS, PREVIEW)
PLANNED = (TRAIN, FIT, *ROWS)

TEXT, FILE, WHOLE, WORDS, SWITCH = "text", "file", "whole number", "words", "switch"
"""What an option holds: one word, a path, a whole number, several words, or nothing."""

WHAT = "What to train"
HOW = "How"
PARTS = "Which parts, and images"
WHERE = "Where"
CLUSTER = "On several machines"
LOOK = "Look first, train nothing"
RETRY = "Out of memory"

LINE, RECIPE, ALL = 1, 2, 3
"""How far an option reaches: the command line alone, a stage of a recipe too, or also the user's configuration."""

SAID_ONCE = "it is said once for the whole recipe, on the command line of tunekit run"

LAUNCHERS = ("local", "nodes", "slurm", "skypilot", "kubeflow")
"""What may start a run: the keys of `tunekit.engine.launch.LAUNCHERS`."""

RETRY_POLICIES = ("neutral", "lossy", "off")

MICRO, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"
QLORA = {"tuner_type": ("lora",), "quant_method": ("bnb",), "quant_bits": ("4",)}


@dataclass(frozen=True)
class Option:
    """One option of tunekit.

    Attributes:
        name: as files write it; the command line has dashes for its ``_``.
        kind: what it holds.
        panel: of the help in which it stands.
        help: one line for people.
        flag: of ms-swift, where it is another name for one.
        reach: how far it reaches beside the command line.
        commands: that take it.
        elsewhere: what to say where it is written in a place that it does not reach.
        required: a run must be given it.
        choices: the words it takes; empty where any is allowed.
        means: flags of ms-swift with their words, by the word that stands for them: then these are its choices.
        scored_by: of the stages that it is for; empty where it is for all.
    """

    name: str
    kind: str
    panel: str
    help: str
    flag: str = ""
    reach: int = RECIPE
    commands: tuple[str, ...] = (TRAIN,)
    elsewhere: str = SAID_ONCE
    required: bool = False
    choices: tuple[str, ...] = ()
    means: Mapping[str, Mapping[str, tuple[str, ...]]] | None = None
    scored_by: str = ""

    @property
    def spelled(self) -> str:
        """As it stands on a command line."""
        return f"--{self.name.replace('_', '-')}"


TYPED = "a run or a recipe names the functions that it was written for"
NAMED = "a stage's name is its folder, and the recipe's is its file's"
PLACED = "each stage has a folder of its own: runs/RECIPE/STAGE; tunekit run --name NAME takes another RECIPE"
PERCENT = "Of the tokens, those that carry loss: 100 counts all."
OWN_ROWS = "FILE.py:FUNCTION that makes ms-swift's row out of one of yours."
SCORES = "Of GRPO: FILE.py:FUNCTION, or ms-swift's by name (accuracy); several may follow."
REGISTRY = "A table of datasets by name. Default: datasets.toml here."
PIXELS = "Larger images are scaled down. Default: 1,280 tokens of them."
MACHINE = "How many of the GPUs here; 2x24GB or H100 to plan for another machine; cpu."
PRICE = "Of a GPU and hour: 1.40, or H100=2.49,4090=0.4: then the cost is told."
ONWARD = "auto: go on with the run of that name where it has begun, as a requeued job does."
RETRIES = "neutral: the same optimisation (default). lossy: may change what is learned. off."
MACHINES = "Machines that train together, each with --gpus. Default: 1."
LAUNCH = f"What starts it: {', '.join(LAUNCHERS)}. Default: local."
RANK = "Of --launch nodes: which of the machines this one is, from 0."
MASTER = "Address of the first machine: for nodes, or to overrule Slurm's."
SLURM = "Options of sbatch: partition=gpu time=24:00:00 account=me."
CLOUD = "Of skypilot and kubeflow: image=NAME storage=URL (docs/clusters.md)."
SUBMIT = "Of slurm: submit the job and follow it; Ctrl-C leaves it alone."
ONE_MACHINE = "its stages train where the recipe runs; NNODES says so for all"
TUNERS = {"lora": {"tuner_type": ("lora",)}, "qlora": QLORA, "full": {"tuner_type": ("full",)}}

_ROWS = (
    Option("model", TEXT, WHAT, "A short name (Qwen2.5-7B), a hub id or a folder.", "", RECIPE, PLANNED, required=True),
    Option("stage", TEXT, WHAT, f"A stage: {', '.join(STAGES)}. Default: {USUAL}.", "", LINE, (FIT, *ROWS)),
    Option("dataset", WORDS, WHAT, "JSON lines files or hub ids; several may follow.", "dataset", ALL, PLANNED),
    Option("val_dataset", WORDS, WHAT, "Rows to evaluate on during training.", "val_dataset", ALL, BOTH),
    Option("val_split", TEXT, WHAT, "Or: keep this share of the rows for that, 0.1.", "split_dataset_ratio", ALL),
    Option("registry", FILE, WHAT, REGISTRY, "", ALL, PLANNED),
    Option("image_root", FILE, WHAT, "Where relative paths of images begin.", "", ALL, (TRAIN, *ROWS)),
    Option("loss_percent", WHOLE, WHAT, PERCENT, "", LINE, (FIT,)),
    Option("format", TEXT, WHAT, OWN_ROWS, elsewhere=TYPED),
    Option("reward", WORDS, WHAT, SCORES, elsewhere=TYPED, scored_by="functions"),
    Option("preset", TEXT, HOW, "A name (see tunekit presets list) or a file. Default: auto.", "", ALL, PLANNED),
    Option("with", TEXT, HOW, "Overlays, in order: stable,long-context.", "", ALL, PLANNED),
    Option("tuner", TEXT, HOW, "lora, qlora or full. Default: the preset's.", "", LINE, (FIT,), means=TUNERS),
    Option(
        "effective_batch",
        WHOLE,
        HOW,
        "Rows an optimizer step, 32 or more. Default: the preset's.",
        "",
        ALL,
        (TRAIN, STATS),
    ),
    Option("micro_batch", WHOLE, HOW, "Rows one GPU computes at once. Default: the preset's.", MICRO, ALL, PLANNED),
    Option("max_length", TEXT, HOW, "Tokens a row.", "max_length", ALL, PLANNED),
    Option("lora_rank", TEXT, HOW, "Size of the adapter.", "lora_rank", ALL, BOTH),
    Option("learning_rate", TEXT, HOW, "As in 2e-4.", "learning_rate", ALL),
    Option("epochs", TEXT, HOW, "Passes over the data.", "num_train_epochs", ALL),
    Option("report_to", WORDS, HOW, "Trackers: swanlab, wandb, tensorboard, mlflow, trackio; none.", "report_to", ALL),
    Option("project", TEXT, HOW, "Of W&B, SwanLab, MLflow or trackio: where runs are kept.", "", ALL),
    Option("group", TEXT, HOW, "Of W&B or SwanLab: the runs that belong together.", "", ALL),
    Option("entity", TEXT, HOW, "W&B's entity, SwanLab's workspace.", "", ALL),
    Option("tuning_strategy", TEXT, PARTS, f"{', '.join(STRATEGIES)}.", "", ALL),
    Option("llm_frozen_layers", WHOLE, PARTS, "Of partial_llm_full_vit: freeze the first N layers."),
    Option("trainable_layers", WHOLE, PARTS, "Of freeze: train the last N layers."),
    Option("learning_rate_llm", TEXT, PARTS, "Of the language model alone.", "learning_rate"),
    Option("learning_rate_vit", TEXT, PARTS, "Of the part that sees (ms-swift: vit_lr).", "vit_lr", ALL),
    Option("learning_rate_aligner", TEXT, PARTS, "Of what joins both (ms-swift: aligner_lr).", "aligner_lr", ALL),
    Option("max_pixels", TEXT, PARTS, PIXELS, "max_pixels", ALL),
    Option("gpus", TEXT, WHERE, MACHINE, "", ALL, PLANNED),
    Option("price", TEXT, WHERE, PRICE, "", ALL, BOTH),
    Option("name", TEXT, WHERE, "The run's name: it is kept in runs/NAME.", "", LINE, elsewhere=NAMED),
    Option("output_dir", TEXT, WHERE, "The run's folder, instead of runs/NAME.", "", LINE, elsewhere=PLACED),
    Option("resume", TEXT, WHERE, ONWARD, "", LINE, elsewhere=NAMED, choices=("auto",)),
    Option("nodes", WHOLE, CLUSTER, MACHINES, "", LINE, BOTH, elsewhere=ONE_MACHINE),
    Option("launch", TEXT, CLUSTER, LAUNCH, "", LINE, elsewhere=ONE_MACHINE, choices=LAUNCHERS),
    Option("node_rank", WHOLE, CLUSTER, RANK, "", LINE, elsewhere=ONE_MACHINE),
    Option("master", TEXT, CLUSTER, MASTER, "", LINE, elsewhere=ONE_MACHINE),
    Option("slurm", WORDS, CLUSTER, SLURM, "", LINE, elsewhere=ONE_MACHINE),
    Option("cloud", WORDS, CLUSTER, CLOUD, "", LINE, elsewhere=ONE_MACHINE),
    Option("submit", SWITCH, CLUSTER, SUBMIT, "", LINE, elsewhere=ONE_MACHINE),
    Option("dry_run", SWITCH, LOOK, "Print the swift command.", "", LINE),
    Option("explain", SWITCH, LOOK, "Print every setting, its source and why.", "", LINE),
    Option("trace", SWITCH, LOOK, "Follow the model's own code on fake tensors: seconds.", "", LINE, (FIT,)),
    Option("trace_limit", WHOLE, LOOK, "Seconds that a trace may take. Default: 60.", "", LINE, (FIT,)),
    Option("what_if", SWITCH, LOOK, "A table over GPU sizes, tuners and Liger.", "", LINE, (FIT,)),
    Option("where", SWITCH, LOOK, "Every card on which it fits: time, GPU-hours, cost.", "", LINE, (FIT,)),
    Option("plot", FILE, LOOK, "Draw it: FILE.png, .svg or .pdf.", "", LINE, (FIT, STATS)),
    Option("sample", WHOLE, LOOK, "Rows that are measured. Default: 2000; 0: all.", "", LINE, (STATS,)),
    Option("row", WHOLE, LOOK, "Which row of the file, from 1. Default: the first.", "", LINE, (PREVIEW,)),
    Option("json", SWITCH, LOOK, "Print it as one JSON object on stdout.", "", LINE, PLANNED),
    Option("spec", FILE, LOOK, "JSON lines of configurations: one answer a line, as JSON.", "", LINE, (FIT,)),
    Option("write", FILE, LOOK, "Write the command to an executable script.", "", LINE),
    Option("oom_retry", TEXT, RETRY, RETRIES, "", ALL, choices=RETRY_POLICIES),
    Option("max_attempts", WHOLE, RETRY, "Starts at the most. Default: 5.", "", ALL),
    Option("force", SWITCH, RETRY, "Start although the prediction says that it does not fit.", "", LINE),
)

OPTIONS: Mapping[str, Option] = {option.name: option for option in _ROWS}
"""Every option by name, in the order of the help."""

RESERVED: Mapping[str, tuple[str, str | None]] = {
    "auto_find_batch_size": (
        "it shrinks the batch by a tenth and leaves accumulation alone, so the effective batch would drift",
        "tunekit retries by itself, see --oom-retry",
    ),
    "add_version": ("tunekit keeps each run in a folder of its own", "name it with --name or --output-dir"),
    "resume_from_checkpoint": ("tunekit finds the newest complete checkpoint itself", "tunekit resume RUN"),
    "rlhf_type": ("tunekit rlhf --rlhf-type names it", None),
    "use_ray": (
        "tunekit starts the processes of a machine itself, and watches them",
        "--launch slurm or --launch nodes trains on several machines (docs/clusters.md); or call swift without tunekit",
    ),
}
"""Flags of ms-swift that tunekit decides alone: the reason, and what to say instead."""

FOR_ONE_RUN: Mapping[str, str] = {
    ACCUMULATION: "--effective-batch (effective_batch = N) holds on any number of GPUs",
}
"""Flags of ms-swift that are taken for one run and cannot be set for all: what to say instead."""


def options_of(command: str) -> list[Option]:
    """The options that a command takes: `TRAIN` or `FIT`."""
    return [option for option in OPTIONS.values() if command in option.commands]


def canonical(name: str) -> str:
    """The one name of an option or a flag: an option that is another name for a flag goes by the flag's."""
    option = OPTIONS.get(name)
    return option.flag or name if option else name


def spelled(name: str) -> str:
    """An option or a flag as it stands on a command line, in its shortest form."""
    short = next((option for option in OPTIONS.values() if option.flag == name), OPTIONS.get(name))
    return short.spelled if short else f"--{name}"
