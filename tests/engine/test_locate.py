"""Which packages are here, found without an import."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tunekit.engine import locate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An environment without any package; what was found in it is forgotten with it."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in (*locate.OPTIONAL_PACKAGES, "flash_attn", "flash_attn_interface", "transformers"):
        monkeypatch.delitem(sys.modules, name, raising=False)  # another test may have imported it
    remembered = (locate.find_package, locate.installed_flash, locate.find_engine)
    for known in remembered:
        known.cache_clear()
    yield tmp_path
    for known in remembered:
        known.cache_clear()


def install(site: Path, distribution: str, *files: str) -> None:
    metadata = site / f"{distribution.replace('-', '_')}-1.0.dist-info" / "METADATA"
    for path in (metadata, *(site / name for name in files)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")


FA2 = ("flash-attn", "flash_attn/__init__.py", "flash_attn/cute/__init__.py")
FA3 = ("flash-attn-3", "flash_attn_interface.py")
FA4 = ("flash-attn-4", "flash_attn/cute/__init__.py")


@pytest.mark.parametrize(
    ("wheels", "found"),
    [
        ((), set()),
        ((FA2,), {"flash_attn"}),
        ((FA3,), {"flash_attn_3"}),
        ((FA4,), {"flash_attn_4"}),
        ((FA2, FA4), {"flash_attn", "flash_attn_4"}),
    ],
)
def test_flash_attentions_that_share_a_namespace_are_told_apart(
    site: Path, wheels: tuple[tuple[str, ...], ...], found: set[str]
) -> None:
    for wheel in wheels:
        install(site, *wheel)
    assert locate.installed_flash() == found
    assert locate.installed_packages() == found


def test_flash_attention_4_needs_a_transformers_that_knows_it(site: Path) -> None:
    install(site, *FA4)
    used = site / "transformers" / "modeling_flash_attention_utils.py"
    used.parent.mkdir()
    (used.parent / "__init__.py").touch()
    used.write_text("'flash_attention_2'")
    assert locate.installed_flash() == set()
    locate.installed_flash.cache_clear()
    used.write_text("'flash_attention_4'")
    assert locate.installed_flash() == {"flash_attn_4"}
