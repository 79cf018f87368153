"""What is found in every row of a dataset, where it stands, and what is not."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import make_rows

from tunekit.data import checking
from tunekit.data.findings import GROUPS, PLACES, Finding, Findings
from tunekit.data.survey import DatasetCheck, check_dataset, stages_for
from tunekit.errors import Exit, TunekitError
from tunekit.stages import STAGES

USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
SYSTEM = {"role": "system", "content": "Be kind"}


def chat(number: int, *turns: dict[str, Any], **columns: Any) -> dict[str, Any]:
    asked = {"role": "user", "content": f"What is {number}?"}
    return {"messages": list(turns) or [asked, ASSISTANT], **columns}


def checked(*rows: dict[str, Any], name: str = "a.jsonl", stage: str = "") -> DatasetCheck:
    return check_dataset([str(make_rows(Path(name), *rows))], stage=stage)


def found(done: DatasetCheck) -> dict[str, Finding]:
    return {one.problem: one for one in done.findings.all()}


def only(done: DatasetCheck) -> Finding:
    (one,) = done.findings.all()
    return one


def test_good_rows_have_nothing() -> None:
    done = checked(*[chat(number) for number in range(30)])
    assert not len(done.findings)
    assert (done.rows, done.bad, done.stage, done.suits[0], done.shape) == (30, 0, "sft", "sft", "conversation")


@pytest.mark.parametrize(
    ("row", "kind", "said"),
    [
        (chat(0, USER), "row", "ends with a turn of user"),
        (chat(0, USER, {"role": "assistant", "content": ""}), "row", "message 2 has no content"),
        (chat(0, {"role": "assistant", "content": "x"}, SYSTEM, ASSISTANT), "row", "a system prompt stands in turn 2"),
        (chat(0, USER, USER, ASSISTANT), "order", "turns 1 and 2 are both of the user"),
        (
            {"conversations": [{"from": "human", "value": "a"}] * 2 + [{"from": "gpt", "value": "b"}]},
            "order",
            "both of",
        ),
        (chat(0, images=["absent.png"]), "picture", "the image absent.png does not exist"),
        (chat(0, images=["broken.png"]), "picture", "the image broken.png cannot be read"),
        (chat(0, {"role": "user", "content": "<image><image>"}, ASSISTANT, images=["ok.png"]), "picture", "2 <image>"),
        (chat(0, {"role": "user", "content": "<image>"}, ASSISTANT, images=["ok.png"] * 2), "order", "1 <image> and 2"),
        (chat(0, {"role": "user", "content": "<image>?"}, ASSISTANT), "order", "no image: it is learned as a word"),
        (chat(0, USER, {"role": "assistant", "content": "cafÃ© â€œxâ€"}), "damaged", "read as Windows-1252"),
        (chat(0, USER, {"role": "assistant", "content": "a\ufffdb"}), "damaged", "replacement characters"),
        (chat(0, USER, {"role": "assistant", "content": "sk-" + "a1" * 20}), "key", "an API key (sk-…)"),
        (chat(0, source="web", lang="en"), "column", 'the column "source" is not used'),
        (chat(0, rejected_response="Go"), "row", "there is a rejected answer"),
        ({"query": "Hi", "response": "Hello"}, "row", "it has no conversation, and other rows"),
    ],
)
def test_what_is_found_in_a_row(row: dict[str, Any], kind: str, said: str) -> None:
    pytest.importorskip("PIL.Image").new("RGB", (9, 9)).save("ok.png")
    Path("broken.png").write_bytes(Path("ok.png").read_bytes()[:50])
    done = checked(*[chat(number) for number in range(1, 10)], row, stage="sft")
    one = next(one for one in done.findings.all() if one.kind == kind)
    assert said in one.problem
    assert one.count == 1
    assert kind == "column" or one.places == [("a.jsonl", 10)]
    assert bool(done.errors) == (kind in ("row", "picture"))
    assert done.bad == bool(done.errors)
    assert done.too_many == bool(done.errors), "one of ten is more than 5 %"


def test_a_secret_is_not_shown() -> None:
    secret = "hf_" + "aB3" * 12
    done = checked(chat(0, USER, {"role": "assistant", "content": f"use {secret}."}), chat(1))
    assert "hf_aB3…" in only(done).problem
    assert secret not in json.dumps([one.to_json() for one in done.findings.all()])


def test_words_that_look_like_keys_at_first_are_none() -> None:
    text = "a task-specific risk-free disk-usage hf_hub sk-learn AKIA github_pat_ xoxo"
    assert not len(checked(chat(0, USER, {"role": "assistant", "content": text}), chat(1)).findings)


def test_rows_that_stand_twice_and_in_both_files() -> None:
    rows = [chat(number) for number in range(20)]
    make_rows(Path("train.jsonl"), *rows, {**rows[3], "id": 7}, rows[4])
    Path("val.json").write_text(json.dumps([rows[5], chat(99)]))
    done = check_dataset(["train.jsonl", "val.json"])
    twice, shared = found(done)["it says what an earlier row says"], done.findings.all()[-1]
    assert (twice.count, twice.places) == (2, [("train.jsonl", 21), ("train.jsonl", 22)])
    assert shared.kind == "shared"
    assert "val.json too" in shared.problem
    assert shared.places == [("train.jsonl", 6)], "it is left out of the training, not of the test"
    assert done.repeated == {0: {21: (0, 4), 22: (0, 5), 6: (1, 1)}}
    named = check_dataset(["train.jsonl"], ["val.json"])
    assert named.validation == {1}


def test_a_file_that_ms_swift_cannot_read_as_it_stands() -> None:
    text = "".join(f"{json.dumps(chat(number))}\n" for number in range(5))
    Path("a.jsonl.gz").write_bytes(gzip.compress(text.encode("utf-16")))
    done = check_dataset(["a.jsonl.gz"])
    assert done.rows == 5
    assert [one.problem for one in done.errors] == ["ms-swift reads no .gz", "it is UTF-16, and ms-swift reads UTF-8"]
    assert done.bad == 0, "the rows themselves are fine"


@pytest.mark.parametrize("content", [b"", b"\n\n", b"[]", b"\xef\xbb\xbf"])
def test_empty_files(content: bytes) -> None:
    Path("a.json").write_bytes(content)
    assert only(check_dataset(["a.json"])).problem == "there is no row in it"


def test_pairs_are_judged_as_pairs_whatever_their_columns() -> None:
    done = checked(
        {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"}, {"prompt": "A", "chosen": "B", "rejected": "B"}
    )
    assert (done.stage, done.columns) == ("dpo", {"chosen": "response", "rejected": "rejected_response"})
    assert "are the same" in only(done).problem
    objects = {"prompt": "Hi", "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}
    done = checked(objects, name="b.jsonl")
    assert done.stage == "dpo"
    assert any("tunekit data convert" in one.problem for one in done.errors)


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_the_example_of_a_stage_is_fine_for_it(stage: str) -> None:
    row = json.loads(STAGES[stage].rows.example.partition(" or ")[0])
    assert not checked(row, stage=stage).errors
    assert stage in stages_for([row]) or not STAGES[stage].suggested


def test_columns_of_one_name_are_both_lost() -> None:
    done = checked({"question": "Hi", "prompt": "Ho", "answer": "x"}, stage="sft")
    assert "question and prompt may each be the question" in only(done).problem
    assert not checked({"query": "Hi", "prompt": "Ho", "response": "x", "answer": "y"}, stage="sft").errors


def test_files_that_are_not_there() -> None:
    for name in ("absent.jsonl", "some/dataset", "empty"):
        Path("empty").mkdir(exist_ok=True)
        with pytest.raises(TunekitError) as raised:
            check_dataset([name])
        assert raised.value.code == Exit.DATA


def test_parts_of_a_file_are_checked_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, Any]] = [chat(number) for number in range(300)]
    rows[40], rows[200], rows[299] = chat(0, USER), chat(0, USER), rows[7]
    text = "".join(f"{json.dumps(row)}\n{'' if number % 3 else chr(10)}" for number, row in enumerate(rows))
    Path("a.jsonl").write_text(text + "{oops")
    alone = check_dataset(["a.jsonl"])
    monkeypatch.setattr(checking, "PART", 1000)
    monkeypatch.setattr(checking, "SHARED_OUT", 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    shared = check_dataset(["a.jsonl"])
    assert [one.to_json() for one in shared.findings.all()] == [one.to_json() for one in alone.findings.all()]
    assert (
        (shared.rows, shared.bad, shared.repeated)
        == (alone.rows, alone.bad, alone.repeated)
        == (301, 3, alone.repeated)
    )
    assert len(alone.repeated[0]) == 2
    assert shared.files[0].columns == alone.files[0].columns


def test_findings_are_bounded() -> None:
    noise = Findings()
    for number in range(500):
        noise.add("row", f"{chr(1000 + number)} is wrong", "a", number + 1)
    assert len(noise) <= GROUPS + 1
    assert sum(one.count for one in noise.all()) == 500
    assert all(len(one.places) <= PLACES for one in noise.all())


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(("a.jsonl", "a.json", "a.csv", "a.txt")), st.lists(st.binary(max_size=60), max_size=6))
def test_no_bytes_stop_a_check(name: str, lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(b"\n".join(lines))
        done = check_dataset([str(path)])
        assert done.bad <= done.rows
        assert bool(done.rows) or done.errors


CELLS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from(("", "Hi", "user", "assistant", "<image>", "x.png")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("role", "content", "from", "value", "type", "image", "path")), inner, max_size=3
        )
    ),
    max_leaves=8,
)
COLUMNS = st.sampled_from(
    (
        "messages",
        "conversations",
        "query",
        "prompt",
        "response",
        "chosen",
        "rejected",
        "label",
        "images",
        "tools",
        "rejected_response",
        "positive_messages",
        "system",
        "history",
        "text",
        "instruction",
        "input",
        "id",
        "x",
    )
)


@settings(max_examples=250, deadline=None)
@given(st.lists(st.dictionaries(COLUMNS, CELLS, max_size=4), min_size=1, max_size=4), st.sampled_from(("", *STAGES)))
def test_no_row_stops_a_check(rows: list[dict[str, Any]], stage: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        done = check_dataset([str(make_rows(Path(folder, "a.jsonl"), *rows))], stage=stage)
        assert done.rows == len(rows)
