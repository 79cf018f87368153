"""What all tests share: an environment of their own, the shipped flags, and short ways to a plan."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tunekit import __main__
from tunekit.engine.flags import SNAPSHOT, from_json
from tunekit.engine.locate import OPTIONAL_PACKAGES, find_engine
from tunekit.hardware import choose_hardware
from tunekit.plan.models.find import resolve
from tunekit.plan.planner import Facts, make_plan
from tunekit.plan.presets.shelf import Library
from tunekit.plan.request import Request
from tunekit.plan.settings import COMMAND_LINE, Setting
from tunekit.plan.strategies import Tuning
from tunekit.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tunekit.plan.flags import FlagTable
    from tunekit.plan.models.model import Model
    from tunekit.plan.plan import Plan
    from tunekit.plan.settings import Value

ROOT = Path(__file__).parents[1]
PRESETS = ROOT / "presets"

LAUNCHER = ("CUDA_VISIBLE_DEVICES", "NPROC_PER_NODE", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
HUB = (
    *("USE_HF", "PYTORCH_CUDA_ALLOC_CONF", "HF_ENDPOINT", "MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"),
    *("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN_PATH"),
)
SECRETS = ("TOKEN", "API_KEY", "SECRET", "PASSWORD", "ACCESS_KEY")

# The same examples every time and no database: a failure on one machine is a failure on all. Speed is not asserted.
settings.register_profile("tunekit", deadline=None, derandomize=True, database=None)
settings.register_profile("explore", deadline=None, max_examples=2000, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tunekit"))


def pytest_configure() -> None:
    """Tests send signals to themselves and to programs; a job of ``&`` or ``nohup`` would have them ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def pytest_report_header() -> str:
    engine = find_engine()
    if engine:
        return f"ms-swift {engine.version} is installed: the contract with it is checked"
    return "ms-swift is NOT installed: tests marked `engine` are skipped, the contract with it is not checked"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("engine") and find_engine() is None:
        pytest.skip("ms-swift is not installed: not checked against it")


@pytest.fixture(autouse=True)
def isolated(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No GPU choice, secret or configuration of this machine reaches a test, and nothing is left in its folders."""
    if request.node.get_closest_marker("e2e"):  # these start whole programs and bring an environment of their own
        return tmp_path
    for name in list(os.environ):
        if name.startswith("TUNEKIT_") or name in (*LAUNCHER, *HUB) or name.endswith(SECRETS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TUNEKIT_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("TUNEKIT_CACHE", str(tmp_path / "cache"))
    for hub in ("HF_HUB_CACHE", "MODELSCOPE_CACHE"):
        monkeypatch.setenv(hub, str(tmp_path / "hub"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def flags() -> FlagTable:
    """The flags of ms-swift 4.6.0, whatever is installed here."""
    return from_json(json.loads(SNAPSHOT.read_text(encoding="utf-8")), installed=True)


@pytest.fixture(scope="session")
def library(flags: FlagTable) -> Library:
    """The presets that tunekit ships."""
    return Library(PRESETS, None, flags)


@pytest.fixture(scope="session")
def make(flags: FlagTable, library: Library) -> Callable[..., Plan]:
    """Make a plan: ``make("rlhf", "Qwen2.5-7B", "2x80GB", preset="7b", rlhf_type="dpo")``."""

    def make(
        stage: str = "sft",
        model: str | Model = "Qwen2.5-7B",
        gpus: str = "1x80GB",
        *,
        preset: str = "auto",
        overlays: Sequence[str] = (),
        micro: Setting | None = None,
        effective: Setting | None = None,
        layers: Sequence[Mapping[str, Setting]] = (),
        packages: frozenset[str] = frozenset({*OPTIONAL_PACKAGES, "flash_attn"}),
        environ: Mapping[str, str] | None = None,
        shelf: Library | None = None,
        tuning: Tuning | None = None,
        liger_models: frozenset[str] = frozenset(),
        memory_correction: float = 1.0,
        loss_share: float | None = None,
        tracked: Mapping[str, Setting] | None = None,
        **typed: Value,
    ) -> Plan:
        known = resolve(model) if isinstance(model, str) else model
        named = STAGES[typed.pop("rlhf_type", stage) if stage == "rlhf" else stage]
        said = {flag: Setting(value, COMMAND_LINE) for flag, value in typed.items()}
        said |= {"rlhf_type": Setting(named.rlhf_type, COMMAND_LINE)} if named.rlhf_type else {}
        said |= {"dataset": Setting(["data.jsonl"], COMMAND_LINE)}
        said |= {"per_device_train_batch_size": micro} if micro else {}
        request = Request(
            stage=named,
            model=known.id,
            typed=said,
            layers=tuple(layers),
            preset=preset,
            overlays=tuple(overlays),
            effective_batch=effective,
            tuning=tuning or Tuning(),
            tracked=tracked or {},
        )
        facts = Facts(
            flags=flags,
            shelf=shelf or library,
            environ=environ or {},
            hardware=choose_hardware(gpus),
            packages=packages,
            model=known,
            liger_models=liger_models,
            memory_correction=memory_correction,
            loss_share=loss_share,
        )
        return make_plan(request, facts)

    return make


@dataclass(frozen=True)
class Ended:
    """What a call of tunekit left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def tunekit(
    flags: FlagTable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Call tunekit in this process, from its `main`, with the shipped flag table: ``tunekit("sft", "--model", …)``."""
    monkeypatch.setattr("tunekit.runs.prepare.flag_table", lambda: flags)

    def call(*words: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["tunekit", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            __main__.main()
        out, err = capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return call
