"""A row as ms-swift's own template renders it."""

import json
import sys

import pytest
from tokenized import make_tokenized, row, write_lines

from tunekit.data import preview as module
from tunekit.data.lengths import Question, Unmeasured
from tunekit.data.preview import mode_of, preview_row
from tunekit.errors import Exit, TunekitError
from tunekit.stages import STAGES

FLAGS = {"model_type": "llama", "template": "chatml"}


def question(folder, stage="sft", **flags):
    return Question(folder / "m", stage, (), FLAGS | flags)


def test_the_mode_of_each_stage():
    assert {name: mode_of(stage) for name, stage in STAGES.items()} == {
        **dict.fromkeys(("pt", "sft", "gkd"), "train"),
        **dict.fromkeys(("rm", "dpo", "orpo", "simpo", "cpo"), "rlhf"),
        "kto": "kto",
        **dict.fromkeys(("ppo", "grpo"), "transformers"),
    }


class TestRefusals:
    @pytest.fixture(autouse=True)
    def _model(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tunekit.data.lengths.find_spec", lambda name: name)
        make_tokenized(tmp_path / "m")
        self.folder = tmp_path

    def refused(self, number=1, *, text=None, **more):
        path = write_lines(self.folder / "d.jsonl", row(3, 4))
        if text is not None:
            path.write_text(text, encoding="utf-8")
        with pytest.raises(TunekitError) as error:
            preview_row(question(self.folder, **more), str(path), number)
        return error.value

    def test_no_such_row(self):
        assert self.refused(2).message.endswith("d.jsonl has no row 2")
        assert self.refused(0).message == "--row counts from 1, not 0"

    def test_a_row_that_cannot_be_read(self):
        found = self.refused(text="{broken\n")
        assert "line 1: not JSON" in found.message
        assert found.code == Exit.DATA

    def test_no_tokenizer(self):
        (self.folder / "m/tokenizer.json").unlink()
        (self.folder / "m/tokenizer_config.json").unlink()
        assert isinstance(self.refused(), Unmeasured)

    def test_a_worker_that_fails(self, monkeypatch):
        program = self.folder / "python"
        program.write_text("#!/bin/sh\necho 'ValueError: boom' >&2; exit 3\n", encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        assert "line 1 cannot be shown: ValueError: boom" in self.refused().message


@pytest.mark.engine
class TestWorker:
    """The worker in this process: ms-swift is loaded once for all tests."""

    @pytest.fixture(autouse=True)
    def _in_this_process(self, tmp_path, monkeypatch):
        pytest.importorskip("swift.arguments", exc_type=ImportError)
        from tunekit.data.preview_worker import render_row

        monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "scratch"))
        make_tokenized(tmp_path / "m")
        self.folder = tmp_path
        monkeypatch.setattr(module, "ask_once", lambda _, asked, __, ___: json.loads(json.dumps(render_row(asked))))

    def preview(self, *rows, stage="sft", number=1, **flags):
        data = write_lines(self.folder / "d.jsonl", *rows)
        return preview_row(question(self.folder, stage, **flags), str(data), number)

    def test_what_is_learned_stands_out(self):
        made = self.preview(row(1, 1), row(3, 4), number=2)
        assert (made.number, made.unit, made.pictures) == (2, "line", ())
        (text,) = made.texts
        assert (text.name, text.tokens, text.learned) == ("", 3 + 4 + 6, 5)
        first, second, *rest = text.pieces
        assert not first.learned
        assert first.text.startswith("<|im_start|> user")
        assert second.learned
        assert second.text.startswith("yes yes yes yes <|im_end|>")
        assert not any(piece.learned for piece in rest)

    def test_a_pair_is_two_texts(self):
        made = self.preview(row(3, 4, rejected_response="no no"), stage="dpo")
        assert [(text.name, text.tokens, text.learned) for text in made.texts] == [
            ("chosen", 3 + 4 + 6, 5),
            ("rejected", 3 + 2 + 6, 3),
        ]

    def test_a_question_is_put_without_its_answer(self):
        (text,) = self.preview(row(3, 4), stage="grpo").texts
        assert text.learned == 0
        assert "yes" not in "".join(piece.text for piece in text.pieces)
        assert text.pieces[-1].text.endswith("assistant")

    def test_plain_text_is_learned(self):
        (text,) = self.preview({"text": "say yes no"}, stage="pt").texts
        assert text.learned >= 3

    def test_a_row_that_ms_swift_leaves_out(self):
        nobody = {"messages": [{"role": "nobody", "content": "x"}, {"role": "assistant", "content": "y"}]}
        with pytest.raises(TunekitError, match="line 1: ms-swift leaves it out") as error:
            self.preview(nobody)
        assert error.value.code == Exit.DATA
