"""``--fix``: what is written anew, what is left out, and that nothing is lost between the two."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import make_rows

from tunekit.data.mend import mend_files
from tunekit.data.read import look_into
from tunekit.data.survey import check_dataset
from tunekit.errors import TunekitError

GOOD = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
OUT, LEFT = Path("out.jsonl"), Path("out.left.jsonl")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def mended(content: bytes, name: str = "a.jsonl", stage: str = "") -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    Path(name).write_bytes(content)
    mend_files(check_dataset([name], stage=stage), OUT)
    return lines(OUT), lines(LEFT)


def test_good_rows_stay_as_they_are_written() -> None:
    text = '{"messages":  [{"role":"user","content":"\\u4f60"}, {"role": "assistant", "content": "1e2"}], "id": 1.50}\n'
    Path("a.jsonl").write_text(text)
    mend_files(check_dataset(["a.jsonl"]), OUT)
    assert OUT.read_text() == text
    assert LEFT.read_text() == ""


def test_what_is_left_out_says_why_and_all_of_it() -> None:
    user = {"messages": [{"role": "user", "content": "Hi"}]}
    good = json.dumps(GOOD).encode()
    kept, left = mended(b"\n".join([good, b'{"oops', json.dumps(user).encode(), good, b"\xff\xfe\xfd"]), stage="sft")
    assert kept == [GOOD]
    assert [(one["number"], one["file"]) for one in left] == [(number, "a.jsonl") for number in (2, 3, 4, 5)]
    assert left[0]["text"] == '{"oops'
    assert left[1]["row"] == user
    assert "ends with a turn of user" in left[1]["why"]
    assert left[2]["why"] == "it says what line 1 says"
    assert base64.b64decode(left[3]["base64"]) == b"\xff\xfe\xfd"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (json.dumps(GOOD).encode("utf-16"), "a.jsonl"),
        (json.dumps({"data": [GOOD]}).encode(), "a.json"),
        (
            json.dumps({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}),
            "a.json",
        ),
        (json.dumps(GOOD).replace("Hi", "Hi\0").encode(), "a.jsonl"),
    ],
)
def test_what_is_mended_is_clean(content: bytes | str, name: str) -> None:
    kept, left = mended(content if isinstance(content, bytes) else content.encode(), name)
    assert len(kept) == 1
    assert not left
    assert not check_dataset(["out.jsonl"]).errors


def test_text_that_was_read_wrongly_is_set_right() -> None:
    row = json.loads(json.dumps(GOOD).replace("Hello", "café, naïve “so”").replace("Hi", "你好吗"))
    spoilt = json.loads(json.dumps(row))
    for turn in spoilt["messages"]:
        turn["content"] = (
            turn["content"].encode().decode("cp1252", "surrogateescape").encode("utf-8", "replace").decode()
        )
    spoilt["messages"][0]["content"] = row["messages"][0]["content"]
    kept, left = mended(json.dumps(spoilt).encode())
    assert not left
    assert kept == [row] or "?" in json.dumps(spoilt), "what Windows-1252 has no character for is lost before"


def test_pairs_of_another_shape_become_rows_of_the_stage() -> None:
    turns = [{"from": "human", "value": "Hi"}]
    row = {"conversations": turns, "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}
    kept, left = mended(json.dumps(row).encode())
    assert not left
    assert kept[0]["rejected_response"] == "b"
    assert kept[0]["messages"][-1] == {"role": "assistant", "content": "a"}


def test_several_files_go_into_a_folder_and_nothing_is_overwritten() -> None:
    for name in ("a.jsonl", "b/a.jsonl"):
        Path(name).parent.mkdir(exist_ok=True)
        make_rows(Path(name), GOOD if name == "a.jsonl" else {**GOOD, "system": "x"})
    done = check_dataset(["a.jsonl", "b"])
    mend_files(done, Path("out"))
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "a-2.jsonl",
        "a-2.left.jsonl",
        "a.jsonl",
        "a.left.jsonl",
    ]
    with pytest.raises(TunekitError, match="is there already"):
        mend_files(done, Path("out"))
    with pytest.raises(TunekitError, match="written as JSON lines"):
        mend_files(check_dataset(["a.jsonl"]), Path("x.csv"))


LINE = st.one_of(
    st.just(json.dumps(GOOD).encode()),
    st.binary(max_size=40).filter(lambda line: b"\n" not in line and b"\r" not in line),
    st.sampled_from(("messages", "query", "chosen", "label")).flatmap(
        lambda name: st.builds(
            lambda value: json.dumps({name: value, "response": "x"}).encode(),
            st.none() | st.text(max_size=5) | st.just(GOOD["messages"]),
        )
    ),
    st.builds(
        lambda text: json.dumps({"query": text, "response": text}, ensure_ascii=False).encode("gbk", "replace"),
        st.sampled_from(("你好", "Hi", "好的，谢谢")),
    ),
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(LINE, min_size=1, max_size=8),
    st.sampled_from(("a.jsonl", "a.txt", "a.json", "a.csv")),
    st.sampled_from(("", "sft", "dpo", "kto", "grpo", "pt")),
)
def test_no_row_is_lost(content: list[bytes], name: str, stage: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder, name), Path(folder, "out.jsonl")
        path.write_bytes(b"\n".join(content))
        entries = list(look_into(path).entries())
        (done,) = mend_files(check_dataset([str(path)], stage=stage), out)
        kept, left = lines(out), lines(out.with_suffix(".left.jsonl"))
        assert (len(kept), len(left)) == (done.kept, sum(done.left.values()))
        numbers = {one["number"] for one in left}
        rest = [entry for entry in entries if entry.number not in numbers]
        assert len(kept) >= len(rest), "a row of two answers may become two of KTO"
        assert len(rest) + len(left) == len(entries)
        assert all(entry.row is not None for entry in rest)
        for one in left:
            entry = next(entry for entry in entries if entry.number == one["number"])
            assert one["why"]
            whole = one.get("row") == entry.row if entry.row is not None else ("text" in one or "base64" in one)
            assert whole
