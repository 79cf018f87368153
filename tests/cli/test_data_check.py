"""``tunekit data check`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from running import call, make_rows

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
OPEN = {"messages": [{"role": "user", "content": "Hi"}]}


def check(*words: str) -> Any:
    return call("data", "check", *words)


def rows(*found: dict[str, Any], name: str = "a.jsonl") -> str:
    return str(make_rows(Path(name), *found))


def test_clean_rows() -> None:
    done = check(rows(CHAT, {**CHAT, "messages": [*CHAT["messages"], *CHAT["messages"]]}))
    assert done.code == 0
    assert "2 rows · conversation · 3.0 turns" in done.err
    assert "judged for sft, which they suit" in done.err
    assert "nothing is wrong" in done.err
    assert done.out == ""


def test_bad_rows_are_named_and_the_exit_code_is_4() -> None:
    done = check(
        rows(*[{**CHAT, "system": str(number)} for number in range(30)], OPEN, {**OPEN, "system": "x"}),
        "--stage",
        "sft",
    )
    assert done.code == 4
    assert "ends with a turn of user: sft has nothing to learn from it (lines 31, 32)" in " ".join(done.err.split())
    assert "2 of 32 rows will not do: tunekit starts no run with so many" in " ".join(done.err.split())
    assert "--fix OUT.jsonl" in done.err


def test_json() -> None:
    done = check(rows(CHAT, OPEN), "--stage", "finetune", "--json")
    document = json.loads(done.out)
    assert (done.code, document["rows"], document["bad"], document["stage"]) == (4, 2, 1, "sft")
    (found,) = document["findings"]
    assert found["first"] == [{"file": "a.jsonl", "number": 2}]
    assert (found["level"], found["kind"], found["rows"]) == ("error", "row", 1)


def test_fix() -> None:
    done = check(rows(CHAT, OPEN), "--fix", "good.jsonl", "--stage", "sft")
    assert done.code == 0
    assert "wrote good.jsonl: 1 row" in done.err
    assert "wrote good.left.jsonl: 1 left out" in done.err
    assert check("good.jsonl").code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("absent.jsonl",), 4, "does not exist"),
        (("a.jsonl", "--stage", "stf"), 2, "did you mean sft"),
        (("a.jsonl", "--fix", "a.csv"), 2, "written as JSON lines"),
        (("notes.md",), 4, "unknown kind of file"),
        ((), 2, "FILE"),
    ],
)
def test_what_cannot_be_checked(words: tuple[str, ...], code: int, said: str) -> None:
    rows(CHAT)
    Path("notes.md").touch()
    done = check(*words)
    assert done.code == code
    assert said in done.err


def test_tokens_that_cannot_be_counted_are_said() -> None:
    done = check(rows(CHAT), "--model", "Qwen2.5-7B", "--max-length", "100")
    assert done.code == 0
    assert "tokens were not counted:" in done.err
