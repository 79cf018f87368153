"""Rows of files of every kind, whole and broken."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tunekit.data import entry, json_text
from tunekit.data.encoding import encoding_of
from tunekit.data.read import Entry, files_in, look_into
from tunekit.errors import Exit, TunekitError

ROWS: list[dict[str, Any]] = [{"query": f"什么是 {number}?", "response": "好的，" * 9} for number in range(3)]
LINES = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in ROWS)
NAMES = ("a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt", "a.parquet", "a.arrow", "a.jsonl.gz", "a.csv.gz")


def table(delimiter: str = ",") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue()


def entries(name: str, content: bytes | str) -> list[Entry]:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(look_into(Path(name)).entries())


def rows_of(name: str, content: bytes | str) -> list[dict[str, Any] | None]:
    return [one.row for one in entries(name, content)]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", LINES.encode(), ""),
        ("a.jsonl", LINES.replace("\n", "\r\n").encode(), ""),
        ("a.jsonl", LINES.replace("\n", "\r").encode(), ""),
        ("a.jsonl", LINES.encode("utf-8-sig"), ""),
        ("a.jsonl", LINES.encode("utf-16"), "it is UTF-16"),
        ("a.jsonl", LINES.encode("utf-16-le"), "it is UTF-16"),
        ("a.jsonl", LINES.encode("utf-16-be"), "it is UTF-16"),
        ("a.jsonl", LINES.encode("utf-32"), "it is UTF-32"),
        ("a.jsonl", LINES.encode("gbk"), "it is GBK"),
        ("a.jsonl.gz", gzip.compress(LINES.encode()), "no .gz"),
        ("a.json", json.dumps(ROWS).encode(), ""),
        ("a.json", json.dumps(ROWS, indent=2).encode(), ""),
        ("a.json", json.dumps(ROWS, ensure_ascii=False).encode("gbk"), "it is GBK"),
        ("a.json", f"\n{json.dumps(ROWS)}".encode(), "before its first ["),
        ("a.json", json.dumps({"version": 2, "data": ROWS}, indent=2).encode(), 'stand under "data"'),
        ("a.json", json.dumps({"version": 2, "data": ROWS, "end": {}}).encode(), 'stand under "data"'),
        ("a.json", "\n".join(json.dumps(row, indent=1) for row in ROWS).encode(), ""),
        ("a.csv", table().encode(), ""),
        ("a.csv", table(";").encode(), "separated by"),
        ("a.csv", table().encode("gbk"), "it is GBK"),
        ("a.csv", table().encode("utf-16"), "it is UTF-16"),
        ("a.csv", table().encode("utf-8-sig"), ""),
        ("a.tsv", table("\t").encode(), "no .tsv"),
        ("a.csv.gz", gzip.compress(table().encode()), "no .gz"),
    ],
)
def test_the_same_rows_of_every_kind(name: str, content: bytes, problem: str) -> None:
    assert rows_of(name, content) == ROWS
    source = look_into(Path(name))
    assert not problem or problem in source.problems[0]
    assert len(source.problems) == bool(problem)
    assert not source.empty


def test_rows_of_parquet_and_arrow() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    found = pyarrow.Table.from_pylist(ROWS * 300)
    parquet.write_table(found, "a.parquet")
    for kind in ("new_stream", "new_file"):
        with getattr(pyarrow.ipc, kind)("a.arrow", found.schema) as writer:
            writer.write_table(found)
        for name in ("a.parquet", "a.arrow"):
            assert [one.row for one in look_into(Path(name)).entries()] == ROWS * 300
    for name in ("a.parquet", "a.arrow"):
        (only,) = entries(name, Path(name).read_bytes()[:200])
        assert "cannot be read" in only.fault


@pytest.mark.parametrize(
    ("name", "content", "faults"),
    [
        ("a.jsonl", '{"a": 1}\n{oops\n\n[1]\n"x"\nnull\n{"a": 2}', ["", "not JSON", *["must be an object"] * 3, ""]),
        ("a.jsonl", b'{"a": "\0"}\n\0\0\0\n{"a": "\x01"}', ["zero bytes", "not JSON", "control characters"]),
        ("a.jsonl", r'{"a": "\ud83d"}', ["half a character"]),
        (
            "a.jsonl",
            '{"a": "你"}\n'.encode() * 3 + b'{"a": "\xe4\xbd"}\n{"a": "\xc4\xe3\xba\xc3"}\n{"a": "caf\xe9"}',
            ["", "", "", "broke", "GBK", "Windows-1252"],
        ),
        ("a.jsonl", '{"a":' * 5000, ["nested too deep"]),
        ("a.json", '[{"a": 1}, {"a": }, {"a": 3} {"a": 4}, 5]', ["", "not JSON", "", "no comma", "must be an object"]),
        ("a.json", '[{"a": 1}, {"a": 2}', ["", "", "the list has no end"]),
        ("a.json", '[{"a": 1}] {"a": 2}', ["", "behind the end"]),
        ("a.json", '{"x": [{"a": 1}], "y": [{"a": 2}]}', ["", 'under "y", not under "x"']),
        ("a.csv", "a,b\n1,2,3\n1\n1,2\n", ["more fields", "", ""]),
        ("a.csv", 'a,b\n1,2\n3,"4\n5,6\n', ["", "never closed"]),
        ("a.txt", "größer\n\n".encode() + b"gro\xdfer\n", ["", "Windows-1252"]),
        ("a.jsonl.gz", gzip.compress(LINES.encode())[:-9], ["", "", "", "cut off"]),
    ],
)
def test_what_is_broken_is_said_and_the_rest_is_read(name: str, content: bytes | str, faults: list[str]) -> None:
    found = entries(name, content)
    assert len(found) == len(faults)
    for one, fault in zip(found, faults, strict=True):
        assert (fault in one.fault) if fault else not one.fault
        assert one.row is not None or one.fault


def test_lines_without_an_end_are_given_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "LONGEST", 10)
    found = entries("a.jsonl", b'{"a":"' + b"x" * 30 + b'"}\n{"a":1}')
    assert [one.number for one in found] == [1, 1, 1, 1, 2]
    assert b"".join(one.raw for one in found[:4] if isinstance(one.raw, bytes)) == b'{"a":"' + b"x" * 30 + b'"}\n'
    assert found[-1].row == {"a": 1}


def test_lists_of_any_spacing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "PIECE", 3)
    rows = [{"a": "ä" * number, "b": [number, {"c": None}]} for number in range(20)]
    for text in (json.dumps(rows, indent=2), json.dumps(rows, separators=(",", ":")), f"\n \n{json.dumps(rows)}\n "):
        assert rows_of("a.json", text) == rows


def test_a_broken_row_of_a_list_does_not_take_the_next_ones_with_it() -> None:
    text = json.dumps([{"messages": [{"role": "user", "content": str(n)}, {"role": "assistant"}]} for n in range(9)])
    found = entries("a.json", text.replace('"3"', '"3', 1))
    assert [bool(one.fault) for one in found] == [number == 3 for number in range(9)]
    assert isinstance(found[3].raw, str)
    assert '"content": "3}' in found[3].raw


def test_files_of_folders_and_kinds() -> None:
    for name in ("d/b.jsonl", "d/sub/a.csv.gz", "d/.hidden/x.jsonl", "d/readme.md", "d/c.parquet.gz"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert [str(path) for path in files_in(Path("d"))] == ["d/b.jsonl", "d/sub/a.csv.gz"]
    with pytest.raises(TunekitError, match="unknown kind of file") as raised:
        look_into(Path("d/readme.md"))
    assert raised.value.code == Exit.DATA
    assert look_into(Path("d/b.jsonl")).empty


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("你好，世界", "gb18030"), ("café, naïve, größer", "cp1252"), ("plain", "utf-8"), ("Grüße", "utf-8")],
)
def test_encodings_are_told_apart(text: str, encoding: str) -> None:
    assert encoding_of(text.encode(encoding)) == encoding


def is_packed(path: Path) -> bool:
    """Whether a .gz is one; look_into says it of the others."""
    if path.suffix == ".gz" and path.read_bytes()[:2] != b"\x1f\x8b" and path.stat().st_size:
        with pytest.raises(TunekitError, match="is no gzip file"):
            look_into(path)
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(NAMES), st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
@example("a.json", b'{"a":[{')
@example("a.csv", b'"')
def test_no_bytes_are_too_strange(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") and content[:1] > b"\x40" else content)
        found = list(look_into(path).entries()) if is_packed(path) else []
        assert all(one.row is not None or one.fault for one in found)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), JSON, min_size=1, max_size=4),
        min_size=2,
        max_size=5,
    ),
    st.sampled_from((None, 1)),
    st.booleans(),
)
def test_what_was_written_is_read(rows: list[dict[str, Any]], indent: int | None, plain: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (
            ("a.jsonl", "".join(f"{json.dumps(row, ensure_ascii=plain)}\n" for row in rows)),
            ("a.json", json.dumps(rows, ensure_ascii=plain, indent=indent)),
        ):
            path = Path(folder, name)
            path.write_text(text, encoding="utf-8", newline="")
            assert [(one.row, one.fault) for one in look_into(path).entries()] == [(row, "") for row in rows]
