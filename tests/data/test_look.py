"""What is seen of a file in one look, and what that costs."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import pytest
from running import make_rows

from tunekit.data import entry, look
from tunekit.data.files import local_file, shown
from tunekit.data.look import first_rows, look_at
from tunekit.data.parquet import parquet_shape
from tunekit.data.read import look_into
from tunekit.data.sound import read_rows
from tunekit.errors import Exit, TunekitError
from tunekit.stages import STAGES

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
SFT = STAGES["sft"]
FOOTER = bytes.fromhex("1504193c4806736368656d6115040015042502180161001504250218016200160e")
"""FileMetaData of a table with the columns a and b and 7 rows, up to the number of rows."""


def seen(name: str, stage: str = "sft") -> look.Survey:
    found = look_at(name, STAGES[stage].rows, STAGES[stage])
    assert found
    return found


def parquet(path: Path, footer: bytes = FOOTER) -> Path:
    path.write_bytes(b"PAR1" + footer + b"\x00" + (len(footer) + 1).to_bytes(4, "little") + b"PAR1")
    return path


def test_all_rows_of_a_small_file_are_counted() -> None:
    Path("a.jsonl").write_text(f"{json.dumps(CHAT)}\n\n{json.dumps(CHAT)}", encoding="utf-8")
    found = seen("a.jsonl")
    assert (found.total, found.exact, found.looked, found.bad) == (2, True, 2, 0)
    assert found.seen() == "2 rows"


def test_of_a_large_file_a_part_is_looked_at_and_all_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "READ_WHOLE", 4000)
    monkeypatch.setattr(look, "SPREAD", 100)
    bad = {"dialog": "x" * 80}
    rows = [CHAT] * 4000 + [bad] * 1000
    found = seen(str(make_rows(Path("a.jsonl"), *rows)))
    assert (found.total, found.exact) == (5000, True)
    assert found.looked < 400
    assert found.first
    assert 4000 < found.first.line < 4200, "the line is that of the file"
    assert json.loads(Path("a.jsonl").read_text().splitlines()[found.first.line - 1]) == bad
    assert f"of {found.looked} rows looked at, of 5,000 will not do)" in found.in_words()


@pytest.mark.parametrize("name", ["a.json", "a.csv"])
def test_what_cannot_be_counted_is_reckoned(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "READ_WHOLE", 4000)
    table = "query,response\n" + "Hi,Hello\n" * 9000
    Path(name).write_text(json.dumps([CHAT] * 9000) if name == "a.json" else table, encoding="utf-8")
    found = seen(name)
    assert not found.exact
    assert found.total
    assert 8000 < found.total < 10_000


def test_a_large_array_takes_little_memory() -> None:
    text = json.dumps({"messages": [{"role": "user", "content": "x" * 1000}, CHAT["messages"][1]]})
    with Path("a.json").open("w", encoding="utf-8") as file:
        file.write("[" + ",\n".join([text] * 20_000) + "]")
    tracemalloc.start()
    assert len(list(read_rows(Path("a.json")))) == 20
    assert seen("a.json").looked > 3000
    assert sum(1 for _ in look_into(Path("a.json")).entries()) == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2**20 < Path("a.json").stat().st_size


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"a": 1} {"b": 2}]', "row 2: not JSON: there is no comma before it"),
        ('[{"a": 1}', "row 2: not JSON: the list has no end"),
        ('[{"a": 1}, {"b": "never', "row 2: not JSON: Unterminated string"),
        ('[{"a": 1}, [2]]', "row 2: must be an object, not a list"),
        ("[" * 5000, "row 1: not JSON: it is nested too deep"),
        ('[{"a": ' + "1" * 5000 + "}]", "row 1: not JSON: "),
    ],
)
def test_arrays_that_are_broken(text: str, said: str) -> None:
    Path("a.json").write_text(text, encoding="utf-8")
    with pytest.raises(TunekitError) as raised:
        list(read_rows(Path("a.json")))
    assert said in raised.value.message
    assert raised.value.code == Exit.DATA


def test_deep_rows_and_lines_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.jsonl").write_text('{"a": ' * 5000, encoding="utf-8")
    with pytest.raises(TunekitError, match="line 1: not JSON: it is nested too deep"):
        seen("a.jsonl")
    monkeypatch.setattr(entry, "LONGEST", 100)
    Path("b.jsonl").write_text(json.dumps({"a": "x" * 200}), encoding="utf-8")
    with pytest.raises(TunekitError, match="line 1: longer than"):
        list(read_rows(Path("b.jsonl")))


def test_pipes_devices_and_names_that_cannot_be() -> None:
    os.mkfifo("pipe.jsonl")
    for name in ("pipe.jsonl", "/dev/zero"):
        with pytest.raises(TunekitError, match="a pipe or a device") as raised:
            local_file(name)
        assert raised.value.code == Exit.DATA
    for name in ("~nouser/x.jsonl", "a" * 300 + ".jsonl", "a\0b.jsonl"):
        with pytest.raises(TunekitError) as raised:
            local_file(name)
        assert raised.value.code == Exit.DATA
        assert "\0" not in raised.value.message


def test_nothing_of_a_file_steers_the_terminal() -> None:
    assert shown("a\x1b[2J\n\u202eb") == r"a\x1b[2J\x0a\x202eb"
    assert shown("x" * 99, 5) == "xxxxx…"
    Path("a.jsonl").write_text(json.dumps("\x1b[2J"), encoding="utf-8")
    with pytest.raises(TunekitError) as raised:
        seen("a.jsonl")
    assert "\x1b" not in raised.value.message


def test_what_rows_have_in_common() -> None:
    turns = CHAT["messages"]
    thought = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello"}
    empty = {"role": "assistant", "content": "<think>\n\n</think>\n\nHello"}
    rows = [
        {"messages": [turns[0], thought]},
        {"messages": [turns[0], empty]},
        {"messages": [turns[1]]},
        {"messages": [turns[0], {"role": "tool_call", "content": "{}"}]},
        {"messages": turns, "tools": "[]"},
        {"messages": [{"role": "user", "content": "<image>"}, turns[1]], "images": [__file__, __file__]},
    ]
    found = seen(str(make_rows(Path("a.jsonl"), *rows)))
    assert (found.answers, found.thinks, found.unasked, found.tools) == (6, 1, 1, 2)
    assert (found.pictures, found.fewer) == (1, 1)
    labelled = seen(str(make_rows(Path("k.jsonl"), {**CHAT, "label": True}, {**CHAT, "label": 0})), "kto")
    assert labelled.labels == {True, False}


def test_a_parquet_file_by_its_footer() -> None:
    assert parquet_shape(parquet(Path("a.parquet"))) == (["a", "b"], 7)
    with pytest.raises(TunekitError, match=r"a\.parquet: there is neither .* among a, b"):
        look.check_datasets(["a.parquet"], SFT, SFT.rows)
    assert list(first_rows(Path("a.parquet"))[0]) == ["a", "b"]
    good = FOOTER.replace(b"\x01a", b"\x05query").replace(b"\x01b", b"\x06answer")
    parquet(Path("b.parquet"), good)
    assert seen("b.parquet").total == 7


@pytest.mark.parametrize("cut", range(1, len(FOOTER), 7))
def test_a_parquet_file_that_is_damaged(cut: int) -> None:
    with pytest.raises(TunekitError, match="is no Parquet file"):
        parquet_shape(parquet(Path("a.parquet"), FOOTER[:cut]))
