"""Commands that people try and tunekit does not have: what does the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from tunekit.errors import TunekitError, did_you_mean
from tunekit.stages import STAGES, USUAL

if TYPE_CHECKING:
    from collections.abc import Collection

TRAIN = ((USUAL, "tunekit sft trains on rows of questions and answers; tunekit --help lists the other stages"),)
ANSWER = (("chat", "tunekit chat RUN talks to what was trained, tunekit predict RUN answers a file"),)
SERVE = (
    ("serve", "tunekit serve RUN"),
    ("merge", "tunekit merge RUN writes whole weights, which vLLM and swift deploy serve"),
)
EXPORT = (
    ("export", "tunekit export RUN"),
    ("merge", "tunekit merge RUN writes whole weights; swift export makes the other forms of them"),
)
RUNS = (("runs", "tunekit runs lists them, tunekit runs show RUN looks at one"), ("", "each is a folder: ls runs"))
LOGS = (
    ("runs", "tunekit runs logs RUN -f"),
    ("", "each attempt of a run keeps its own: runs/NAME/attempts/1/train.log"),
)
COMPARE = (("runs", "tunekit runs compare RUN RUN"), ("eval", "tunekit eval RUN scores each"))
PAGES = (("board", "tunekit board shows runs in a browser and plans one; swift web-ui has pages that start them"),)
DATA = (
    ("data", "tunekit data --help"),
    ("augment", "rows are looked at before a run starts; tunekit augment copies pictures"),
)
IMPORT = (
    ("import", "tunekit import FILE reads the files of other tools"),
    (USUAL, "flags of ms-swift can stand behind tunekit sft as they are, and its YAML: tunekit sft config.yaml"),
)
LOOK = ((USUAL, "--dry-run prints the command, --explain every setting: tunekit sft --model M --dataset D --dry-run"),)
MEMORY = (("fit", "tunekit fit --model M says what a run takes of a GPU"),)
FLAGS = (("flags", "tunekit flags [WORD] looks parameters up; tunekit sft --help has the options"),)
HEALTH = (("doctor", "tunekit doctor looks at GPUs and packages; tunekit --version"),)
COPY = (("presets", "tunekit presets copy NAME FILE, tunekit recipes copy NAME FILE: change it and use it"),)
STOP = (
    ("runs", "tunekit runs stop RUN, or Ctrl-C in its terminal: a checkpoint is saved, and tunekit resume goes on"),
)
REMOVE = (("runs", "tunekit runs rm RUN"),)
SCORE = (("eval", "tunekit eval RUN scores what was trained"),)
DEFAULTS = (
    ("presets", "what holds for all runs stands in config.toml under [defaults]; presets: tunekit presets list"),
)

TRIED = {
    **dict.fromkeys(("train", "fine-tune", "ft", "tune", "lora", "qlora", "start"), TRAIN),
    **{
        alias.replace("_", "-"): ((stage.name, f"tunekit {stage.name}: {stage.learns}"),)
        for stage in STAGES.values()
        for alias in stage.aliases
    },
    **dict.fromkeys(("infer", "inference", "generate", "ask", "sample", "rollout", "talk"), ANSWER),
    **dict.fromkeys(("deploy", "serve", "server", "api", "vllm"), SERVE),
    **dict.fromkeys(("export", "convert", "quantize", "quant", "gguf", "push", "upload", "publish"), EXPORT),
    **dict.fromkeys(("merge-lora", "merge-adapter"), (("merge", "tunekit merge RUN"),)),
    **dict.fromkeys(("ls", "list", "runs", "status", "ps", "history", "show", "jobs"), RUNS),
    **dict.fromkeys(("logs", "log", "tail", "watch", "monitor", "plot", "curves", "report"), LOGS),
    **dict.fromkeys(("compare", "diff"), COMPARE),
    **dict.fromkeys(("web", "web-ui", "webui", "ui", "gui", "app", "webchat", "dashboard"), PAGES),
    **dict.fromkeys(("data", "dataset", "datasets", "preprocess", "validate", "prepare"), DATA),
    "import": IMPORT,
    **dict.fromkeys(("plan", "dry-run", "explain"), LOOK),
    **dict.fromkeys(("memory", "vram", "estimate", "predict-memory", "oom"), MEMORY),
    **dict.fromkeys(("flag", "params", "args", "arguments", "options", "help"), FLAGS),
    **dict.fromkeys(("check", "env", "info", "version", "gpu", "gpus"), HEALTH),
    **dict.fromkeys(("init", "new", "create"), COPY),
    **dict.fromkeys(("stop", "kill", "cancel"), STOP),
    **dict.fromkeys(("rm", "remove", "delete", "clean"), REMOVE),
    **dict.fromkeys(("evaluate", "score", "test", "bench", "benchmark"), SCORE),
    **dict.fromkeys(("config", "configure", "settings", "set"), DEFAULTS),
    **dict.fromkeys(("continue", "restart"), (("resume", "tunekit resume RUN goes on from the newest checkpoint"),)),
}
"""For each name what to say, by the first command of its row that exists; of one without a command, in any case."""


def refuse_command(name: str, commands: Collection[str]) -> NoReturn:
    """Raise TunekitError with what does the same, else with the nearest name."""
    said = TRIED.get(name.lower().replace("_", "-"), ())
    hint = next((text for command, text in said if command in commands or not command), None)
    raise TunekitError(
        f"tunekit has no command {name}",
        hint or did_you_mean(name, commands, "tunekit ") or "tunekit --help lists them",
    )
