"""``tunekit data``: what each command prints."""

import json
from pathlib import Path

import pytest
from tokenized import lengths_of

from tunekit.cli.data import BUILDERS
from tunekit.data.preview import Picture, Piece, Preview, Rendered
from tunekit.data.stats import bins_of

RUN = ("--model", "Qwen2.5-7B", "--gpus", "80GB", "--preset", "7b")
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.fixture
def rows():
    text = "".join(json.dumps({"question": f"q{number}", "answer": "a", "id": 1}) + "\n" for number in range(30))
    Path("rows.jsonl").write_text(text + '{"id": 1}\n', encoding="utf-8")


class TestGroup:
    def test_the_help_names_all(self, tunekit):
        shown = tunekit("data", "--help").out
        assert all(f" {name} " in shown for name in BUILDERS)

    def test_augment_is_where_it_was_and_here(self, tunekit):
        for path in (("augment",), ("data", "augment")):
            assert "--even-with-text" in tunekit(*path, "--help").out

    @pytest.mark.parametrize("name", ["stats", "preview"])
    def test_what_is_missing(self, tunekit, name):
        ended = tunekit("data", name, "--model", "Qwen2.5-7B")
        assert (ended.code, "FILE is missing" in ended.err) == (2, True)
        Path("d.jsonl").write_text("", encoding="utf-8")
        ended = tunekit("data", name, "d.jsonl")
        assert (ended.code, f"tunekit data {name} needs --model" in ended.err) == (2, True)
        ended = tunekit("data", name, "d.jsonl", "--model", "Qwen2.5-7B", "--stage", "sfft")
        assert (ended.code, "did you mean sft?" in ended.err) == (2, True)


@pytest.mark.usefixtures("rows")
class TestConvert:
    def test_what_was_done(self, tunekit):
        ended = tunekit("data", "convert", "rows.jsonl", "--to", "sft", "--out", "out.jsonl", "--split", "0.1")
        assert ended.code == 0
        assert ended.out == ""
        assert "wrote out.jsonl: 27 rows for sft, of 31 rows (question and answer 30)" in ended.err
        assert "wrote out.val.jsonl: 3 rows, for --val-dataset" in ended.err
        assert "id (30)" in ended.err
        assert "1 row could not be converted; they stand in out.left.jsonl" in ended.err
        assert "rows.jsonl line 31" in ended.err

    def test_as_json(self, tunekit):
        ended = tunekit("data", "convert", "rows.jsonl", "--to", "sft", "--out", "out.jsonl", "--json")
        assert (ended.json["written"], ended.json["rows"], ended.json["target"]) == (30, 31, "sft")
        assert ended.json["files"] == {"out": "out.jsonl", "left": "out.left.jsonl"}

    def test_columns_that_are_named(self, tunekit):
        Path("odd.jsonl").write_text('{"a": "Hi", "b": "Hello"}\n', encoding="utf-8")
        words = ("data", "convert", "odd.jsonl", "--to", "sft", "--out", "out.jsonl")
        ended = tunekit(*words)
        assert ended.code == 4
        assert "--map prompt=COLUMN" in ended.err
        assert tunekit(*words, "--map", "prompt=a,response=b").code == 0
        assert json.loads(Path("out.jsonl").read_text(encoding="utf-8")) == {"messages": TURNS}

    def test_which_rows_are_said(self, tunekit):
        words = ("data", "convert", "rows.jsonl", "--to", "sft", "--max-samples", "5")
        assert "the first 5 rows of each file" in tunekit(*words, "--out", "a.jsonl").err
        assert "any 5 rows of each file, seed 42" in tunekit(*words, "--out", "b.jsonl", "--random").err

    def test_a_folder(self, tunekit):
        Path("folder").mkdir()
        Path("rows.jsonl").rename("folder/rows.jsonl")
        assert tunekit("data", "convert", "folder", "--to", "grpo", "--out", "out.jsonl").code == 0


@pytest.fixture
def measured(monkeypatch):
    """Rows of 10, 20 … tokens, without a tokenizer."""
    found = lengths_of(*((10 * number, 5 * number) for number in range(1, 101)))
    asked = []

    def measure(question, _seconds):
        asked.append(question)
        return found

    monkeypatch.setattr("tunekit.runs.rows.lengths.measure_rows", measure)
    monkeypatch.setattr("tunekit.plan.measured.cached_model", lambda _: Path("model"))
    return found, asked


@pytest.mark.usefixtures("rows")
class TestStats:
    WORDS = ("data", "stats", "chat.jsonl", *RUN, "--max-length", "800", "--packing", "false")

    @pytest.fixture(autouse=True)
    def _chat(self):
        Path("chat.jsonl").write_text(json.dumps({"messages": TURNS}) + "\n", encoding="utf-8")

    def test_in_words(self, tunekit, measured):
        ended = tunekit(*self.WORDS)
        assert ended.code == 0, ended.err
        assert "50.0% of the tokens" in ended.out
        assert "20.0% of the rows (20) ← max_length: ms-swift leaves them out" in ended.out
        assert "mean 505, half below 505" in ended.out
        assert "80 rows, 3 steps an epoch" in ended.out
        assert all(len(line) <= 100 for line in ended.out.splitlines()), ended.out

    def test_as_json(self, tunekit, measured):
        found, asked = measured
        shown = tunekit(*self.WORDS, "--sample", "0", "--json").json
        assert shown["over"]["800"] == 20
        assert shown["steps_an_epoch"] == 3
        assert sum(part["rows"] for part in shown["bins"]) == sum(part.rows for part in bins_of(found)) == 100
        assert asked[0].sample >= 10**9

    def test_packs(self, tunekit, measured):
        shown = tunekit("data", "stats", "chat.jsonl", *RUN, "--json").json
        assert shown["packs"] > 0
        assert shown["rows_in_a_pack"] > 1

    def test_a_picture(self, tunekit, measured):
        pytest.importorskip("matplotlib")
        ended = tunekit(*self.WORDS, "--plot", "lengths.png")
        assert ended.code == 0, ended.err
        assert Path("lengths.png").read_bytes().startswith(b"\x89PNG")
        assert "is not a kind of picture" in tunekit(*self.WORDS, "--plot", "lengths.doc").err


class TestPreview:
    @pytest.fixture
    def shown(self, tunekit, monkeypatch):
        pieces = (Piece("<s>Hi\x1b[2J ", 3, False), Piece("<pad>", 64, False, True), Piece("Hello", 2, True))
        made = Preview(Path("d.jsonl"), "line", 7, (Rendered("", pieces),), (Picture("a.png", 8, 9, 64),))
        monkeypatch.setattr("tunekit.runs.rows.preview_row", lambda *_: made)
        monkeypatch.setattr("tunekit.plan.measured.cached_model", lambda _: Path("model"))
        Path("d.jsonl").write_text(json.dumps({"messages": TURNS}) + "\n", encoding="utf-8")
        return lambda *words: tunekit("data", "preview", "d.jsonl", *RUN, *words)

    def test_in_words(self, shown):
        lines = shown().out.splitlines()
        assert lines[0].startswith("d.jsonl line 7 · ")
        assert "69 tokens, 2 learned" in lines
        assert "<s>Hi\\x1b[2J [<pad> × 64]⟦Hello⟧" in lines
        assert "picture a.png: 8 × 9 pixels, 64 tokens" in lines

    def test_as_json(self, shown):
        document = shown("--json").json
        assert (document["line"], document["texts"][0]["learned"]) == (7, 2)
        assert document["pictures"] == [{"path": "a.png", "width": 8, "height": 9, "tokens": 64}]
