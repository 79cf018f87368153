"""The tokens of a dataset: counted by hand, and by ms-swift's own template."""

import sys
from importlib.machinery import ModuleSpec

import pytest
from tokenized import make_tokenized, row, write_lines

from tunekit.data import lengths as module
from tunekit.data.lengths import Question, Unmeasured, check_measurable, measure_rows, measured_before
from tunekit.data.tokens import Sequence
from tunekit.errors import Exit, TunekitError

FLAGS = {"model_type": "llama", "template": "chatml"}


class TestRefusals:
    @pytest.mark.parametrize("stage", ["grpo", "ppo", "gkd"])
    def test_stages_that_make_their_answers(self, tmp_path, stage):
        with pytest.raises(Unmeasured, match="answers that it makes itself"):
            check_measurable(Question(tmp_path, stage, ()))

    @pytest.fixture(autouse=True)
    def _engine(self, monkeypatch):
        monkeypatch.setattr(module, "find_spec", lambda name: name)

    def test_no_engine(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "find_spec", lambda name: None if name == "swift" else name)
        with pytest.raises(Unmeasured, match="ms-swift is not installed"):
            check_measurable(Question(make_tokenized(tmp_path / "m"), "sft", ()))

    def test_no_tokenizer(self, tmp_path):
        with pytest.raises(Unmeasured, match="there is no tokenizer"):
            check_measurable(Question(tmp_path, "sft", ()))

    def test_code_of_the_model(self, tmp_path):
        model = make_tokenized(tmp_path / "m")
        check_measurable(Question(model, "sft", ()))
        (model / "tokenizer_config.json").write_text('{"auto_map": {}}', encoding="utf-8")
        with pytest.raises(Unmeasured, match="code of its own"):
            check_measurable(Question(model, "sft", ()))

    @pytest.mark.parametrize(
        "name", ["config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"]
    )
    @pytest.mark.parametrize("text", ['{"auto\\u005fmap": {"A": "evil.C"}}', '{"text_config": [{"auto_map": 1}]}'])
    def test_code_of_the_model_in_any_configuration(self, tmp_path, name, text):
        model = make_tokenized(tmp_path / "m")
        (model / name).write_text(text, encoding="utf-8")
        with pytest.raises(Unmeasured, match="code of its own"):
            check_measurable(Question(model, "sft", ()))

    def test_a_configuration_that_cannot_be_read(self, tmp_path):
        model = make_tokenized(tmp_path / "m")
        (model / "processor_config.json").write_text("[" * 2000, encoding="utf-8")
        with pytest.raises(Unmeasured, match="cannot be read"):
            check_measurable(Question(model, "sft", ()))


class TestProcess:
    """The process around the worker, with another program in its place."""

    @pytest.fixture(autouse=True)
    def _engine(self, monkeypatch):
        monkeypatch.setattr(module, "find_spec", lambda _: ModuleSpec("here", None))

    @pytest.fixture
    def question(self, tmp_path) -> Question:
        data = write_lines(tmp_path / "d.jsonl", row(3, 4))
        return Question(make_tokenized(tmp_path / "m"), "sft", (str(data),), FLAGS)

    def program(self, tmp_path, monkeypatch, text):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("sleep 9", "did not end within 0.2 s"),
            ("echo 'ValueError: boom' >&2; exit 3", "ValueError: boom"),
            ("exit 9", "status 9"),
            ("echo '[]'", "no object"),
        ],
    )
    def test_a_worker_that_fails(self, tmp_path, monkeypatch, question, text, said):
        self.program(tmp_path, monkeypatch, text)
        with pytest.raises(Unmeasured, match=said):
            measure_rows(question, 0.2 if "sleep" in text else 60)

    def test_a_dataset_that_is_not_there(self, tmp_path):
        asked = Question(make_tokenized(tmp_path / "m"), "sft", ("nope.jsonl",))
        with pytest.raises(TunekitError, match="does not exist") as refused:
            measure_rows(asked, 9)
        assert refused.value.code == Exit.DATA
        assert measured_before(asked) is None


class TestCache:
    @pytest.fixture(autouse=True)
    def _counted(self, monkeypatch):
        self.asked = 0

        def ask(_asked, _limit):
            self.asked += 1
            return {"names": ["d"], "total": 1, "rows": [[[9, 9, 4]]], "largest": [], "unusable": 0, "problem": ""}

        monkeypatch.setattr(module, "_ask", ask)
        monkeypatch.setattr(module, "check_measurable", lambda _: None)

    def test_what_decides_the_answer_asks_anew(self, tmp_path):
        data = write_lines(tmp_path / "d.jsonl", row(3, 4))
        model = make_tokenized(tmp_path / "m")
        question = Question(model, "sft", (str(data),), FLAGS)
        assert measured_before(question) is None
        found = measure_rows(question)
        assert measure_rows(question) == measured_before(question) == found
        assert self.asked == 1
        for number, changed in enumerate(
            [
                Question(model, "pt", (str(data),), FLAGS),
                Question(model, "sft", (f"{data}#5",), FLAGS),
                Question(model, "sft", (str(data),), FLAGS | {"system": "say"}),
                Question(model, "sft", (str(data),), FLAGS, max_length=9),
            ],
            start=2,
        ):
            assert measured_before(changed) is None
            measure_rows(changed)
            assert self.asked == number
        write_lines(data, row(3, 4), row(3, 5))
        assert measured_before(question) is None
        measure_rows(question)
        (model / "tokenizer.json").write_text("{}", encoding="utf-8")
        assert measured_before(question) is None
        assert self.asked == 6

    def test_a_damaged_answer_is_none(self, tmp_path):
        question = Question(make_tokenized(tmp_path / "m"), "sft", (str(write_lines(tmp_path / "d.jsonl", row(1, 1))),))
        measure_rows(question)
        (kept,) = (tmp_path / "cache" / "lengths").iterdir()
        for text in ("", "[]", '{"rows": []}', "\x00"):
            kept.write_text(text, encoding="utf-8")
            assert measured_before(question) is None
        measure_rows(question)
        assert measured_before(question)


@pytest.mark.engine
def test_the_process_answers(tmp_path):
    """From a folder with a torch.py of its own, to which the path of the dataset is relative."""
    (tmp_path / "torch.py").write_text("raise SystemExit(9)\n", encoding="utf-8")
    write_lines(tmp_path / "d.jsonl", row(3, 4))
    model = make_tokenized(tmp_path / "m")
    found = measure_rows(Question(model, "sft", ("d.jsonl",), FLAGS))
    assert found.rows == ((Sequence(13, 13, 5),),)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "d.jsonl", "m", "torch.py"]
