"""The scripts keep what a user has, and say what they do."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def shell(script: str, environ: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "-c", script], cwd="/", env=os.environ | environ, capture_output=True, text=True, check=False
    )


def fake_python(folder: Path, torch: str | None) -> Path:
    """An interpreter that only notes what pip is asked for, with a torch of that version or none."""
    (folder / "bin").mkdir()
    python = folder / "bin/python"
    have = "exit 1" if torch is None else f"echo {torch}"
    python.write_text(
        f"""#!/bin/bash
case "$*" in
  *"import torch"*) {have} ;;
  *"--report"*) cat "$REPORT" ;;
  "-c "*) exec {sys.executable} "$@" ;;
  *) echo "$*" >> {folder}/asked ;;
esac
"""
    )
    python.chmod(0o755)
    uv = folder / "bin/uv"
    uv.write_text(f'#!/bin/bash\necho "uv $*" >> {folder}/asked\n')
    uv.chmod(0o755)
    return python


def install_torch(folder: Path, needs: str = "[]") -> tuple[str, str]:
    """What is asked of pip and uv, and the constraints that are left."""
    (folder / "report.json").write_text(f'{{"install": [{{"metadata": {{"requires_dist": {needs}}}}}]}}')
    constraints = folder / "constraints.txt"
    constraints.write_text((ROOT / "constraints.txt").read_text())
    environ = {"TUNEKIT_VENV": str(folder), "REPORT": str(folder / "report.json"), "PATH": "/usr/bin:/bin"}
    done = shell(f". {ROOT}/scripts/common.sh; install_torch {constraints}", environ)
    assert done.returncode == 0, done.stderr
    asked = folder / "asked"
    return asked.read_text() if asked.exists() else "", constraints.read_text()


def test_a_torch_that_is_there_is_kept(tmp_path):
    fake_python(tmp_path, "2.7.1")
    asked, constraints = install_torch(tmp_path)
    assert asked == ""
    assert "torch==2.7.1\n" in constraints


def test_without_a_driver_the_cpu_build_that_pip_finds_is_taken(tmp_path):
    fake_python(tmp_path, None)
    asked, _ = install_torch(tmp_path, '["filelock", "sympy"]')
    assert "pip install" in asked
    assert "torch==" in asked
    assert "uv" not in asked


def test_without_a_driver_a_cuda_build_is_not_taken(tmp_path):
    fake_python(tmp_path, None)
    asked, _ = install_torch(tmp_path, '["filelock", "nvidia-cublas==13.0"]')
    assert "--torch-backend cpu torch==" in asked


def test_with_a_driver_the_usual_build_is_taken(tmp_path):
    fake_python(tmp_path, None)
    smi = tmp_path / "bin/nvidia-smi"
    smi.write_text("#!/bin/bash\n")
    smi.chmod(0o755)
    (tmp_path / "report.json").write_text("")
    environ = {"TUNEKIT_VENV": str(tmp_path), "PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    done = shell(f". {ROOT}/scripts/common.sh; install_torch {ROOT}/constraints.txt", environ)
    assert done.returncode == 0, done.stderr
    assert "uv" not in (tmp_path / "asked").read_text()


def test_no_python_is_one_line_and_a_hint(tmp_path):
    bash = shell("command -v bash", {}).stdout.strip()
    done = subprocess.run(
        [
            bash,
            "-c",
            f'dirname() {{ /usr/bin/dirname "$@"; }}; . {ROOT}/scripts/common.sh; PATH={tmp_path}; find_python',
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: no Python 3.10 or newer was found\nhint:")
