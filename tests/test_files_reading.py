"""Reading what others wrote: it ends, whatever stands there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunekit.errors import Exit, TunekitError
from tunekit.files import number_of, parse_json, path_of, read_bytes, read_json, read_object, read_toml, whole_of


@pytest.mark.parametrize("special", ["pipe", "/dev/zero", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, special: str) -> None:
    path = Path(special) if special.startswith("/") else tmp_path / special
    if special == "pipe":
        os.mkfifo(path)
    elif special == "folder":
        path.mkdir()
    with pytest.raises(OSError, match="it is a"):
        read_bytes(path)
    assert read_object(path) == {}
    with pytest.raises(TunekitError, match="cannot be read: it is a"):
        read_toml(path)


def test_a_file_is_read_up_to_a_bound(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 11)
    assert read_bytes(tmp_path / "x", 11) == b"x" * 11
    with pytest.raises(OSError, match="larger than"):
        read_bytes(tmp_path / "x", 10)
    with pytest.raises(OSError, match="cannot be the name"):
        read_bytes(tmp_path / "a\0b")


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "{", "", "\x00"])
def test_json_that_says_nothing(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(text)
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"\w"):
        read_json(tmp_path / "x.json")
    assert read_object(tmp_path / "x.json") == {}


@pytest.mark.parametrize("text", ["a=" + "[" * 2000, "a=" + "9" * 5000, "a"])
def test_toml_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.toml").write_text(text, encoding="utf-8")
    with pytest.raises(TunekitError, match="not valid TOML"):
        read_toml(tmp_path / "x.toml")


def test_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert path_of("~/x") == Path("/home/me/x")
    assert path_of("~nouser-at-all/x") == Path("~nouser-at-all/x")
    assert path_of("a" * 255).name == "a" * 255
    for word in ("a" * 256, "x/" + "é" * 128 + "/y", "a\0b", "\ud800"):
        with pytest.raises(TunekitError, match="cannot be the name of a file") as refused:
            path_of(word, Exit.DATA)
        assert refused.value.code == Exit.DATA
        assert len(refused.value.message) < 200


@pytest.mark.parametrize("word", ["nan", "inf", "-inf", "1e400", "²", "None", "", "9" * 5000])
def test_words_that_are_no_numbers(word: str) -> None:
    for read in (number_of, whole_of):
        with pytest.raises(ValueError, match=r"\w"):
            read(word)


def test_numbers() -> None:
    assert (number_of("2e-4"), number_of("1e300"), whole_of("-1"), whole_of(str(2**63 - 1))) == (
        *(2e-4, 1e300, -1),
        2**63 - 1,
    )
    with pytest.raises(ValueError, match="too large"):
        whole_of(str(2**63))
