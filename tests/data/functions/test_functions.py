"""Functions of the user's: found without running them, tried in a process of their own, told with their line."""

from __future__ import annotations

import json
import re
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from tunekit.data.functions.call import as_reward, as_scores, last_question
from tunekit.data.functions.find import FORMAT, REWARD, Function, find_function, named_apart, signature
from tunekit.data.functions.trial import rows_of, time_limit, try_format, try_reward, write_formatted
from tunekit.data.rows import arrive
from tunekit.errors import Exit, TunekitError
from tunekit.stages import STAGES

ASKED = [{"role": "user", "content": "7 + 5?"}]


def write(path: str, text: str) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def rows(path: str, *values: dict[str, Any]) -> Path:
    Path(path).write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return Path(path)


def reward(text: str, name: str = "score") -> Function:
    return find_function(f"{write('my/rewards.py', text)}:{name}", REWARD)


def row_format(text: str, name: str = "made") -> Function:
    return find_function(f"{write('my/fmt.py', text)}:{name}", FORMAT)


def refused(call: Any, *args: Any) -> TunekitError:
    with pytest.raises(TunekitError) as raised:
        call(*args)
    assert "\n" not in raised.value.message
    return raised.value


# --- finding


def test_a_function_is_found_without_running_its_file():
    file = write("my/rewards.py", "raise SystemExit\ndef score(prompts, responses, **columns): ...\n")
    function = find_function(f"{file}:score", REWARD)
    assert (function.file, function.name, function.spec) == (file, "score", "my/rewards.py:score")


def test_a_module_name_is_understood():
    write("src/utils/rewards.py", "def score(prompts, responses): ...\n")
    assert find_function("src.utils.rewards:score", REWARD).file == "src/utils/rewards.py"


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        ("my/reward.py:score", "there is no file my/reward.py", "my/rewards.py:score"),
        ("nowhere.py:score", "there is no file nowhere.py", "FILE.py:FUNCTION"),
        ("my/rewards.py", "the function is missing", "my/rewards.py:score"),
        ("my/rewards.py:scores", "has no function scores", "did you mean my/rewards.py:score?"),
        ("my/rewards.py:xyz", "has no function xyz", "it has my/rewards.py:score"),
        ("my/rewards.py:Scorer", "line 4: Scorer is a class", "def Scorer(prompts"),
        ("my/rewards.py:waiting", "line 5: waiting is async", "def waiting(prompts"),
        ("my/rewards.py:single", r"line 6: single takes \(responses\)|begins with responses", "def single(prompts"),
        ("my/rewards.py:orm", "line 7: orm begins with completions", "def orm(prompts"),
        ("my/rewards.py:none", r"line 8: none takes \(\); a reward is called with 2", "def none(prompts"),
    ],
)
def test_what_is_no_reward(spec: str, message: str, hint: str):
    write(
        "my/rewards.py",
        """\
        import os

        def score(prompts, responses): ...
        class Scorer: ...
        async def waiting(prompts, responses): ...
        def single(responses): ...
        def orm(completions, solution): ...
        def none(): ...
        """,
    )
    error = refused(find_function, spec, REWARD)
    assert error.code == Exit.USAGE
    assert re.search(message, error.message), error.message
    assert hint in str(error.hint)


def test_a_file_with_a_mistake_is_told_by_its_line():
    write("bad.py", "x = 1\ndef score(:\n")
    assert refused(find_function, "bad.py:score", REWARD).message.startswith("bad.py line 2: ")


def test_what_a_function_needs():
    text = "def score(prompts, responses, solution, level=1, *, strict, soft=0, **columns): ...\n"
    function = reward(text)
    assert signature(function, REWARD).needed == ("solution", "strict")
    assert signature(reward("def score(*values): ...\n"), REWARD).needed == ()


def test_a_function_that_is_made_elsewhere_is_believed():
    assert not signature(reward("from functools import partial as score\n"), REWARD).known
    assert not signature(reward("score = print\n"), REWARD).known


def test_a_format_gets_the_row_alone():
    assert "needs name" in refused(row_format, "def made(row, name): ...\n").message


def test_names_are_kept_apart():
    functions = [
        Function("a.py", "score"),
        Function("b.py", "score"),
        Function("c.py", "format"),
        Function("d/b.py", "score"),
    ]
    aliases = [function.alias for function in named_apart(functions, {"format"})]
    assert aliases == ["score", "b_score", "c_format", "score_2"]


# --- how a reward is called and what it may return


def test_a_reward_gets_prompts_responses_and_columns():
    seen: dict[str, Any] = {}

    def score(prompts: list[str], responses: list[str], **columns: Any) -> list[float]:
        seen.update(prompts=prompts, responses=responses, **columns)
        return [1, 0]

    chats = [[*ASKED, {"role": "assistant", "content": answer}] for answer in ("12", "13")]
    called = as_reward(score, "it")
    assert called(["12", "13"], messages=chats, solution=["12", "12"], trainer_state=None) == [1.0, 0.0]
    assert seen["prompts"] == ["7 + 5?", "7 + 5?"]
    assert seen["responses"] == ["12", "13"]
    assert seen["messages"] == [ASKED, ASKED]
    assert seen["solution"] == ["12", "12"]
    assert len(chats[0]) == 2  # ms-swift's own lists stay as they are


def test_a_reward_without_a_double_star_gets_what_it_names():
    chats = [[*ASKED, {"role": "assistant", "content": "12"}]]
    both = as_reward(lambda p, r: [len(p) + len(r)], "it")
    named = as_reward(lambda prompts, responses, level: [level[0]], "it")
    assert both(["12"], messages=chats, level=[3]) == [2.0]
    assert named(["12"], messages=chats, level=[3], solution=["12"], prompts=["mine"]) == [3.0]


def test_the_question_is_the_last_turn_of_the_user():
    parts = [{"type": "image"}, {"type": "text", "text": "What "}, {"type": "text", "text": "is it?"}]
    assert (
        last_question([*ASKED, {"role": "assistant", "content": "12"}, {"role": "user", "content": "Sure?"}]) == "Sure?"
    )
    assert last_question([{"role": "user", "content": parts}]) == "What is it?"
    assert last_question([{"role": "system", "content": "Be brief."}]) == ""


class Number:
    """As a tensor's element is one."""

    def __float__(self) -> float:
        return 0.5


def test_numbers_of_any_kind_are_scores():
    assert as_scores((True, 2, None, Number()), 4, "it") == [1.0, 2.0, None, 0.5]
    assert as_scores((value for value in (1, 2)), 2, "it") == [1.0, 2.0]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "it returned None, not a list of numbers"),
        (0.5, "it returned 0.5, not a list"),
        ("ab", "it returned 'ab', not a list"),
        ([1.0], "it returned 1 values for 2 responses"),
        ([1.0, "0.5"], "it returned '0.5' for response 2, not a finite number"),
        ([float("nan"), 1], "it returned nan for response 1"),
        ([float("inf"), 1], "it returned inf for response 1"),
        ([[1.0], 1], r"it returned \[1.0\] for response 1"),
    ],
)
def test_what_is_no_score(returned: Any, message: str):
    with pytest.raises(ValueError, match=message):
        as_scores(returned, 2, "it")


# --- what becomes of a row


@pytest.mark.parametrize(
    ("row", "prompt", "answer", "columns"),
    [
        ({"messages": ASKED, "solution": "12"}, "7 + 5?", "12", {"solution"}),
        ({"messages": [*ASKED, {"role": "assistant", "content": "12"}], "level": 1}, "7 + 5?", "12", {"level"}),
        ({"conversation": [{"user": "7 + 5?", "assistant": "12"}]}, "7 + 5?", "12", set()),
        ({"question": "7 + 5?", "answer": "12", "level": 1}, "7 + 5?", "12", {"level"}),
        ({"question": "7 + 5?", "answer": "12", "solution": "x12"}, "7 + 5?", "x12", {"answer", "solution"}),
        ({"instruction": "Add", "input": "7 + 5", "output": "12"}, "Add\n7 + 5", "12", set()),
        ({"Prompt": "7 + 5?", "target": ["12", "twelve"]}, "7 + 5?", "12", set()),
    ],
)  # fmt: skip
def test_a_row_arrives(row: dict[str, Any], prompt: str, answer: str, columns: set[str]):
    sample = arrive(row)
    assert last_question(sample.messages) == prompt
    assert sample.answer == answer
    assert set(sample.columns) == columns


def test_renamed_columns_arrive_by_their_new_names():
    assert arrive({"q": "7?", "a": "7"}, {"q": "query", "a": "solution"}).columns == {"solution": "7"}


# --- a reward, tried


SUMS = [arrive({"messages": ASKED, "solution": "12"}), arrive({"messages": ASKED, "solution": "13"})]


def test_a_reward_is_tried_in_a_process_of_its_own():
    function = reward(
        """\
        import os, sys
        print("this is no answer")
        def score(prompts, responses, solution, **columns):
            assert os.getpid() != PARENT and columns["finish_reason"] == ["stop", "stop"]
            return [float(response == wanted == "12") for response, wanted in zip(responses, solution)]
        PARENT = os.getppid()
        """
    )
    assert try_reward(function, SUMS) == [1.0, 0.0]


def test_a_reward_finds_its_neighbours_and_no_torch_of_the_current_folder():
    write("my/near.py", "VALUE = 0.25\n")
    write("torch.py", "raise RuntimeError('not this one')\n")
    function = reward(
        """\
        from near import VALUE
        import importlib.util, pathlib
        def score(prompts, responses):
            found = importlib.util.find_spec("torch")
            assert found is None or pathlib.Path(found.origin).resolve() != pathlib.Path("torch.py").resolve()
            return [VALUE for _ in responses]
        """
    )
    assert try_reward(function, SUMS) == [0.25, 0.25]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return [1.0]", "my/rewards.py line 2: score returned 1 values for 2 responses"),
        ("return ['good', 'bad']", "my/rewards.py line 2: score returned 'good' for response 1, not a finite number"),
        ("return [0 * 1e999] * 2", "my/rewards.py line 2: score returned nan for response 1, not a finite number"),
        ("return columns['answer']", "my/rewards.py line 3, in score: KeyError: 'answer'"),
        ("return helper(responses)", "my/rewards.py line 6, in helper: ZeroDivisionError: division by zero"),
        ("import json; json.loads('{')", "my/rewards.py line 3, in score: JSONDecodeError: "),
        ("raise SystemExit(3)", "my/rewards.py line 3, in score: SystemExit: 3"),
        ("import nowhere_at_all", "my/rewards.py line 3, in score: nowhere_at_all is not installed, and there is no"),
    ],
)
def test_a_reward_that_fails_is_told_by_its_line(body: str, message: str):
    function = reward(f"\ndef score(prompts, responses, **columns):\n    {body}\n\ndef helper(_):\n    return 1 / 0\n")
    assert refused(try_reward, function, SUMS).message.startswith(message)


def test_what_a_failing_reward_is_told_to_do():
    asked = reward("def score(prompts, responses, **columns): return columns['answer']\n")
    assert re.match("there is .*messages.*solution", str(refused(try_reward, asked, SUMS).hint))
    short = reward("def score(prompts, responses): return 1\n")
    assert refused(try_reward, short, SUMS).hint == (
        "def score(prompts, responses, **columns): return [a number for each response]"
    )


def test_a_file_that_cannot_be_loaded_is_told_by_its_line():
    function = reward("def score(prompts, responses): ...\nlimit = int('x')\n")
    assert refused(try_reward, function, SUMS).message.startswith("my/rewards.py line 2: ValueError: ")


def test_a_reward_that_hangs_is_ended_with_what_it_started(monkeypatch):
    monkeypatch.setenv("TUNEKIT_FUNCTION_SECONDS", "1")
    function = reward(
        """\
        import pathlib, subprocess, sys, time
        def score(prompts, responses):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            pathlib.Path("child").write_text(str(child.pid))
            time.sleep(600)
        """
    )
    error = refused(try_reward, function, SUMS)
    assert error.message == "my/rewards.py line 2: score did not answer within 1 s"
    assert "TUNEKIT_FUNCTION_SECONDS" in str(error.hint)
    pid = Path("child").read_text(encoding="utf-8")
    assert _gone(pid)


def _gone(pid: str) -> bool:
    """Whether a process has ended; as a zombie it may stay until its new parent looks."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_reward_that_crashes():
    function = reward("import os\ndef score(prompts, responses):\n    os.abort()\n")
    assert "my/rewards.py line 2: score ended its process (status -6)" in refused(try_reward, function, SUMS).message


def test_the_time_limit_is_a_number(monkeypatch):
    assert time_limit() == 30
    monkeypatch.setenv("TUNEKIT_FUNCTION_SECONDS", "soon")
    assert "must be a number" in refused(time_limit).message


# --- a format


CHATS = """\
def made(row):
    if row["q"] == "skip":
        return None
    return {"messages": [{"role": "user", "content": row["q"]}, {"role": "assistant", "content": str(row["a"])}]}
"""
RAW = ({"q": "7 + 5?", "a": 12}, {"q": "skip", "a": 0}, {"q": "Ünter?", "a": 1})


def test_a_format_is_tried_on_the_first_rows():
    made = try_format(row_format(CHATS), rows("raw.jsonl", *RAW), STAGES["sft"], 20)
    assert [row["messages"][1]["content"] for row in made] == ["12", "1"]
    assert not list(Path().glob("made*"))


def test_a_format_writes_all_rows():
    target = Path("runs/x/data/raw.jsonl")
    assert write_formatted(row_format(CHATS), rows("raw.jsonl", *RAW), target, STAGES["sft"].rows) == (2, 1)
    lines = target.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["messages"][0]["content"] for line in lines] == ["7 + 5?", "Ünter?"]
    assert [path.name for path in target.parent.iterdir()] == ["raw.jsonl"]
    assert target.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("loss", "made"),
    [
        ("sft", {"messages": [{"role": "assistant", "content": "7 + 5?"}]}),
        ("pt", {"messages": [{"role": "assistant", "content": "7 + 5?"}]}),
        ("grpo", {"q": "7 + 5?", "a": 12, "messages": [{"role": "user", "content": "7 + 5?"}]}),
    ],
)
def test_a_text_is_learned_whole_or_is_the_question(loss: str, made: dict[str, Any]):
    function = row_format("def made(row): return row['q']\n")
    assert try_format(function, rows("raw.jsonl", RAW[0]), STAGES[loss], 20) == [made]


@pytest.mark.parametrize(
    ("text", "loss", "message"),
    [
        ("def made(row): return row['text']\n", "sft", "my/fmt.py line 1, in made: KeyError: 'text', row 1 of raw"),
        ("def made(row): return [row]\n", "sft", "my/fmt.py line 1: made returned [{'q'"),
        ("def made(row): return 'x'\n", "dpo", "my/fmt.py line 1: made returned 'x', not a dict, row 1 of raw.jsonl"),
        ("def made(row): return {'messages': {1}}\n", "sft", "my/fmt.py line 1: made returned Object of type set is"),
        ("def made(row): return None\n", "sft", "my/fmt.py:made left out each of the first 20 rows of raw.jsonl"),
        ("def made(row): return {'x': 1}\n", "sft", "my/fmt.py:made makes no row for sft of row 1 of raw.jsonl: "),
    ],
)  # fmt: skip
def test_a_format_that_fails_is_told_by_its_line_and_row(text: str, loss: str, message: str):
    assert refused(try_format, row_format(text), rows("raw.jsonl", *RAW), STAGES[loss], 20).message.startswith(message)


def test_a_row_that_cannot_be_trained_on_is_named_by_its_source():
    text = (
        "def made(row): return None if row['q'] == 'skip' else {'messages': [{'role': 'user', 'content': row['q']}]}\n"
    )
    error = refused(try_format, row_format(text), rows("raw.jsonl", RAW[1], RAW[0]), STAGES["sft"], 20)
    assert "of row 2 of raw.jsonl" in error.message
    assert "a row for sft" in str(error.hint)
    assert error.code == Exit.DATA


def test_a_failing_row_leaves_nothing_behind():
    target = Path("data/raw.jsonl")
    text = "def made(row): return {'messages': [{'role': 'assistant', 'content': 10 / row['a']}]}\n"
    error = refused(write_formatted, row_format(text), rows("raw.jsonl", *RAW), target, STAGES["sft"].rows)
    assert error.message == "my/fmt.py line 1, in made: ZeroDivisionError: division by zero, row 2 of raw.jsonl"
    assert list(target.parent.iterdir()) == []


def test_a_dataset_on_a_hub_cannot_be_formatted():
    assert "download it" in str(refused(rows_of, "org/name").hint)
