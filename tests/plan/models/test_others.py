"""Teachers, reward models and references are looked for before a start."""

import json

import pytest

from tunekit.data.files import NotHere
from tunekit.errors import TunekitError
from tunekit.plan.models.others import check_other, has_score, vocabulary

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
WORDS = {f"w{number}": number for number in range(100)}


def model(folder, config=LLAMA, vocab=WORDS, args=None):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}}))
    if args is not None:
        (folder / "args.json").write_text(json.dumps(args))
    return str(folder)


@pytest.fixture
def check(make, tmp_path):
    """Check a model beside the one of a plan, whose own is in a folder."""
    base = model(tmp_path / "base", vocab=WORDS)
    needs = {"ppo": {"reward_model": ["x/y"]}, "grpo": {"reward_funcs": ["format"]}}

    def call(flag, name, stage="gkd"):
        words = {"model_type": "llama", "template": "chatml", **needs.get(stage, {})}
        plan = make(stage, model=base, preset="low-memory", **words)
        check_other(plan, flag, str(name))

    return call


@pytest.mark.parametrize("name", ["./nope", "/nope/x", "~/nope", "a/b/c"])
def test_a_folder_that_is_not_there(check, name):
    with pytest.raises(NotHere, match=r"--teacher_model .* does not exist"):
        check("teacher_model", name)


def test_what_is_no_model(check, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(TunekitError, match=r"--teacher_model: .*holds no model"):
        check("teacher_model", tmp_path / "empty")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(TunekitError, match="holds no model"):
        check("ref_model", tmp_path / "adapter", "dpo")
    (tmp_path / "file").write_text("")
    with pytest.raises(TunekitError, match="is a file"):
        check("teacher_model", tmp_path / "file")


def test_a_short_name_is_told_in_full(check):
    with pytest.raises(TunekitError, match="is no id on a hub") as refused:
        check("teacher_model", "Qwen2.5-14B")
    assert refused.value.hint == "write Qwen/Qwen2.5-14B"
    check("teacher_model", "Qwen/Qwen2.5-14B")
    check("teacher_model", "org/unlisted-7b")


@pytest.mark.parametrize(("flag", "stage"), [("teacher_model", "gkd"), ("ref_model", "dpo"), ("reward_model", "ppo")])
def test_other_tokens_are_refused_where_they_are_compared(check, tmp_path, flag, stage):
    scores = {"task_type": "seq_cls"}
    same = model(tmp_path / "same", vocab=WORDS | {"<added>": 100}, args=scores)
    other = model(tmp_path / "other", vocab={word: 99 - number for word, number in WORDS.items()}, args=scores)
    check(flag, same, stage)
    with pytest.raises(TunekitError, match="has other tokens than base: 0% of them mean the same"):
        check(flag, other, stage)


def test_a_reward_model_of_grpo_reads_text_and_may_have_other_tokens(check, tmp_path):
    check("reward_model", model(tmp_path / "other", vocab={"a": 1}), "grpo")


def test_a_reward_model_of_ppo_must_give_scores(check, tmp_path):
    with pytest.raises(TunekitError, match="gives no scores") as refused:
        check("reward_model", model(tmp_path / "chat"), "ppo")
    assert "tunekit rm" in refused.value.hint


@pytest.mark.parametrize(
    ("config", "args", "scores"),
    [
        ({"architectures": ["Qwen2ForSequenceClassification"]}, None, True),
        ({"num_labels": 1}, None, True),
        (LLAMA, None, False),
        (LLAMA, {"task_type": "seq_cls"}, True),
        ({"architectures": ["Qwen2ForSequenceClassification"]}, {"task_type": "causal_lm"}, False),
        ({"architectures": "x"}, None, False),
    ],
)
def test_what_gives_scores(tmp_path, config, args, scores):
    model(tmp_path / "m", config, args=args)
    assert has_score(tmp_path / "m") is scores


@pytest.mark.parametrize(
    ("name", "document", "words"),
    [
        ("tokenizer.json", {"model": {"vocab": {"a": 0}}}, {"a": 0}),
        ("tokenizer.json", {"model": {"vocab": [["a", -1.0], ["b", -2.0]]}}, {"a": 0, "b": 1}),
        ("vocab.json", {"a": 0}, {"a": 0}),
        ("tokenizer.json", [1], {}),
        ("tokenizer.json", {"model": {"vocab": 3}}, {}),
    ],
)
def test_the_words_of_a_tokenizer(tmp_path, name, document, words):
    (tmp_path / name).write_text(json.dumps(document))
    assert vocabulary(tmp_path) == words
