"""What of an environment is looked at, and how."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tunekit.engine import environment


def test_requirements_are_compared_as_pip_does() -> None:
    pytest.importorskip("packaging")
    declared = [
        "transformers<5.20.0,>=4.33",
        "PyYAML>=5.4",
        "torch>=2.0",
        "trl<1.0,>=0.15",
        "einops",
        "zope.interface",
        'vllm>=0.5; extra == "all"',
        'pywin32; sys_platform == "win32"',
    ]
    here = {
        "transformers": "5.20.0",
        "pyyaml": "6.0",
        "torch": "2.13.0+cpu",
        "trl": "1.1.0rc1",
        "zope-interface": "8.0",
    }
    missed = environment.unmet_requirements(declared, here)
    assert missed is not None
    assert {(item.requirement, item.installed) for item in missed} == {
        ("transformers<5.20.0,>=4.33", "5.20.0"),
        ("trl<1.0,>=0.15", "1.1.0rc1"),
        ("einops", None),
    }


def test_without_packaging_nothing_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    assert environment.unmet_requirements(["einops"], {}) is None


def test_swift_is_own_in_the_same_folder_or_by_its_first_line(tmp_path: Path) -> None:
    ours, other, local = (tmp_path / name for name in ("ours", "other", "local"))
    for folder in (ours, other, local):
        folder.mkdir()
    for folder in (ours, other):  # two virtual environments of one Python
        (folder / "python").symlink_to(sys.executable)
        (folder / "swift").write_text(f"#!{folder}/python\n")
    (local / "swift").write_text(f"#!{ours}/python\n")
    (local / "apple").write_bytes(b"\xcf\xfa\xed\xfe")
    (local / "link").symlink_to(ours / "swift")
    own = {
        str(path.relative_to(tmp_path)): environment.is_own(path, ours, ours / "python")
        for path in (
            ours / "swift",
            other / "swift",
            local / "swift",
            local / "apple",
            local / "link",
            local / "gone",
        )
    }
    assert own == {
        "ours/swift": True,
        "other/swift": False,
        "local/swift": True,
        "local/apple": False,
        "local/link": True,
        "local/gone": False,
    }


def test_a_disk_has_one_line_and_a_cache_that_is_not_there_yet_counts(tmp_path: Path) -> None:
    environ = {"HF_HOME": str(tmp_path / "not" / "there"), "MODELSCOPE_CACHE": str(tmp_path)}
    found = environment.find_disks(environ)
    names = [name for disk in found for name in disk.holds]
    assert sorted(names) == sorted([environment.HERE, environment.HUGGING_FACE, environment.MODELSCOPE])
    assert len(found) == len({os.stat(place).st_dev for place in (Path.cwd(), tmp_path)})  # noqa: PTH116
