"""What the tests of runs and of the command line share: the fake ms-swift, a plan, calls of tunekit."""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from tunekit.engine.flags import SNAPSHOT
from tunekit.hardware import Gpu, Hardware
from tunekit.plan.batch import Batch
from tunekit.plan.models.model import Model
from tunekit.plan.plan import Plan, batch_values
from tunekit.plan.settings import Setting, Source
from tunekit.runs.folder import RunFolder, RunState
from tunekit.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Self

REPOSITORY = Path(__file__).parents[1]
PATIENCE = 60.0
"""Seconds after which a test gives up; nothing takes nearly as long."""

SECRET_KEY = "sk-planted-0123456789"
SECRET_TOKEN = "tok-planted-9876543210"

ROW = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}

ASKED = {"messages": [{"role": "user", "content": "Hi"}], "id": 7}
KNOWN = {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}], "level": {"a": [1]}}
"""A question, and a conversation whose answer is known, with columns of their own."""

ARGUMENT_FILES = {
    "sft": ("sft_args", "SftArguments"),
    "pt": ("pretrain_args", "PretrainArguments"),
    "rlhf": ("rlhf_args", "RLHFArguments"),
    "infer": ("infer_args", "InferArguments"),
    "export": ("export_args", "ExportArguments"),
    "eval": ("eval_args", "EvalArguments"),
    "deploy": ("deploy_args", "DeployArguments"),
}


@cache
def scratch() -> Path:
    """A folder of this test process, removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="tunekit-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def fake_engine() -> Path:
    """The folder for ``PYTHONPATH`` that holds the fake ms-swift, with argument files that declare its flags."""
    target = scratch() / "engine"
    shutil.copytree(REPOSITORY / "tests" / "fake_swift" / "swift", target / "swift")
    arguments = target / "swift" / "arguments"
    arguments.mkdir()
    (arguments / "__init__.py").write_text("", encoding="utf-8")
    rows = json.loads(SNAPSHOT.read_text(encoding="utf-8"))["flags"]
    for command, (module, name) in ARGUMENT_FILES.items():
        fields = [f"    {flag}: {_annotation(*what)} = None\n" for flag, *what, takers, _ in rows if command in takers]
        text = f"from typing import List, Literal, Optional\n\n\nclass {name}:\n{''.join(fields)}"
        (arguments / f"{module}.py").write_text(text, encoding="utf-8")
    return target


def _annotation(kind: str, choices: list[str], optional: bool) -> str:
    inner = f"Literal[{', '.join(map(repr, choices))}]" if choices else kind
    inner = f"List[{inner if choices else 'str'}]" if kind == "list" else inner
    return f"Optional[{inner}]" if optional else inner


def environment(fake: dict[str, Any] | None = None, **more: str) -> dict[str, str]:
    """The whole environment of a tunekit that uses the fake ms-swift and sees no GPU."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    return {
        **kept,
        "LANG": "C.UTF-8",
        "PYTHONPATH": f"{fake_engine()}{os.pathsep}{REPOSITORY}",
        "PYTHONUTF8": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "TUNEKIT_CONFIG": str(scratch() / "config"),
        "TUNEKIT_CACHE": str(scratch() / "cache"),
        "FAKE_SWIFT": json.dumps(fake or {}),
        **more,
    }


def make_model(folder: Path, **config: Any) -> Path:
    """A folder that looks like a small Llama."""
    folder.mkdir()
    known = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    (folder / "config.json").write_text(json.dumps(known | config), encoding="utf-8")
    (folder / "chat_template.jinja").write_text("<|im_start|>", encoding="utf-8")
    return folder


def make_rows(path: Path, *rows: Any) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows or [ROW] * 4), encoding="utf-8")
    return path


def make_workplace(folder: Path, **config: Any) -> Path:
    """A model ``tiny`` and a dataset ``data.jsonl`` in a folder: what `SFT` needs."""
    make_model(folder / "tiny", **config)
    make_rows(folder / "data.jsonl")
    return folder


SFT = ("sft", "--model", "tiny", "--dataset", "data.jsonl", "--name", "try", "--save_steps", "2")
"""A run in the folder ``runs/try``."""


class Started:
    """A tunekit that runs: its process, and the processes that it started, known by a variable of their own."""

    def __init__(self, folder: Path, *argv: str, fake: dict[str, Any] | None = None, **options: Any) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        env = {**environment(fake), "FAKE_SWIFT_MARK": self.mark, **options.pop("env", {})}
        program = options.pop("program", (sys.executable, "-m", "tunekit"))
        words = [*options.pop("prefix", ()), *program, *argv]
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(words, cwd=folder, env=env, **{**pipes, **options})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in [self.process.pid, *self.alive()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()

    def alive(self) -> list[int]:
        """The processes of this run that live, tunekit itself included."""
        return [pid for pid in processes() if f"FAKE_SWIFT_MARK={self.mark}" in variables(pid)]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to tunekit alone."""
        os.kill(self.process.pid, number)

    def end(self) -> Result:
        """Wait for the end."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return Result(self.process.returncode, (out or b"").decode(), (err or b"").decode())


@dataclass(frozen=True)
class Result:
    """How a call of tunekit ended."""

    code: int
    out: str
    err: str


def tunekit(folder: Path, *argv: str, fake: dict[str, Any] | None = None, **options: Any) -> Result:
    """Run tunekit to its end in a process of its own; nothing that it started may be left."""
    with Started(folder, *argv, fake=fake, **options) as started:
        result = started.end()
        assert started.alive() == []
    return result


def call(*argv: str) -> Result:
    """Call the command line in this process, with the flags that tunekit ships and no packages but those assumed."""
    from tunekit.__main__ import main

    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "argv", ["tunekit", *argv]))
        stack.enter_context(mock.patch("tunekit.engine.flags.find_engine", return_value=None))
        stack.enter_context(mock.patch("tunekit.runs.attempts.find_engine", return_value=None))
        stack.enter_context(mock.patch("tunekit.runs.prepare.installed_packages", frozenset))
        stack.enter_context(mock.patch("tunekit.hardware.detect", list))
        stack.enter_context(mock.patch.dict(os.environ, environment(), clear=True))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        try:
            main()
        except SystemExit as end:
            code = end.code
    return Result(int(code or 0), out.getvalue(), err.getvalue())


def processes() -> list[int]:
    """Every process of this machine."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names are wanted


def variables(pid: int) -> list[str]:
    """The environment of a living process; nothing for a zombie, which has none."""
    return _proc(pid, "environ")


def words(pid: int) -> list[str]:
    """The command line of a process."""
    return _proc(pid, "cmdline")


def _proc(pid: int, name: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until `condition` holds; what it returns."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited in vain: {what}")


def at_step(folder: Path, step: int) -> bool:
    """Whether the fake ms-swift has logged an optimizer step of a run in `folder`."""
    try:
        return f'"{step}/' in (folder / "output" / "logging.jsonl").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def tensors(content: str) -> bytes:
    """A whole file of safetensors."""
    size = len(content.encode())
    header = json.dumps({"x": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + content.encode()


def archive(content: str) -> bytes:
    """A whole file as ``torch.save`` writes it."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as file:
        file.writestr("archive/data.pkl", content)
    return written.getvalue()


def make_checkpoint(folder: Path, **state: Any) -> Path:
    """A complete checkpoint."""
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(tensors("adapter_model.safetensors"))
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (folder / name).write_bytes(archive(name))
    known = {"global_step": int(folder.name.rpartition("-")[2]), "train_batch_size": 8}
    (folder / "trainer_state.json").write_text(json.dumps(known | state), encoding="utf-8")
    return folder


def a_plan(
    batch: Batch | None = None, *, gpus: int = 1, stage: str = "sft", model: Model | None = None, **flags: Any
) -> Plan:
    """A plan with a few settings, on GPUs of 40 GiB."""
    batch = batch or Batch(8, 4, max(1, gpus))
    if STAGES[stage].rlhf_type:
        flags = {"rlhf_type": STAGES[stage].rlhf_type, **flags}
    values = {"model": "Qwen/Qwen2.5-7B", "tuner_type": "lora", **batch_values(batch), **flags}
    return Plan(
        stage=STAGES[stage],
        model=model or Model("Qwen/Qwen2.5-7B", 7.0, "qwen2"),
        hardware=Hardware(tuple(Gpu("A100", 39.4, 39.0, (8, 0), str(index)) for index in range(gpus))),
        preset="7b",
        preset_reason="",
        overlays=("stable",),
        batch=batch,
        settings={flag: Setting(value, Source("preset", "7b")) for flag, value in values.items()},
        env={"CUDA_VISIBLE_DEVICES": ",".join(str(index) for index in range(gpus))},
        secrets=(),
        changes=(),
        warnings=("a warning",),
        engine="4.6.0",
        engine_installed=True,
    )


def make_run(
    name="kit",
    steps=(5, 15),
    *,
    status="done",
    best=None,
    adapter=True,
    where=Path("runs"),
    cwd=None,
    on_cpu=True,
    **plan,
) -> RunFolder:
    """A run as it is left on the disk."""
    folder = RunFolder(where / name)
    folder.output.mkdir(parents=True)
    decided = a_plan(**plan)
    if on_cpu:
        decided = replace(decided, hardware=Hardware())
    folder.save(RunState(name, status, decided, "neutral", 5, cwd=str(cwd or Path.cwd())))
    for number in steps:
        path = make_checkpoint(folder.output / f"checkpoint-{number}")
        trained = {"model": decided.model.id, "quant_method": plan.get("quant_method"), "quant_bits": 4}
        (path / "args.json").write_text(json.dumps(trained), encoding="utf-8")
        if adapter:
            (path / "adapter_config.json").write_text("{}", encoding="utf-8")
        else:
            (path / "adapter_model.safetensors").rename(path / "model.safetensors")
    ended = {"last_model_checkpoint": None, "best_model_checkpoint": best and str(folder.output / f"checkpoint-{best}")}
    (folder.output / "logging.jsonl").write_text(json.dumps(ended) + "\n", encoding="utf-8")
    return folder


def files_below(folder: Path) -> Iterable[Path]:
    """Every file in a folder and in the folders below."""
    return (path for path in folder.rglob("*") if path.is_file())
