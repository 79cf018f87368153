"""Rows of every shape, and what each stage makes of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.data.cells import ROLES_OF_COLUMNS
from tunekit.data.check import row_problem
from tunekit.data.normal import NormalRow, normal_row
from tunekit.data.stage_rows import SHAPES_BY_NAME, stage_rows
from tunekit.data.turns import ShapelessRow

Q, A, W = "What is AI?", "A field.", "No idea."


def user(text=Q):
    return {"role": "user", "content": text}


def assistant(text=A):
    return {"role": "assistant", "content": text}


def system(text="Be kind."):
    return {"role": "system", "content": text}


ANSWERED = {"messages": [user(), assistant()]}
PAIR = {"messages": [user(), assistant()], "rejected_response": W}
HUMAN, GPT = {"from": "human", "value": Q}, {"from": "gpt", "value": A}
RATED = {
    "annotations": [{"Helpfulness": {"Rating": mark}, "Visual Faithfulness": {"Rating": "N/A"}} for mark in ("2", "5")],
    "model": ["a", "b"],
    "response": [W, A],
}

SFT = {
    "messages": ANSWERED,
    "messages as text": {"messages": json.dumps(ANSWERED["messages"])},
    "sharegpt": {"conversations": [HUMAN, GPT]},
    "sharegpt in pairs": {"conversation": [{"human": Q, "assistant": A}]},
    "gemini": {"messages": [user(), {"role": "model", "content": A}]},
    "alpaca": {"instruction": Q, "output": A},
    "query and response": {"query": Q, "response": A},
    "several answers": {"question": Q, "answers": [A, W]},
    "prompt and completion": {"prompt": Q, "completion": A},
    "a prompt of messages": {"prompt": [user()], "completion": [assistant()]},
    "preferences": {"prompt": Q, "chosen": A, "rejected": W},
    "a good answer": {"prompt": Q, "completion": A, "label": True},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": Q}]}, assistant()]},
}


@pytest.mark.parametrize("shape", SFT)
def test_rows_to_answer(shape):
    assert stage_rows(normal_row(SFT[shape]), "sft") == [ANSWERED]


DPO = {
    "its own": PAIR,
    "text": {"prompt": Q, "chosen": A, "rejected": W},
    "objects": {"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": W}},
    "messages": {"prompt": [user()], "chosen": [assistant()], "rejected": [assistant(W)]},
    "whole conversations": {"chosen": [user(), assistant()], "rejected": [user(), assistant(W)]},
    "with the question again": {"prompt": Q, "chosen": [user(), assistant()], "rejected": [user(), assistant(W)]},
    "alpaca": {"instruction": Q, "input": "", "chosen": A, "rejected": W},
    "rejected messages": {"messages": ANSWERED["messages"], "rejected_messages": [user(), assistant(W)]},
    "hh-rlhf": {"chosen": f"\n\nHuman: {Q}\n\nAssistant: {A}", "rejected": f"\n\nHuman: {Q}\n\nAssistant: {W}"},
    "rlhfv": {"text": json.dumps({"question": Q, "chosen": A, "rejected": W}), "ds_name": "x"},
    "vlfeedback_paired": {"id": "1", "prompt": Q, "models": ["a", "b"], "completions": RATED},
}


@pytest.mark.parametrize("shape", DPO)
def test_pairs(shape):
    assert stage_rows(normal_row(DPO[shape]), "dpo") == [PAIR]


def test_a_pair_of_long_answers_is_two_conversations():
    longer = [user(), assistant(W), user("And?"), assistant("Ah.")]
    row = {"chosen": ANSWERED["messages"], "rejected": longer}
    assert stage_rows(normal_row(row), "dpo") == [{**ANSWERED, "rejected_messages": longer}]


def test_kto_rows_and_pairs():
    for label in (True, 1, "true", "good"):
        row = {"prompt": Q, "completion": A, "label": label}
        assert stage_rows(normal_row(row), "kto") == [{**ANSWERED, "label": True}]
    tagged = {"conversations": [HUMAN, GPT], "kto_tag": False}
    assert stage_rows(normal_row(tagged), "kto") == [{**ANSWERED, "label": False}]
    assert stage_rows(normal_row(PAIR), "kto") == [
        {**ANSWERED, "label": True},
        {"messages": [user(), assistant(W)], "label": False},
    ]


def test_prompts_keep_what_a_reward_needs():
    row = {"question": Q, "answer": "42", "level": 3}
    assert stage_rows(normal_row(row), "grpo") == [{"messages": [user()], "solution": "42", "level": 3}]
    solved = {"problem": Q, "solution": "42"}
    assert stage_rows(normal_row(solved), "grpo") == [{"messages": [user()], "solution": "42"}]
    assert stage_rows(normal_row({"prompt": [system(), user()]}), "grpo") == [{"messages": [system(), user()]}]


def test_plain_text_is_for_pre_training():
    row = normal_row({"text": "Some text."})
    assert stage_rows(row, "pt") == [{"messages": [assistant("Some text.")]}]
    with pytest.raises(ShapelessRow, match="asks nothing"):
        stage_rows(row, "sft")


def test_classes():
    for row in ({"text": Q, "label": 2}, {"text": Q, "label": "2"}, {"messages": [user(), assistant()], "label": 2}):
        assert stage_rows(normal_row(row), "seq_cls") == [{"messages": [user()], "label": 2}]
    with pytest.raises(ShapelessRow, match="the number of its class"):
        stage_rows(normal_row({"text": Q, "label": "spam"}), "seq_cls")


@pytest.mark.parametrize(
    "row",
    [
        {"query": Q, "positive": A, "negative": [W]},
        {"anchor": Q, "positives": [A], "negatives": [W]},
        {"query": Q, "pos": [A], "neg": [W]},
        {"messages": [user()], "positive_messages": [[user(A)]], "negative_messages": [[user(W)]]},
    ],
)
def test_texts_near_a_text(row):
    expected = {"messages": [user()], "positive_messages": [[user(A)]], "negative_messages": [[user(W)]]}
    assert stage_rows(normal_row(row), "embedding") == [expected]
    assert stage_rows(normal_row(row), "reranker") == [expected]


def test_two_sentences_are_near():
    row = {"sentence1": Q, "sentence2": A, "label": 1}
    made = {"messages": [user()], "positive_messages": [[user(A)]]}
    assert stage_rows(normal_row(row), "embedding") == [made]


def test_instruction_and_input_are_one_question_and_history_stands_before():
    row = {"instruction": "Add.", "input": "1+1", "output": "2", "system": "Be kind.", "history": [["Hi", "Hello"]]}
    turns = [system(), user("Hi"), assistant("Hello"), user("Add.\n1+1"), assistant("2")]
    assert stage_rows(normal_row(row), "sft") == [{"messages": turns}]


SEEN = {"messages": [user(f"<image>{Q}"), assistant()], "images": ["a.png"]}


class TestPictures:
    @pytest.mark.parametrize(
        "row",
        [
            {"image": "a.png", "conversations": [{"from": "user", "value": Q}, {"from": "assistant", "value": A}]},
            {"image": "a.png", "conversations": [{"from": "human", "value": f"<image>{Q}"}, GPT]},
            {"images": ["a.png"], "prompt": Q, "response": A},
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": Q}]},
                    assistant(),
                ]
            },
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "a.png"}}, {"type": "text", "text": Q}],
                    },
                    assistant(),
                ]
            },
        ],
        ids=["vlquery_json", "llava", "columns", "qwen", "openai"],
    )
    def test_a_picture(self, row):
        assert stage_rows(normal_row(row), "sft") == [SEEN]

    def test_plain_dpo(self):
        row = {"image": "a.png", "prompt": Q, "chosen": A, "rejected": W}
        assert stage_rows(normal_row(row), "dpo") == [{**SEEN, "rejected_response": W}]

    def test_more_places_than_pictures(self):
        row = {"image": "a.png", "prompt": f"<image><image>{Q}", "response": A}
        with pytest.raises(ShapelessRow, match="2 <image> and 1 image"):
            stage_rows(normal_row(row), "sft")


CALL = {"id": "b", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
OTHER = {"id": "c", "type": "function", "function": {"name": "now", "arguments": {}}}
RESULTS = [
    {"role": "tool", "tool_call_id": "c", "content": "noon"},
    {"role": "tool", "tool_call_id": "b", "content": {"sum": 2}},
]


class TestTools:
    def test_calls_of_openai(self):
        called = {"role": "assistant", "content": None, "tool_calls": [CALL, OTHER]}
        row = {"messages": [user(), called, *RESULTS, assistant()], "tools": [{"name": "add"}]}
        (made,) = stage_rows(normal_row(row), "sft")
        assert [turn["role"] for turn in made["messages"]] == [
            *("user", "tool_call", "tool_call", "tool_response", "tool_response", "assistant")
        ]
        assert json.loads(made["messages"][1]["content"]) == {"name": "add", "arguments": {"a": 1}}
        assert [turn["content"] for turn in made["messages"][3:5]] == ['{"sum": 2}', "noon"], (
            "in the order of the calls"
        )
        assert made["tools"] == '[{"name": "add"}]'

    def test_calls_of_anthropic(self):
        use = {"type": "tool_use", "id": "1", "name": "add", "input": {"a": 1}}
        result = {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "2"}]}
        turns = [user(), {"role": "assistant", "content": [{"type": "text", "text": "Well."}, use]}]
        row = {"messages": [*turns, {"role": "user", "content": [result]}, assistant()]}
        (made,) = stage_rows(normal_row(row), "sft")
        assert [(turn["role"], turn["content"]) for turn in made["messages"]] == [
            ("user", Q),
            ("assistant", "Well."),
            ("tool_call", '{"name": "add", "arguments": {"a": 1}}'),
            ("tool_response", "2"),
            ("assistant", A),
        ]

    def test_calls_of_sharegpt(self):
        turns = [HUMAN, {"from": "function_call", "value": "{}"}, {"from": "observation", "value": "2"}, GPT]
        (made,) = stage_rows(normal_row({"conversations": turns}), "sft")
        assert [turn["role"] for turn in made["messages"]] == ["user", "tool_call", "tool_response", "assistant"]

    def test_a_thought_stands_before_the_answer(self):
        row = {"messages": [user(), assistant() | {"reasoning_content": "Hm."}]}
        (made,) = stage_rows(normal_row(row), "sft")
        assert made["messages"][1]["content"] == f"<think>\nHm.\n</think>\n\n{A}"


def test_columns_that_are_named():
    row = {"ask": Q, "reply": A, "prompt": "another"}
    assert stage_rows(normal_row(row, {"prompt": "ask", "response": "reply"}), "sft") == [ANSWERED]
    nested = {"data": {"q": Q}, "a": A}
    assert stage_rows(normal_row(nested, {"prompt": "data.q", "response": "a"}), "sft") == [ANSWERED]


@pytest.mark.parametrize(
    ("row", "target", "why"),
    [
        ({"id": 1}, "sft", "neither a conversation, a question nor a text among id"),
        ({"messages": []}, "sft", "neither"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, "sft", "message 1 has the role 'nobody'"),
        ({"messages": [user(), {"role": "assistant", "content": None}]}, "sft", "message 2 has no content"),
        ({"messages": [user()]}, "sft", "ends with a turn of user"),
        ({"prompt": Q, "response": A}, "dpo", "needs a rejected answer"),
        ({"prompt": Q, "response": A}, "kto", "needs a label"),
        ({"prompt": Q, "response": A, "label": False}, "sft", "marked as bad"),
        ({"prompt": Q, "chosen": A, "rejected": A}, "dpo", "the same"),
        ({"chosen": A, "rejected": W}, "dpo", "no question before"),
        ({"text": Q}, "grpo", "asks nothing"),
        ({"prompt": Q, "completions": [{"response": A}]}, "dpo", "no rating"),
        ({"prompt": Q, "response": {"deep": [1]}}, "sft", "neither a text nor messages|no role"),
    ],
)
def test_rows_that_cannot_be_converted(row, target, why):
    with pytest.raises(ShapelessRow, match=why):
        stage_rows(normal_row(row), target)


CELLS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "type", "text", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
COLUMNS = sorted({name for names in ROLES_OF_COLUMNS.values() for name in names[:2]})


@given(st.dictionaries(st.sampled_from(COLUMNS), CELLS, max_size=5), st.sampled_from(sorted(SHAPES_BY_NAME)))
def test_any_row_is_converted_well_or_refused(row, target):
    made, why = [], ""
    try:
        made = stage_rows(normal_row(row), target)
    except ShapelessRow as error:
        why = str(error)
    assert bool(made) != bool(why)
    assert not [problem for one in made if (problem := row_problem(one, SHAPES_BY_NAME[target], target))]


def test_the_row_itself_is_not_changed():
    row = {"messages": [user()], "image": "a.png", "x": 1}
    before = json.dumps(row)
    assert isinstance(normal_row(row), NormalRow)
    assert json.dumps(row) == before
