from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from tunekit.cli import doctor as cli
from tunekit.cli.root import app
from tunekit.engine import doctor, environment
from tunekit.engine.environment import TOKENS, Disk, Environment, Unmet
from tunekit.engine.probe import IMPORTS, Import
from tunekit.hardware import Gpu
from tunekit.plan.configuration import FLASH_PACKAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

REPO = Path(__file__).parents[2]
SECRET = "hf_planted0123456789abcdef"
WORKS = Import("works")
NMS = Import("broken", "RuntimeError: Failed to import\noperator torchvision::nms does not exist")
T4 = Gpu("T4", 15, None, (7, 5))
A100 = Gpu("A100-SXM4-80GB", 79.3, 78.9, (8, 0))
H100 = Gpu("H100", 79.3, 78.9, (9, 0))
ON_GPU = Import("works", found={"cuda": "12.8", "hip": "", "gpus": 1})
CPU_BUILD = Import("works", found={"cuda": "", "hip": "", "gpus": 0})

GOOD = Environment(
    python=(3, 11, 7),
    engine="4.6.0",
    flags=481,
    versions={
        "torch": "2.13.0+cu128",
        "transformers": "5.19.0",
        "msgspec": "0.22.0",
        "flash-attn": "2.8.3",
        "bitsandbytes": "0.50.2",
    },
    declared=38,
    imports={"swift": WORKS, "torch": ON_GPU, "flash_attn": WORKS, "bitsandbytes": WORKS},
    driver=True,
    gpus=(A100,),
    scripts=Path("/venv/bin"),
    swift=Path("/venv/bin/swift"),
    swift_is_own=True,
    disks=(Disk((environment.HERE,), 500.0),),
)
"""A machine with one GPU, where all is well."""


def line(name: str, base: Environment = GOOD, **changes: object) -> doctor.Check:
    """The one line that judges `name`."""
    (found,) = [check for check in doctor.check_environment(replace(base, **changes)) if check.name == name]  # type: ignore[arg-type]
    return found


def importing(**states: Import | None) -> dict[str, Import]:
    """The imports of the good machine with some changed; None takes one away."""
    return {name: state for name, state in {**GOOD.imports, **states}.items() if state}


def without(*names: str) -> dict[str, str]:
    return {name: version for name, version in GOOD.versions.items() if name not in names}


def test_a_good_machine_has_only_ok_lines_and_nothing_to_mend() -> None:
    checks = doctor.check_environment(GOOD)
    assert {check.level for check in checks} == {"ok"}
    assert {check.fix for check in checks} == {""}
    assert len({check.name for check in checks}) == len(checks) == 16


@pytest.mark.parametrize(
    ("name", "changes", "level", "said", "fix"),
    [
        ("Python", {"python": (3, 9, 18)}, "problem", "3.9.18", "python 3.12"),
        ("platform", {"system": "Darwin"}, "warning", "Linux", "WSL"),
        (
            "GPU",
            {"gpus": (), "driver": False, "imports": importing(torch=CPU_BUILD)},
            "warning",
            "only for tests",
            "--gpus",
        ),
        (
            "GPU",
            {"gpus": (), "visible": "", "imports": importing(torch=CPU_BUILD)},
            "warning",
            "CUDA_VISIBLE",
            "unset",
        ),
        ("GPU", {"gpus": (), "imports": importing(torch=CPU_BUILD)}, "warning", "names no GPU", "nvidia-smi"),
        ("GPU", {"gpus": (), "driver": False}, "warning", "torch sees 1 GPU", "NVIDIA_DRIVER_CAPABILITIES"),
        (
            "torch",
            {"imports": importing(torch=None)},
            "problem",
            "not installed",
            'pip install "tunekit[train]"',
        ),
        ("torch", {"imports": importing(torch=CPU_BUILD)}, "problem", "CPU build", "pip uninstall torch"),
        ("torch", {"imports": importing(torch=Import("slow"))}, "warning", "120 s", "tunekit doctor"),
        (
            "torch",
            {"imports": importing(torch=Import("broken", "OSError: libcudart"))},
            "problem",
            "libcudart",
            "pip",
        ),
        (
            "torch",
            {"imports": importing(torch=Import("works", found={"cuda": "13.0"}))},
            "problem",
            "sees no GPU",
            "driver",
        ),
        (
            "torch",
            {
                "imports": importing(
                    torch=Import("works", found={**ON_GPU.found, "gpu_error": "GPU 0: AcceleratorError: no kernel"})
                )
            },
            "problem",
            "does not compute on GPU 0",
            "pytorch.org",
        ),
        (
            "torch",
            {
                "imports": importing(
                    torch=Import("works", found={**ON_GPU.found, "gpu_error": "GPU 0: OutOfMemoryError: x"})
                )
            },
            "warning",
            "no memory is free on GPU 0",
            "nvidia-smi",
        ),
        (
            "torchvision",
            {"imports": importing(torchvision=NMS)},
            "problem",
            "for text too",
            "pip uninstall torchvision",
        ),
        ("ms-swift", {"engine": None}, "problem", "not installed", 'pip install "tunekit[train]"'),
        ("ms-swift", {"engine": "4.5.2"}, "problem", "4.5.2", '"ms-swift>=4.6,<5"'),
        ("ms-swift", {"engine": "5.0.0"}, "problem", "5.0.0", '"ms-swift>=4.6,<5"'),
        ("ms-swift", {"engine": "unknown"}, "problem", "unknown", '"ms-swift>=4.6,<5"'),
        (
            "ms-swift",
            {"flags_error": "flags could not be read"},
            "problem",
            "flags could",
            '"ms-swift>=4.6,<5"',
        ),
        (
            "ms-swift",
            {"imports": importing(swift=Import("broken", "ImportError: no trl"))},
            "problem",
            "no trl",
            "ms-swift",
        ),
        (
            "requirements",
            {"unmet": (Unmet("trl<1.0,>=0.15", "1.1"),)},
            "problem",
            "1.1 is",
            '"trl<1.0,>=0.15"',
        ),
        (
            "requirements",
            {"unmet": (Unmet("einops", None),)},
            "problem",
            "not installed",
            'pip install "einops"',
        ),
        ("requirements", {"unmet": None}, "warning", "not compared", "pip install packaging"),
        ("requirements", {"declared": 0}, "warning", "no metadata", "ms-swift"),
        (
            "transformers",
            {"versions": {"transformers": "5.1.9"}},
            "warning",
            "old batch",
            '"transformers>=5.2"',
        ),
        ("msgspec", {"versions": without("msgspec")}, "warning", "GRPO and GKD", "pip install msgspec"),
        ("flash-attn", {"imports": importing(flash_attn=None)}, "warning", "no packing", '"tunekit[flash]"'),
        (
            "flash-attn",
            {"imports": importing(flash_attn=None), "gpus": (H100,)},
            "warning",
            "no packing",
            "flash-attn-4",
        ),
        ("flash-attn", {"imports": importing(flash_attn=None, flash_attn_4=WORKS)}, "warning", "no packing", "[flash]"),
        (
            "flash-attn",
            {"imports": importing(flash_attn=Import("slow"))},
            "warning",
            "120 s",
            "tunekit doctor",
        ),
        (
            "bitsandbytes",
            {"imports": importing(bitsandbytes=None)},
            "warning",
            "no QLoRA",
            '"tunekit[qlora]"',
        ),
        ("swift", {"swift_is_own": False}, "warning", "another one", "/venv/bin"),
        ("swift", {"swift": None}, "warning", "not on PATH", "/venv/bin"),
        ("disk", {"disks": (Disk((environment.HERE,), 19.9),)}, "warning", "19.9 GiB", "cd "),
        ("disk", {"disks": (Disk((environment.HUGGING_FACE,), 1.9),)}, "problem", "1.9 GiB", "HF_HOME"),
        (
            "disk",
            {"disks": (Disk((environment.MODELSCOPE,), 0.0),)},
            "problem",
            "0.0 GiB",
            "MODELSCOPE_CACHE",
        ),
    ],
)
def test_what_is_wrong_is_said_with_what_mends_it(
    name: str, changes: dict[str, object], level: str, said: str, fix: str
) -> None:
    found = line(name, **changes)
    assert (found.level, said in found.found, fix in found.fix) == (level, True, True), found


@pytest.mark.parametrize("companion", [*doctor.COMPANIONS, *doctor.FLASHES], ids=lambda companion: companion.name)
def test_a_package_that_is_installed_but_broken_is_a_problem(companion: doctor.Package) -> None:
    broken = Import("broken", "ImportError: libfoo.so:\nundefined symbol: _ZN3c10")
    found = line(companion.name, imports=importing(**{companion.module: broken}))
    assert found.level == "problem"
    assert "undefined symbol: _ZN3c10" in found.found
    assert found.fix.startswith(("pip install", "# flash-attn-3 is built from"))


def test_optional_packages_may_be_absent() -> None:
    for name in ("deepspeed", "liger-kernel", "swanlab"):
        assert line(name).level == "ok"
    bare = replace(GOOD, gpus=(), imports=importing(flash_attn=None, torch=CPU_BUILD))
    assert line("flash-attn", bare).level == "ok"


@pytest.mark.parametrize(
    ("gpu", "here", "lines"),
    [
        (A100, ("flash_attn",), {"flash-attn": "2.8.3"}),
        (H100, ("flash_attn_4",), {"flash-attn-4": "4.0.0b36"}),
        (H100, ("flash_attn", "flash_attn_4"), {"flash-attn": "2.8.3", "flash-attn-4": "4.0.0b36"}),
        (A100, ("flash_attn", "flash_attn_4"), {"flash-attn": "2.8.3", "flash-attn-4": "is not made for this GPU"}),
        (T4, (), {"flash-attn": "of no use on this GPU"}),
        (T4, ("flash_attn",), {"flash-attn": "is not made for this GPU"}),
    ],
)
def test_flash_attentions_are_told_apart_and_held_against_the_card(
    gpu: Gpu, here: tuple[str, ...], lines: dict[str, str]
) -> None:
    imports = {**importing(flash_attn=None), **dict.fromkeys(here, WORKS)}
    facts = replace(GOOD, gpus=(gpu,), imports=imports, versions={**GOOD.versions, "flash-attn-4": "4.0.0b36"})
    found = {check.name: check for check in doctor.check_environment(facts) if check.name.startswith("flash")}
    assert found.keys() == lines.keys()
    assert all(said in found[name].found and found[name].level == "ok" for name, said in lines.items())


def test_without_deep_nothing_is_claimed_that_was_not_tried() -> None:
    untried = Import("untried")
    imports = dict.fromkeys(GOOD.imports, untried) | {"torch": Import("untried", found={"cuda": "12.8", "hip": ""})}
    checks = {check.name: check for check in doctor.check_environment(replace(GOOD, imports=imports))}
    assert {check.level for check in checks.values()} == {"ok"}
    assert checks["torch"].found == "2.13.0+cu128, built for CUDA 12.8"
    assert "starts" not in checks["ms-swift"].found
    assert "starts" in line("ms-swift").found
    imports["torch"] = Import("untried", found={"cuda": "", "hip": ""})
    assert line("torch", imports=imports).level == "problem", "a CPU build on a machine with a GPU"


def test_only_the_root_of_several_broken_imports_is_a_problem() -> None:
    broken = Import("broken", "ImportError: libcudart.so.13")
    facts = replace(GOOD, imports=importing(torch=broken, flash_attn=broken, swift=broken, swanlab=broken))
    problems = [check.name for check in doctor.check_environment(facts) if check.level == "problem"]
    assert problems == ["torch", "swanlab"], "SwanLab does not need torch"
    assert "once torch is mended" in line("flash-attn", facts).fix


def test_a_machine_without_gpu_may_have_a_cpu_torch() -> None:
    assert line("torch", gpus=(), driver=False, imports=importing(torch=CPU_BUILD)).level == "ok"


def test_fixes_name_the_pip_of_this_interpreter() -> None:
    found = line("torch", pip="/venv/bin/python -m pip", imports=importing(torch=CPU_BUILD))
    assert found.fix == "/venv/bin/python -m pip uninstall torch && /venv/bin/python -m pip install torch"


def test_tokens_are_set_or_not_set() -> None:
    assert line("tokens", tokens=frozenset({"HF_TOKEN"})).found.startswith("HF_TOKEN set, MODELSCOPE_API_TOKEN not set")


def test_lines_keep_to_80_columns_and_fixes_are_never_broken() -> None:
    facts = replace(
        GOOD,
        engine="4.6.0",
        unmet=(Unmet("transformers<5.20.0,>=4.33", "5.21.0"),),
        swift_is_own=False,
        imports=importing(flash_attn=None, torchvision=NMS),
        pip="/a/very/long/path/to/a/virtual/environment/bin/python -m pip",
    )
    checks = doctor.check_environment(facts)
    lines = cli.doctor_lines(checks, 80)
    plain = [text for text in lines if "fix:" not in text]
    assert max(len(_bare(text)) for text in plain) <= 80
    assert [_bare(text).strip() for text in lines if "fix:" in text] == [
        f"fix: {check.fix}" for check in checks if check.fix
    ]


def _bare(text: str) -> str:
    from click import unstyle

    return unstyle(text)


@pytest.mark.parametrize(
    ("facts", "code", "verdict"),
    [
        (GOOD, 0, "Ready to train.\n"),
        (replace(GOOD, versions=without("msgspec")), 0, "Ready to train: 1 warning.\n"),
        (replace(GOOD, engine=None), 1, "Not ready to train: 1 problem.\n"),
    ],
)
def test_the_exit_code_is_1_where_there_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, facts: Environment, code: int, verdict: str
) -> None:
    monkeypatch.setattr(environment, "find_environment", lambda **_: facts)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == code
    assert verdict in result.stdout
    assert "tunekit doctor --deep" in result.stdout
    assert "--deep" not in CliRunner().invoke(app, ["doctor", "--deep"]).stdout.partition("\n\n")[2]
    assert "\x1b" not in result.stdout


def test_json_is_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        environment, "find_environment", lambda **_: replace(GOOD, engine=None, versions=without("transformers"))
    )
    result = CliRunner().invoke(app, ["doctor", "--json"])
    document = json.loads(result.stdout)
    assert list(document) == ["checks", "problems", "warnings"]
    assert all(list(check) == ["name", "level", "found", "fix"] for check in document["checks"])
    assert (result.exit_code, document["problems"], document["warnings"]) == (1, 1, 0)


@pytest.fixture
def fake_site(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH with an empty package for all that doctor imports: no real one is loaded."""
    for name in IMPORTS:
        if name not in FLASH_PACKAGES:  # these are known by their distributions
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").touch()
    torch = "class version:\n    cuda = None\nclass cuda:\n    is_available = staticmethod(lambda: False)\n"
    (tmp_path / "torch" / "__init__.py").write_text(torch)
    (tmp_path / "bitsandbytes" / "cextension.py").touch()
    (tmp_path / "liger_kernel" / "transformers.py").touch()
    return tmp_path


def real(
    site: Path, *words: str, **environ: str
) -> tuple[subprocess.CompletedProcess[str], Mapping[str, doctor.Check]]:
    """A real `tunekit doctor` that finds the packages in `site` first."""
    paths = os.pathsep.join([str(site), str(REPO)])
    ended = subprocess.run(
        [sys.executable, "-m", "tunekit", "doctor", *words],
        env={**os.environ, "PYTHONPATH": paths, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    checks = json.loads(ended.stdout)["checks"] if "--json" in words else []
    return ended, {check["name"]: doctor.Check(**check) for check in checks}


def test_a_broken_import_is_found_and_shows_no_token(fake_site: Path) -> None:
    # The worst that a package may do: print the whole environment, and put it into its error.
    code = (
        "import os, sys\n"
        "print(os.environ, file=sys.stderr)\n"
        "raise RuntimeError(f'no login\\n{os.environ}\\nbad version')\n"
    )
    (fake_site / "swanlab" / "__init__.py").write_text(code)
    (fake_site / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    tokens = dict.fromkeys(TOKENS, SECRET)
    ended, checks = real(fake_site, "--json", "--deep", **tokens)
    assert checks["swanlab"].level == "problem"
    assert checks["swanlab"].found.endswith("RuntimeError: bad version")
    assert (checks["torchvision"].level, checks["torchvision"].fix.endswith("uninstall torchvision")) == (
        "problem",
        True,
    )
    assert checks["deepspeed"].level == "ok"
    assert all(f"{name} set" in checks["tokens"].found for name in TOKENS)
    assert ended.returncode == 1
    for run in (ended, real(fake_site, "--deep", **tokens)[0]):
        for length in range(8, len(SECRET)):
            assert SECRET[:length] not in run.stdout + run.stderr


def test_nothing_heavy_is_imported_into_this_process(fake_site: Path) -> None:
    code = (
        "import sys\n"
        "from tunekit.engine.doctor import check_environment\n"
        "from tunekit.engine.environment import find_environment\n"
        f"check_environment(find_environment(deep=True)); sys.exit(bool(set({list(IMPORTS)}) & set(sys.modules)))"
    )
    paths = os.pathsep.join([str(fake_site), str(REPO)])
    ended = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert ended.returncode == 0


def test_without_deep_no_package_is_imported_at_all(fake_site: Path) -> None:
    for name in IMPORTS:
        if name not in FLASH_PACKAGES:
            (fake_site / name / "__init__.py").write_text(f"open({str(fake_site / 'ran')!r}, 'w'); raise SystemExit(9)")
    (fake_site / "torch" / "version.py").write_text("cuda: Optional[str] = '12.8'\nhip = None\n")
    _, checks = real(fake_site, "--json")
    assert checks["torch"].found.endswith("built for CUDA 12.8")
    assert not (fake_site / "ran").exists()
    real(fake_site, "--json", "--deep")
    assert (fake_site / "ran").exists()
