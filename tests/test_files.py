"""How tunekit writes files of its own: whole, no more open than asked, and never through a link."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tunekit.errors import TunekitError
from tunekit.files import open_own, write_atomically

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("mask", "mode", "left"), [(0o022, 0o666, 0o644), (0o077, 0o666, 0o600), (0o027, 0o755, 0o750)]
)
def test_the_umask_counts(tmp_path: Path, mask: int, mode: int, left: int) -> None:
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "run.json", "{}", mode)
    finally:
        os.umask(before)
    assert (tmp_path / "run.json").stat().st_mode & 0o777 == left


def test_a_write_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("mine", encoding="utf-8")
    (tmp_path / "run.json").symlink_to(precious)
    write_atomically(tmp_path / "run.json", "{}")
    assert precious.read_text(encoding="utf-8") == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious.txt", "run.json"]


@pytest.mark.parametrize("kind", ["symbolic", "dangling", "hard", "fifo", "folder"])
def test_a_file_of_its_own_is_no_link(tmp_path: Path, kind: str) -> None:
    precious, path = tmp_path / "precious.txt", tmp_path / ".lock"
    precious.write_text("mine", encoding="utf-8")
    make = {
        "symbolic": lambda: path.symlink_to(precious),
        "dangling": lambda: path.symlink_to(tmp_path / "absent"),
        "hard": lambda: path.hardlink_to(precious),
        "fifo": lambda: os.mkfifo(path),
        "folder": path.mkdir,
    }
    make[kind]()
    with pytest.raises(TunekitError, match=r"\.lock is a link or no plain file") as raised:
        open_own(path, os.O_RDWR | os.O_TRUNC)
    assert raised.value.hint
    assert precious.read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "absent").exists()


def test_a_file_of_its_own_is_made_and_found_again(tmp_path: Path) -> None:
    for flags, left in ((os.O_RDWR, "1"), (os.O_RDWR, "1"), (os.O_RDWR | os.O_TRUNC, "1")):
        handle = open_own(tmp_path / ".lock", flags)
        assert os.get_blocking(handle)
        os.write(handle, b"1")
        os.close(handle)
        assert (tmp_path / ".lock").read_text(encoding="utf-8") == left
