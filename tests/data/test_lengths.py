"""The tokens of a dataset: counted by hand, and by ms-swift's own template."""

import json
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.cli.rows import Rows, summary, warnings
from tunekit.data import lengths as module
from tunekit.data.lengths import Lengths, Question, Seen, Sequence, Unmeasured, known, measure, refuse
from tunekit.data.lengths_sample import LARGEST, Lines, Table, shares, spread
from tunekit.errors import Exit, TunekitError
from tunekit.plan import measured

WORDS = ["user", "assistant", "system", "say", "yes", "no"]
SPECIAL = ["<unk>", "<pad>", "<|im_start|>", "<|im_end|>"]
FLAGS = {"model_type": "llama", "template": "chatml"}
AROUND = 6
"""Tokens of ChatML around question and answer: start, role, end of each turn. The answer's end carries loss."""


def make_model(folder: Path) -> Path:
    """A model without weights, whose tokenizer makes one token of a word."""
    folder.mkdir()
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    added = [
        {"id": number, "content": word, "special": True, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False}
        for number, word in enumerate(SPECIAL)
    ]
    tokenizer = {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "eos_token": "<|im_end|>",
        "chat_template": "<|im_start|>",
    }
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
        "max_position_embeddings": 4096,
    }
    for name, document in (("tokenizer", tokenizer), ("tokenizer_config", settings), ("config", config)):
        (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def row(question: int, answer: int, **more) -> dict:
    turns = [("user", "say " * question), ("assistant", "yes " * answer)]
    return {"messages": [{"role": role, "content": text.strip()} for role, text in turns], **more}


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in rows), encoding="utf-8")
    return path


def lengths_of(*texts: tuple[int, int]) -> Lengths:
    """Rows of one text each, by tokens and tokens with loss."""
    return Lengths(("d.jsonl",), len(texts), tuple((Sequence(size, size, loss),) for size, loss in texts))


@pytest.mark.parametrize(("total", "count"), [(0, 5), (3, 5), (5, 5), (7, 3), (12_000, 500), (10, 1)])
def test_a_sample_is_evenly_spread(total, count):
    found = spread(total, count)
    assert len(found) == min(total, count) == len(set(found))
    assert found == sorted(found)
    assert all(0 <= number < total for number in found)
    if 0 < count < total:
        assert abs(sum(found) / count - (total - 1) / 2) <= 1, "as many from the front as from the back"


def test_each_file_gives_its_share():
    assert shares([9000, 1000], 500) == [450, 50]
    assert shares([10_000, 1, 0], 500) == [500, 1, 0]
    assert shares([3, 4], 500) == [3, 4]


@pytest.mark.parametrize("array", [False, True])
def test_rows_are_read_by_number_and_by_size(tmp_path, array):
    rows = [{"n": number, "text": "x" * (number % 50)} for number in range(100)]
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(rows) if array else "\n\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8-sig")
    lines = Lines(path)
    assert lines.total == 100
    assert [json.loads(line)["n"] for line in lines.take([0, 7, 99])] == [0, 7, 99]
    largest = [json.loads(line) for line in lines.largest()]
    assert len(largest) == LARGEST
    assert min(len(item["text"]) for item in largest) >= 46


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(0, 100)), min_size=1, max_size=60), st.integers(100, 300))
def test_packs_hold_every_row_once_and_never_too_much(sizes, length):
    seen = Seen(tuple((Sequence(size, size, min(size, loss)),) for size, loss in sizes))
    packs = seen.packs(length)
    assert sum(rows for rows, _ in packs) == len(sizes)
    assert sum(loss for _, loss in packs) == sum(min(size, loss) for size, loss in sizes)
    total = sum(size for size, _ in sizes)
    assert -(-total // length) <= len(packs) <= max(1, 2 * total // length + 1)


@pytest.mark.engine
def test_packs_are_those_of_ms_swift():
    from swift.dataset.packing import calculate_matched_group

    draw = random.Random(5)  # noqa: S311 - the same sizes every time
    sizes = [draw.randint(1, 400) for _ in range(300)]
    theirs, _ = calculate_matched_group(list(enumerate(sizes)), 512)
    ours = lengths_of(*((size, 0) for size in sizes)).seen(None).packs(512)
    assert abs(len(ours) - len(theirs)) <= 1


def test_what_the_rows_say():
    found = lengths_of(*((size, size // 4) for size in range(1, 101)))
    assert (found.longest, found.median, found.mean, found.p95) == (100, 50.5, 50.5, 95)
    assert (found.over(100), found.over(90), found.over(0)) == (0, 10, 100)
    assert found.row_length(60) == 60
    assert found.row_length(4096) == 100
    assert found.row_length(None) == 100
    assert len(found.seen(90).rows) == 90


def test_the_longest_row_need_not_be_in_the_sample():
    found = Lengths(("d.jsonl",), 9000, ((Sequence(10, 10, 5),),), largest=(700, 3))
    assert found.longest == 700
    assert found.p95 == 10


def test_dropped_rows_carry_no_loss_and_cut_rows_what_is_left():
    dropped = lengths_of((10, 5), (100, 100)).seen(50)
    assert dropped.loss_share == 0.5
    cut = Lengths(("d.jsonl",), 2, ((Sequence(10, 10, 5),), (Sequence(100, 50, 40),))).seen(50)
    assert cut.loss_share == 45 / 60


def test_the_heaviest_micro_batch():
    one = lengths_of((100, 90), (100, 10)).seen(None)
    assert one.loss_share == 0.5
    assert one.heaviest_share(1, 100, packed=False) == 0.9
    assert one.heaviest_share(4, 100, packed=False) == 0.5, "the estimate derives it from the mean"
    assert one.heaviest_share(1, 100, packed=True) == 0.9
    assert one.heaviest_share(1, 200, packed=True) == 0.5
    many = lengths_of(*((100, 90 if number % 2 else 10) for number in range(100))).seen(None)
    assert 0.5 < many.heaviest_share(8, 100, packed=True) < 0.9


def test_a_dataset_whose_rows_are_all_dropped():
    none = lengths_of((100, 50)).seen(10)
    assert not none.rows
    assert none.heaviest_share(4, 10, packed=True) == none.loss_share == 0


class TestRefusals:
    @pytest.mark.parametrize("stage", ["grpo", "ppo", "gkd"])
    def test_stages_that_make_their_answers(self, tmp_path, stage):
        with pytest.raises(Unmeasured, match="answers that it makes itself"):
            refuse(Question(tmp_path, stage, ()))

    @pytest.fixture(autouse=True)
    def _engine(self, monkeypatch):
        monkeypatch.setattr(module, "find_spec", lambda name: name)

    def test_no_engine(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "find_spec", lambda name: None if name == "swift" else name)
        with pytest.raises(Unmeasured, match="ms-swift is not installed"):
            refuse(Question(make_model(tmp_path / "m"), "sft", ()))

    def test_no_tokenizer(self, tmp_path):
        with pytest.raises(Unmeasured, match="there is no tokenizer"):
            refuse(Question(tmp_path, "sft", ()))

    def test_code_of_the_model(self, tmp_path):
        model = make_model(tmp_path / "m")
        refuse(Question(model, "sft", ()))
        (model / "tokenizer_config.json").write_text('{"auto_map": {}}', encoding="utf-8")
        with pytest.raises(Unmeasured, match="code of its own"):
            refuse(Question(model, "sft", ()))


class TestProcess:
    """The process around the worker, with another program in its place."""

    @pytest.fixture
    def question(self, tmp_path) -> Question:
        data = write(tmp_path / "d.jsonl", row(3, 4))
        return Question(make_model(tmp_path / "m"), "sft", (str(data),), FLAGS)

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
            module.ask(question, 0.2 if "sleep" in text else 60)

    def test_a_dataset_that_is_not_there(self, tmp_path):
        asked = Question(make_model(tmp_path / "m"), "sft", ("nope.jsonl",))
        with pytest.raises(TunekitError, match="does not exist") as refused:
            module.ask(asked, 9)
        assert refused.value.code == Exit.DATA
        assert known(asked) is None


class TestCache:
    @pytest.fixture(autouse=True)
    def _counted(self, monkeypatch):
        self.asked = 0

        def ask(_question, _limit):
            self.asked += 1
            return {"names": ["d"], "total": 1, "rows": [[[9, 9, 4]]], "largest": [], "unusable": 0, "problem": ""}

        monkeypatch.setattr(module, "ask", ask)
        monkeypatch.setattr(module, "refuse", lambda _: None)

    def test_what_decides_the_answer_asks_anew(self, tmp_path):
        data = write(tmp_path / "d.jsonl", row(3, 4))
        model = make_model(tmp_path / "m")
        question = Question(model, "sft", (str(data),), FLAGS)
        assert known(question) is None
        found = measure(question)
        assert measure(question) == known(question) == found
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
            assert known(changed) is None
            measure(changed)
            assert self.asked == number
        write(data, row(3, 4), row(3, 5))
        assert known(question) is None
        measure(question)
        (model / "tokenizer.json").write_text("{}", encoding="utf-8")
        assert known(question) is None
        assert self.asked == 6

    def test_a_damaged_answer_is_none(self, tmp_path):
        question = Question(make_model(tmp_path / "m"), "sft", (str(write(tmp_path / "d.jsonl", row(1, 1))),))
        measure(question)
        (kept,) = (tmp_path / "cache" / "lengths").iterdir()
        for text in ("", "[]", '{"rows": []}', "\x00"):
            kept.write_text(text, encoding="utf-8")
            assert known(question) is None
        measure(question)
        assert known(question)


@pytest.mark.engine
class TestWorker:
    """The worker in this process: ms-swift is loaded once for all tests."""

    @pytest.fixture(autouse=True)
    def _in_this_process(self, tmp_path, monkeypatch):
        worker = pytest.importorskip("tunekit.data.lengths_worker", exc_type=ImportError)
        monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "scratch"))
        self.model = make_model(tmp_path / "m")
        self.folder = tmp_path

        def run(_command, **options):
            class Done:
                returncode, stderr = 0, ""
                stdout = json.dumps(worker.measure(json.loads(options["input"])))

            return Done

        monkeypatch.setattr(module.subprocess, "run", run)

    def measure(self, name, *rows, stage="sft", **flags) -> Lengths:
        limit = flags.pop("max_length", None)
        data = write(self.folder / name, *rows)
        return measure(Question(self.model, stage, (str(data),), FLAGS | flags, limit))

    def test_the_answer_and_its_end_carry_loss(self):
        found = self.measure("d.jsonl", row(3, 4), row(10, 1), row(1, 20))
        assert found.rows == tuple(
            (Sequence(q + a + AROUND, q + a + AROUND, a + 1),) for q, a in ((3, 4), (10, 1), (1, 20))
        )
        assert (found.total, found.unusable, found.names) == (3, 0, ("d.jsonl",))
        assert found.longest == 27

    def test_all_turns_carry_loss_unless_only_the_last_shall(self):
        turns = [*row(2, 3)["messages"], *row(4, 5)["messages"]]
        ((all_turns,),) = self.measure("d.jsonl", {"messages": turns}).rows
        ((last,),) = self.measure("e.jsonl", {"messages": turns}, loss_scale="last_round").rows
        assert (all_turns.loss, last.loss) == (3 + 1 + 5 + 1, 5 + 1)
        assert all_turns.length == last.length == 2 + 3 + 4 + 5 + 2 * AROUND

    def test_a_system_prompt_has_tokens_and_no_loss(self):
        ((text,),) = self.measure("d.jsonl", row(3, 4), system="say say").rows
        assert (text.length, text.loss) == (3 + 4 + AROUND + 5, 5)

    def test_of_plain_text_all_carries_loss(self):
        ((text,),) = self.measure("d.jsonl", {"text": "say yes no"}, stage="pt").rows
        assert text.length == 4
        assert text.loss >= 3, "all but the first, which nothing predicts"

    @pytest.mark.parametrize("stage", ["dpo", "orpo", "simpo", "cpo", "rm"])
    def test_a_pair_is_two_texts(self, stage):
        (pair,) = self.measure("d.jsonl", row(3, 4, rejected_response="no no"), stage=stage).rows
        assert [(text.length, text.loss) for text in pair] == [(3 + 4 + AROUND, 5), (3 + 2 + AROUND, 3)]

    def test_kto_reads_one_text(self):
        ((text,),) = self.measure("d.jsonl", row(3, 4, label=True), stage="kto").rows
        assert (text.length, text.loss) == (3 + 4 + AROUND, 5)

    def test_rows_that_are_cut(self):
        whole, cut = (3 + 20 + AROUND, 13), (Sequence(29, 13, 5), Sequence(29, 13, 13))
        right = self.measure("d.jsonl", row(3, 20), truncation_strategy="right", max_length=13)
        left = self.measure("e.jsonl", row(3, 20), truncation_strategy="left", max_length=13)
        for found, expected in ((right, cut[0]), (left, cut[1])):
            ((text,),) = found.rows
            assert (text.length, text.trained) == whole
            assert abs(text.loss - expected.loss) <= 1

    def test_rows_that_ms_swift_leaves_out(self):
        nobody = {"messages": [{"role": "nobody", "content": "x"}, {"role": "assistant", "content": "y"}]}
        found = self.measure("d.jsonl", row(3, 4), nobody, row(3, 5))
        assert (len(found.rows), found.unusable) == (2, 1)
        with pytest.raises(Unmeasured, match="can use none of the rows"):
            self.measure("e.jsonl", nobody)

    def test_a_table(self):
        (self.folder / "d.csv").write_text("query,response\nsay say,yes\nsay,yes yes yes\n", encoding="utf-8")
        found = measure(Question(self.model, "sft", (str(self.folder / "d.csv"),), FLAGS))
        assert [text.loss for (text,) in found.rows] == [2, 4]
        assert found.largest

    def test_columns_of_other_names(self):
        found = self.measure(
            "d.jsonl", {"ask": "say say", "reply": "yes"}, columns='{"ask":"query","reply":"response"}'
        )
        assert [text.loss for (text,) in found.rows] == [2]

    def test_a_large_file_is_sampled_and_its_longest_row_found(self):
        rows = [row(2, 3) for _ in range(1200)]
        rows[1] = row(300, 3)
        found = self.measure("d.jsonl", *rows)
        assert (found.total, len(found.rows)) == (1200, module.SAMPLE)
        assert found.longest == 300 + 3 + AROUND
        assert found.p95 == 2 + 3 + AROUND


@pytest.mark.engine
def test_the_process_answers(tmp_path):
    """From a folder with a torch.py of its own, to which the path of the dataset is relative."""
    (tmp_path / "torch.py").write_text("raise SystemExit(9)\n", encoding="utf-8")
    write(tmp_path / "d.jsonl", row(3, 4))
    model = make_model(tmp_path / "m")
    found = measure(Question(model, "sft", ("d.jsonl",), FLAGS))
    assert found.rows == ((Sequence(13, 13, 5),),)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "d.jsonl", "m", "torch.py"]


class Planned:
    """Plans of a model in a folder, whose rows have been measured as `lengths_of` says."""

    def __init__(self, make, tmp_path, monkeypatch, found):
        self.make, self.model = make, str(make_model(tmp_path / "m"))
        monkeypatch.setattr(measured.lengths, "measure", lambda question: self.ask(question, found))
        self.questions = []

    def ask(self, question, found):
        self.questions.append(question)
        return found

    def __call__(self, command="sft", **words):
        return self.make(command, self.model, preset="7b", **words)


@pytest.fixture
def planned(make, tmp_path, monkeypatch):
    return lambda *texts: Planned(make, tmp_path, monkeypatch, lengths_of(*texts))


def test_a_packed_plan_keeps_its_length(planned):
    found = measured.measure(planned(*[(100, 30)] * 90)())
    assert found.seq_len == 3072
    assert found.samples_per_row == 30
    assert found.loss_share == pytest.approx(0.3)


def test_an_unpacked_plan_is_as_long_as_its_longest_row(planned):
    plan = planned((100, 30), (900, 30))
    assert measured.measure(plan(packing=False)).seq_len == 900
    assert measured.measure(plan(packing=False, max_length=512)).seq_len == 512
    assert measured.measure(plan(packing=False, max_length=512)).loss_share == pytest.approx(0.3)
    assert measured.measure(plan(packing=False)).samples_per_row == 1


def test_the_question_of_a_plan(planned):
    plan = planned((100, 30))
    measured.measure(plan(system="say", max_length=64))
    measured.measure(plan(truncation_strategy="left", max_length=64))
    dropped, cut = plan.questions
    assert dropped.flags == {"model_type": "llama", "template": "chatml", "system": "say"}
    assert (dropped.stage, dropped.max_length, cut.max_length) == ("sft", None, 64)
    assert dropped.folder == Path(plan.model)
    assert dropped.datasets == ("data.jsonl",)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"streaming": True, "max_steps": 9}, "--streaming"),
        ({"truncation_strategy": "split"}, "split into pieces"),
        ({"external_plugins": ["own.py"]}, "--external_plugins"),
    ],
)
def test_what_a_plan_reads_in_its_own_way(planned, words, said):
    with pytest.raises(Unmeasured, match=said):
        measured.measure(planned((1, 1))(**words))


def test_a_model_that_is_not_here(make, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(Unmeasured, match=r"tokenizer of Qwen/Qwen2\.5-7B is not on this machine"):
        measured.measure(make())
    assert measured.known(make()) is None


def test_what_is_said_of_the_rows(planned):
    found = measured.measure(planned(*[(100, 30)] * 99, (4000, 30))())
    assert summary(found) == [
        "from all 100 rows of d.jsonl: longest 4,000 tokens, half below 100, 95% below 100",
        "a packed row of 3,072 tokens holds 24.8 of them",
    ]
    assert warnings(found) == ["1 of 100 rows are longer than max_length 3,072: ms-swift leaves them out"]
    assert Rows(found).document()["over_max_length"] == 1


def test_where_the_share_is_known_from(planned):
    plan = planned(*[(3000, 900)] * 9, (3000, 2400))
    found = measured.measure(plan(micro=None))
    assert Rows().share(plan()) == "25% of the tokens carry loss (assumed; --loss-percent says otherwise)"
    assert Rows(found, 0.5).share(plan()) == "50% of the tokens carry loss"
    assert Rows(found, 0.5).loss_share == 0.5
    assert Rows(found).share(plan()).startswith("35% of the tokens carry loss, ")
    assert 0.35 < Rows(found).loss_share < 0.8
    assert Rows(found).seq_len == 3072


def test_rows_of_a_table_of_datasets():
    class Rows(list):
        def select(self, numbers):
            return [self[number] for number in numbers]

    table = Table(Rows({"text": "x" * number} for number in range(30)))
    assert table.total == 30
    assert [len(json.loads(line)["text"]) for line in table.take([1, 29])] == [1, 29]
    assert len(json.loads(table.largest()[0])["text"]) == 29
