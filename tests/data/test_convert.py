"""Files of rows become files of a stage: whole or not at all, chosen as asked, and nothing is lost."""

import gzip
import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenized import make_tokenized

from tunekit.data.cells import columns_named
from tunekit.data.conversion import Conversion
from tunekit.data.convert import Share, convert_rows
from tunekit.data.findings import ERROR
from tunekit.data.lengths import Question, measure_rows
from tunekit.data.stage_rows import SHAPES_BY_NAME, target_named
from tunekit.data.survey import check_dataset
from tunekit.errors import Exit, TunekitError
from tunekit.stages import STAGES

Q, A, W = "What is AI?", "A field.", "No idea."
TURNS = [{"role": "user", "content": Q}, {"role": "assistant", "content": A}]


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def asked(*files, to="sft", **more):
    return Conversion(tuple(files), Path("out.jsonl"), to, **more)


def numbered(path, count, start=0):
    return write(path, *({"prompt": f"q{number}", "response": "a"} for number in range(start, start + count)))


def questions(path):
    return [row["messages"][0]["content"] for row in read(path)]


def test_rows_of_several_shapes_and_files(tmp_path):
    first = write(tmp_path / "a.jsonl", {"instruction": Q, "output": A, "id": 7}, {"messages": TURNS})
    second = tmp_path / "b.csv"
    second.write_text(f"query,response\n{Q},{A}\n", encoding="utf-8")
    third = tmp_path / "c.json"
    third.write_text(
        json.dumps({"data": [{"conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": A}]}]}),
        encoding="utf-8",
    )
    fourth = tmp_path / "d.jsonl.gz"
    fourth.write_bytes(gzip.compress(json.dumps({"question": Q, "answer": A}).encode()))
    done = convert_rows(asked(first, second, third, fourth))
    assert read("out.jsonl") == [{"messages": TURNS}] * 5
    assert (done.rows, done.written, done.left) == (5, 5, {})
    assert done.dropped == {"id": 1}
    assert sorted(path.name for path in Path().iterdir()) == ["a.jsonl", "b.csv", "c.json", "d.jsonl.gz", "out.jsonl"]


def test_what_cannot_be_converted_stands_beside_with_why(tmp_path):
    data = tmp_path / "a.jsonl"
    lines = [json.dumps({"prompt": Q, "response": A}), "{broken", json.dumps({"id": 1}), json.dumps({"prompt": Q})]
    data.write_text("\n".join(lines), encoding="utf-8")
    done = convert_rows(asked(data))
    assert (done.rows, done.written) == (4, 1)
    left = read("out.left.jsonl")
    assert [row["number"] for row in left] == [2, 3, 4]
    assert left[0]["text"] == "{broken"
    assert "not JSON" in left[0]["why"]
    assert left[1]["row"] == {"id": 1}
    assert {one.number for one in done.left.values()} == {1}
    assert all(one.first.startswith(str(data)) for one in done.left.values())


def test_a_file_of_which_nothing_is_left(tmp_path):
    with pytest.raises(TunekitError, match=r"no row can be converted: .*a.jsonl line 1: dpo needs a rejected") as error:
        convert_rows(asked(numbered(tmp_path / "a.jsonl", 3), to="dpo"))
    assert error.value.code == Exit.DATA
    assert [path.name for path in Path().iterdir()] == ["a.jsonl"], "nothing half-written"


def test_an_interruption_leaves_nothing(tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_rows(asked(numbered(tmp_path / "a.jsonl", 2000)), stop)
    assert [path.name for path in Path().iterdir()] == ["a.jsonl"]


def test_a_killed_program_leaves_no_file_of_that_name(tmp_path):
    numbered(tmp_path / "a.jsonl", 200_000)
    code = """
    from pathlib import Path
    from tunekit.data.conversion import Conversion
    from tunekit.data.convert import convert_rows
    convert_rows(Conversion((Path("a.jsonl"),), Path("out.jsonl"), "sft"), lambda *_: print("rows", flush=True))
    """
    program = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, cwd=tmp_path)
    program.stdout.readline()
    program.send_signal(signal.SIGKILL)
    program.wait()
    assert not Path("out.jsonl").exists()


class TestWhich:
    def test_the_first_rows(self, tmp_path):
        done = convert_rows(asked(numbered(tmp_path / "a.jsonl", 30), numbered(tmp_path / "b.jsonl", 5, 30), most=7))
        assert questions("out.jsonl") == [f"q{number}" for number in (*range(7), *range(30, 35))]
        assert done.written == 12

    def test_any_rows_the_same_for_a_seed(self, tmp_path):
        data = numbered(tmp_path / "a.jsonl", 300)
        found = []
        for seed in (1, 1, 2):
            done = convert_rows(asked(data, most=40, at_random=True, seed=seed))
            assert (done.written, done.unused) == (40, 260)
            found.append(questions("out.jsonl"))
            Path("out.jsonl").unlink()
        assert found[0] == found[1] != found[2]
        assert len(set(found[0])) == 40
        assert found[0] != [f"q{number}" for number in range(40)]

    def test_a_share_of_each_file(self, tmp_path):
        convert_rows(asked(numbered(tmp_path / "a.jsonl", 100), numbered(tmp_path / "b.jsonl", 20, 100), ratio=0.25))
        found = [int(word[1:]) for word in questions("out.jsonl")]
        assert (sum(n < 100 for n in found), sum(n >= 100 for n in found)) == (25, 5)

    def test_a_split_of_each_source(self, tmp_path):
        data = [numbered(tmp_path / "a.jsonl", 100), numbered(tmp_path / "b.jsonl", 30, 100)]
        done = convert_rows(asked(*data, split=0.1))
        aside = [int(word[1:]) for word in questions("out.val.jsonl")]
        assert (sum(n < 100 for n in aside), sum(n >= 100 for n in aside)) == (10, 3)
        assert done.validation == 13
        assert sorted([*questions("out.jsonl"), *questions("out.val.jsonl")]) == sorted(f"q{n}" for n in range(130))

    def test_a_split_by_a_column(self, tmp_path):
        rows = [{"prompt": f"q{n}", "response": "a", "source": "web" if n % 4 else "book"} for n in range(80)]
        convert_rows(asked(write(tmp_path / "a.jsonl", *rows), split=0.1))
        aside = [int(word[1:]) for word in questions("out.val.jsonl")]
        assert (sum(n % 4 == 0 for n in aside), sum(n % 4 > 0 for n in aside)) == (2, 6)

    def test_both_rows_of_a_pair_stay_together(self, tmp_path):
        rows = [{"prompt": f"q{n}", "chosen": A, "rejected": W} for n in range(40)]
        convert_rows(asked(write(tmp_path / "a.jsonl", *rows), to="kto", split=0.25))
        aside = questions("out.val.jsonl")
        assert aside[::2] == aside[1::2]
        assert not set(aside) & set(questions("out.jsonl"))

    @given(st.floats(0, 1), st.integers(0, 400))
    def test_a_share_is_exact_to_one(self, share, count):
        found = Share(share, "x")
        taken = sum(found.takes() for _ in range(count))
        assert abs(taken - share * count) <= 1.01


class TestPictures:
    def picture(self, path):
        image = pytest.importorskip("PIL.Image")
        path.parent.mkdir(exist_ok=True)
        image.new("RGB", (4, 4), (9, 9, 9)).save(path)
        return path

    def test_a_root(self, tmp_path):
        self.picture(tmp_path / "images/a.png")
        data = write(tmp_path / "a.jsonl", {"image": "a.png", "prompt": Q, "response": A})
        convert_rows(asked(data, image_root="images"))
        assert read("out.jsonl")[0]["images"] == ["images/a.png"]

    def test_one_that_is_not_there(self, tmp_path):
        self.picture(tmp_path / "a.png")
        rows = [{"image": name, "prompt": Q, "response": A} for name in ("a.png", "b.png")]
        done = convert_rows(asked(write(tmp_path / "a.jsonl", *rows)))
        assert done.written == 1
        assert "b.png does not exist" in done.left["absent image"].why

    def test_bytes_become_files(self, tmp_path):
        arrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        content = self.picture(tmp_path / "a.png").read_bytes()
        rows = [{"image": {"bytes": content, "path": "a.png"}, "prompt": Q, "response": A}] * 2
        parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "a.parquet")
        convert_rows(asked(tmp_path / "a.parquet"))
        (first,), (second,) = (row["images"] for row in read("out.jsonl"))
        assert first == second
        assert Path(first).read_bytes() == content
        assert Path(first).parent == Path("out.images")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"ratio": 0.0}, "--data-ratio"),
        ({"ratio": 1.5}, "--data-ratio"),
        ({"split": 1.0}, "--split"),
        ({"most": 0}, "--max-samples"),
        ({"at_random": True}, "--random says which"),
    ],
)
def test_what_is_refused(tmp_path, more, why):
    with pytest.raises(TunekitError, match=why):
        convert_rows(asked(numbered(tmp_path / "a.jsonl", 3), **more))


def test_a_file_that_exists_is_not_replaced(tmp_path):
    data = numbered(tmp_path / "a.jsonl", 3)
    for name in ("out.jsonl", "out.val.jsonl", "out.left.jsonl"):
        Path(name).write_text("mine", encoding="utf-8")
        with pytest.raises(TunekitError, match=f"{name} exists already"):
            convert_rows(asked(data))
        assert Path(name).read_text(encoding="utf-8") == "mine"
        Path(name).unlink()
    with pytest.raises(TunekitError, match="JSON lines are written"):
        convert_rows(Conversion((data,), Path("out.csv"), "sft"))


def test_names():
    assert target_named("pretrain") == "pt"
    with pytest.raises(TunekitError, match=r"--to takes .*, not sfft") as error:
        target_named("sfft")
    assert error.value.hint == "did you mean sft?"
    assert columns_named("prompt=ask, response=reply,image=pic") == {
        "prompt": "ask",
        "response": "reply",
        "images": "pic",
    }
    for wrong in ("prompt", "what=x", "prompt="):
        with pytest.raises(TunekitError, match="nothing that a column can be"):
            columns_named(wrong)


def test_memory_does_not_grow_with_the_file(tmp_path):
    code = """
    import re, sys
    from pathlib import Path
    from tunekit.data.conversion import Conversion
    from tunekit.data.convert import convert_rows
    convert_rows(Conversion((Path(sys.argv[1]),), Path(sys.argv[2]), "sft", split=0.1, most=10**6, at_random=True))
    print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
    """
    peaks = []
    for count in (500, 40_000):
        data = write(tmp_path / f"{count}.jsonl", *[{"prompt": "x" * 1000, "response": "y"}] * count)
        words = [sys.executable, "-c", textwrap.dedent(code), data, f"out-{count}.jsonl"]
        peaks.append(int(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] - peaks[0] < 12, "MiB; the file has 40"


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ROWS = st.one_of(
    st.fixed_dictionaries({"prompt": WORDS, "response": WORDS}, optional={"system": WORDS, "input": WORDS}),
    st.fixed_dictionaries({"prompt": WORDS, "chosen": WORDS, "rejected": WORDS}),
    st.fixed_dictionaries({"prompt": WORDS, "completion": WORDS, "label": st.booleans()}),
    st.fixed_dictionaries({"text": WORDS}, optional={"label": st.integers(0, 3)}),
    st.fixed_dictionaries({"query": WORDS, "positive": WORDS, "negative": st.lists(WORDS, max_size=2)}),
    st.fixed_dictionaries(
        {
            "messages": st.lists(
                st.fixed_dictionaries(
                    {"role": st.sampled_from(["system", "user", "assistant", "x"]), "content": WORDS}
                ),
                max_size=4,
            )
        }
    ),
    st.dictionaries(WORDS, WORDS, max_size=2),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(rows=st.lists(ROWS, max_size=6), target=st.sampled_from(sorted(SHAPES_BY_NAME)))
def test_what_is_converted_is_clean_and_no_row_is_lost(tmp_path, rows, target):
    data, folder = write(tmp_path / "a.jsonl", *rows), tmp_path / f"out{time.monotonic_ns()}"
    folder.mkdir()
    try:
        done = convert_rows(Conversion((data,), folder / "out.jsonl", target))
    except TunekitError as error:
        refused = error
    else:
        refused = None
    if refused:
        assert refused.code == Exit.DATA
        assert not list(folder.iterdir())
        return
    made = read(folder / "out.jsonl")
    checked = check_dataset([str(folder / "out.jsonl")], (), target)
    assert not [one for one in checked.findings.all() if one.level == ERROR]
    left = sum(one.number for one in done.left.values())
    pairs = sum("chosen" in row for row in rows) if target in STAGES and STAGES[target].rows.labelled else 0
    assert done.rows == len(rows)
    assert len(rows) - left <= len(made) <= len(rows) - left + pairs


@pytest.mark.engine
@pytest.mark.parametrize("target", ["sft", "pt", "dpo", "kto"])
def test_ms_swift_uses_every_row_that_was_converted(tmp_path, monkeypatch, target):
    pytest.importorskip("swift.arguments", exc_type=ImportError)
    from tunekit.data.lengths_worker import answer_lengths

    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "scratch"))
    monkeypatch.setattr("tunekit.data.lengths.ask_once", lambda _, question, __, ___: answer_lengths(question))
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"a": {"type": "integer"}}}}]
    rows = [
        {"prompt": Q, "chosen": A, "rejected": W, "history": [["Hi", "Hello"]], "system": "Be kind."},
        {"chosen": TURNS, "rejected": [TURNS[0], {"role": "assistant", "content": W}]},
        {"text": json.dumps({"question": Q, "chosen": A, "rejected": W})},
        *({"conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": A}], "label": bit}
          for bit in (True, 1) if not STAGES[target].rows.pairs),
        *([{"messages": [*TURNS, TURNS[0], {"role": "assistant", "tool_calls": [{"function": {"name": "add"}}]},
                         {"role": "tool", "content": "2"}, TURNS[1]], "tools": tools, "label": True}]
          if target == "sft" else []),
    ]  # fmt: skip
    done = convert_rows(asked(write(tmp_path / "a.jsonl", *rows), to=target))
    assert (done.rows, done.left) == (len(rows), {})
    flags = {"model_type": "llama", "template": "chatml", "agent_template": "hermes"}
    found = measure_rows(Question(make_tokenized(tmp_path / "m"), target, ("out.jsonl",), flags))
    assert (found.total, found.unusable) == (done.written, 0)
    assert all(text.loss for row in found.rows for text in row)


def test_what_a_killed_conversion_left_is_deleted_by_the_next_and_that_of_a_running_one_is_not(tmp_path):
    import fcntl

    Path(".out.jsonl.0123abcd").write_text("cut off")
    Path(".out.images.0123abcd").mkdir()
    Path(".out.jsonl.notours").touch()
    with Path(".out.val.jsonl.89abcdef").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        convert_rows(asked(numbered(tmp_path / "a.jsonl", 3)))
        assert sorted(path.name for path in Path().glob(".out*")) == [".out.jsonl.notours", ".out.val.jsonl.89abcdef"]


def test_pairs_in_the_columns_of_ms_swift(tmp_path):
    row = {"query": Q, "response": A, "rejected_response": W}
    convert_rows(asked(write(tmp_path / "a.jsonl", row), to="dpo"))
    assert read("out.jsonl") == [{"messages": TURNS, "rejected_response": W}]


def test_a_key_twice_is_left_as_the_line_that_it_is(tmp_path):
    data = tmp_path / "a.jsonl"
    data.write_text(
        '{"query": "a", "response": "b"}\n{"query": "a", "query": "c", "response": "b"}\n', encoding="utf-8"
    )
    assert convert_rows(asked(data)).written == 1
    assert '"query": "a", "query": "c"' in read("out.left.jsonl")[0]["text"]
