"""How functions of the user's reach ms-swift: its registry, the plugin, the command, a run and its resume."""

from __future__ import annotations

import ast
import json
import os
import runpy
import shlex
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from running import call, make_rows, make_workplace, tunekit

from tunekit.data.functions.find import Function
from tunekit.engine import rewards
from tunekit.engine.locate import find_package
from tunekit.engine.plugin import Files, formatted_rows, plugin_text, with_files
from tunekit.errors import Exit, TunekitError
from tunekit.plan.plan import Plan
from tunekit.plan.settings import COMMAND_LINE, Setting
from tunekit.runs import functions

REWARDS = """\
def right(prompts, responses, solution, **columns):
    return [float(response == wanted) for response, wanted in zip(responses, solution)]

def short(prompts, responses):
    return [1.0 for _ in responses]
"""
FORMAT = """\
def made(row):
    return {"messages": [{"role": "user", "content": row["q"]}], "solution": row["a"]}
"""
QUESTION = {"messages": [{"role": "user", "content": "7 + 5?"}], "solution": "12"}
GRPO = ("rlhf", "--rlhf-type", "grpo", "--model", "tiny", "--dataset", "data.jsonl", "--name", "try")
MINE = ("--reward", "my/rewards.py:right", "my/rewards.py:short")


@pytest.fixture(autouse=True)
def place(isolated: Path) -> Path:
    make_workplace(isolated)
    make_rows(isolated / "data.jsonl", *[QUESTION] * 8)
    make_rows(isolated / "raw.jsonl", *[{"q": "7 + 5?", "a": "12"}] * 8)
    (isolated / "my").mkdir()
    (isolated / "my/rewards.py").write_text(REWARDS, encoding="utf-8")
    (isolated / "my/fmt.py").write_text(FORMAT, encoding="utf-8")
    return isolated


def planned(*words: str) -> dict[str, Any]:
    result = call(*GRPO, *words, "--json")
    assert result.code == 0, result.err
    document: dict[str, Any] = json.loads(result.out)
    return document


def words_of(shell: str) -> list[str]:
    """The words of a command over several lines."""
    return shlex.split(shell.replace("\\\n", " "))


def flag(argv: list[str], name: str) -> list[str]:
    """The words of a flag."""
    rest = argv[argv.index(name) + 1 :]
    return rest[: next((index for index, word in enumerate(rest) if word.startswith("--")), len(rest))]


def refused(*words: str, code: int = 2) -> str:
    result = call(*words)
    assert result.code == code, result.err
    assert "Traceback" not in result.err
    return " ".join(line for line in result.err.splitlines() if line.startswith(("error: ", "hint: ")))


# --- the registry


@pytest.mark.engine
def test_the_rewards_of_ms_swift_are_those_that_were_noted():
    root = find_package("swift")
    assert root is not None
    assert rewards.registered(root / "rewards/orm.py") == rewards.BUILT_IN


def test_rewards_of_a_plugin_of_the_users():
    Path("own.py").write_text(
        textwrap.dedent(
            """\
            class Numbers(ORM):
                def __call__(self, completions, solution, level, soft=1, **kwargs): ...
            orms['numbers'] = Numbers
            orms['made'] = make()
            orms[name] = Numbers
            """
        ),
        encoding="utf-8",
    )
    assert rewards.registered(Path("own.py")) == {"numbers": ("solution", "level"), "made": ()}
    document = planned("--reward", "numbers", *MINE[1:], "--external_plugins", "own.py")
    assert flag(document["argv"], "--external_plugins") == ["own.py", "runs/try/plugin.py"]
    assert flag(document["argv"], "--reward_funcs") == ["numbers", "right", "short"]


def test_wrong_names_are_told():
    assert "did you mean format" in refused(*GRPO, "--reward", "fromat", "--dry-run")
    assert "accuracy" in refused(*GRPO, "--reward", "zzz", "--dry-run")
    assert "named twice" in refused(*GRPO, "--reward", "format", "format", "--dry-run")
    assert "are the same" in refused(*GRPO, "--reward", "format", "--reward_funcs", "format", "--dry-run")


@pytest.mark.parametrize(
    ("loss", "hint"), [("dpo", "tunekit grpo --reward"), ("ppo", "--reward_model"), ("ppo", "tunekit grpo --reward")]
)
def test_only_grpo_takes_rewards(loss: str, hint: str):
    words = ("rlhf", "--rlhf-type", loss, *GRPO[3:], *MINE, "--dry-run")
    told = refused(*words)
    assert f"--reward is for GRPO, not for {loss}" in told
    assert hint in told


def test_rewards_of_sft_are_refused():
    assert "not for sft" in refused("sft", *GRPO[3:], "--reward", "format", "--dry-run")


def test_weights_are_numbers_one_for_each():
    assert "takes numbers, not much" in refused(*GRPO, *MINE, "--reward-weights", "1", "much", "--dry-run")
    assert "there are 1 --reward_weights, and the rewards are 2 (right, short)" in refused(
        *GRPO, *MINE, "--reward-weights", "1", "--dry-run"
    )
    assert flag(planned(*MINE, "--reward-weights", "1", "0.5")["argv"], "--reward_weights") == ["1", "0.5"]


# --- the plugin


def loaded(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a plugin registers with a stand-in for ms-swift."""
    swift = ModuleType("swift.rewards")
    swift.orms = {}
    monkeypatch.setitem(sys.modules, "swift", ModuleType("swift"))
    monkeypatch.setitem(sys.modules, "swift.rewards", swift)
    monkeypatch.setattr(sys, "path", list(sys.path))
    runpy.run_path(str(plugin))
    return swift.orms


def a_plan(make: Any, *own: Function, **more: Any) -> Plan:
    return replace(make("grpo", reward_funcs=["right"]), rewards=own, **more)


def test_the_plugin_registers_what_scores(make, monkeypatch, tmp_path):
    plan = a_plan(make, Function("my/rewards.py", "right", "right"), Function("my/rewards.py", "short", "b_short"))
    plugin = Path("runs/x/plugin.py")
    plugin.parent.mkdir(parents=True)
    plugin.write_text(plugin_text(plan, plugin), encoding="utf-8")
    assert "# 'b_short' is 'my/rewards.py:short'\n" in plugin.read_text(encoding="utf-8")
    assert str(tmp_path) not in plugin.read_text(encoding="utf-8")
    monkeypatch.chdir("/")  # where ms-swift is started does not matter
    orms = loaded(tmp_path / plugin, monkeypatch)
    chats = [[QUESTION["messages"][0], {"role": "assistant", "content": answer}] for answer in ("12", "13")]
    right, short = orms["right"](args=None), orms["b_short"](args=None)
    assert (right.__name__, short.__name__) == ("right", "b_short")
    assert right(["12", "13"], messages=chats, solution=["12", "12"], trainer_state=None) == [1.0, 0.0]
    assert short(["12", "13"], messages=chats) == [1.0, 1.0]


def test_a_file_elsewhere_is_named_from_the_root(make, tmp_path_factory):
    file = tmp_path_factory.mktemp("else") / "r.py"
    plan = a_plan(make, Function(str(file), "right", "right"))
    assert f"register('right', '{file}', 'right')" in plugin_text(plan, Path("runs/x/plugin.py"))


def test_the_users_file_is_not_run_before_training(make, monkeypatch):
    """To merge and to chat, ms-swift loads the plugin again, perhaps when the file is gone."""
    plugin = Path("plugin.py")
    plugin.write_text(plugin_text(a_plan(make, Function("gone.py", "right", "right")), plugin), encoding="utf-8")
    orms = loaded(plugin, monkeypatch)
    with pytest.raises(FileNotFoundError):
        orms["right"](args=None)


def test_a_plan_of_a_run_is_read_back(make):
    plan = a_plan(make, Function("a.py", "f", "f"), row_format=Function("b.py", "g", "g"))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_formatted_rows_have_a_place_each(make):
    plan = replace(
        make(),
        settings={
            "dataset": Setting(["a/x.jsonl", "b/x.csv#500", "a/x.jsonl#3"], COMMAND_LINE),
            "val_dataset": Setting(["v.json"], COMMAND_LINE),
        },
        row_format=Function("f.py", "g"),
    )
    files = Files.of_run(Path("runs/x"))
    targets = {name: str(target) for name, target in formatted_rows(plan, files).items()}
    assert targets == {
        "a/x.jsonl": "runs/x/data/x.jsonl",
        "b/x.csv#500": "runs/x/data/x-2.jsonl",
        "a/x.jsonl#3": "runs/x/data/x.jsonl",
        "v.json": "runs/x/data/v.jsonl",
    }
    settled = with_files(plan, files)
    assert settled.get("dataset") == ["runs/x/data/x.jsonl", "runs/x/data/x-2.jsonl#500", "runs/x/data/x.jsonl#3"]
    assert settled.get("val_dataset") == ["runs/x/data/v.jsonl"]
    assert with_files(replace(plan, row_format=None), files).get("dataset") == plan.get("dataset")


# --- the command line


def test_a_dry_run_runs_nothing_of_the_users():
    Path("my/rewards.py").write_text(f"open('ran', 'w')\n{REWARDS}", encoding="utf-8")
    result = call(*GRPO, *MINE, "format", "--format", "my/fmt.py:made", "--dry-run")
    assert result.code == 0
    assert not Path("ran").exists()
    assert not Path("runs").exists()
    argv = words_of(result.out)
    assert flag(argv, "--external_plugins") == ["runs/try/plugin.py"]
    assert flag(argv, "--dataset") == ["runs/try/data/data.jsonl"]
    assert "right of my/rewards.py, short of my/rewards.py, format of ms-swift" in " ".join(result.err.split())
    assert "made when the run starts" in result.err


def test_a_script_brings_what_it_needs():
    raw = ("rlhf", "--rlhf-type", "grpo", "--model", "tiny", "--dataset", "raw.jsonl")
    words = (*raw, *MINE, "--format", "my/fmt.py:made", "--write", "go.sh")
    for _ in range(2):  # over its own files it may write again
        result = call(*words)
        assert result.code == 0, result.err
    script = Path("go.sh").read_text(encoding="utf-8")
    assert "# Needs go.plugin.py and my/rewards.py" in script
    argv = words_of(script.partition("pipefail")[2])
    assert flag(argv, "--external_plugins") == ["go.plugin.py"]
    assert Path("go.plugin.py").read_text(encoding="utf-8").endswith("register('short', 'my/rewards.py', 'short')\n")
    (rows,) = flag(argv, "--dataset")
    assert json.loads(Path(rows).read_text(encoding="utf-8").splitlines()[0]) == QUESTION
    assert not Path("runs").exists()


def test_a_script_writes_over_nobodys_files():
    Path("go.plugin.py").write_text("mine", encoding="utf-8")
    assert "tunekit did not write it" in refused(*GRPO, *MINE, "--write", "go.sh")
    assert Path("go.plugin.py").read_text(encoding="utf-8") == "mine"
    assert not Path("go.sh").exists()


@pytest.mark.parametrize(
    ("words", "data", "message"),
    [
        (MINE, [{"messages": QUESTION["messages"]}] * 8, "right needs the column solution, and there is none in"),
        (("--reward", "cosine"), [{"messages": QUESTION["messages"]}] * 8, "cosine needs the column solution"),
        (("--reward", "my/rewards.py:by_answer"), [{"query": "7?", "answer": "7"}] * 8, "which ms-swift takes for the"),
        (MINE, [QUESTION], "a step takes 4 prompts, and the dataset has 1: no step would be made"),
    ],
)  # fmt: skip
def test_what_a_dry_run_can_tell(words: tuple[str, ...], data: list[dict[str, Any]], message: str, place: Path):
    with Path("my/rewards.py").open("a", encoding="utf-8") as file:
        file.write("\ndef by_answer(prompts, responses, answer): ...\n")
    make_rows(place / "data.jsonl", *data)
    result = call(*GRPO, *words, "--dry-run")
    assert result.code == Exit.DATA
    assert message in " ".join(result.err.split())


def test_a_run_tries_its_rewards_and_keeps_its_plugin(place: Path):
    ended = tunekit(place, *GRPO, *MINE, "--save_steps", "2")
    told = " ".join(ended.err.split())
    assert ended.code == 0, ended.err
    assert "right gives 1, 1, 1 for the dataset's own answers to the first 3 rows of data.jsonl" in told
    assert "register(" in Path("runs/try/plugin.py").read_text(encoding="utf-8")
    script = Path("runs/try/attempts/1/command.sh").read_text(encoding="utf-8")
    assert f"--external_plugins {place}/runs/try/plugin.py" in script
    assert "--external_plugins runs/try/plugin.py" in Path("runs/try/command.sh").read_text(encoding="utf-8")


def test_a_reward_of_ms_swift_needs_its_package(make, monkeypatch):
    plan = make("grpo", reward_funcs=["format", "accuracy"])
    monkeypatch.setattr(functions, "find_package", {"math_verify": Path()}.get)
    assert functions.try_functions(plan, Files.of_run(Path("runs/x"))) == []
    monkeypatch.setattr(functions, "find_package", {}.get)
    with pytest.raises(TunekitError, match="the reward accuracy needs math_verify, which is not installed"):
        functions.try_functions(plan, Files.of_run(Path("runs/x")))


def test_a_reward_that_gives_nothing_to_right_answers_is_asked_about(place: Path):
    (place / "my/rewards.py").write_text(
        "def right(prompts, responses): return [0] * len(responses)\n", encoding="utf-8"
    )
    ended = tunekit(place, *GRPO, "--reward", "my/rewards.py:right")
    assert "right gives 0, 0, 0" in ended.err
    assert "is that meant?" in " ".join(ended.err.split())


def test_a_run_whose_reward_fails_does_not_begin(place: Path):
    (place / "my/rewards.py").write_text("def right(prompts, responses): return [1]\n", encoding="utf-8")
    ended = tunekit(place, *GRPO, "--reward", "my/rewards.py:right")
    assert ended.code == 2
    assert "error: my/rewards.py line 1: right returned 1 values for 3 responses" in ended.err
    assert not Path("runs").exists()


def test_a_run_whose_format_fails_late_leaves_nothing(place: Path):
    make_rows(place / "data.jsonl", *[{"q": "7?", "a": "7"}] * 30, {"q": "no answer"})
    ended = tunekit(place, *GRPO, "--reward", "format", "--format", "my/fmt.py:made")
    assert ended.code == 2, ended.err
    assert "my/fmt.py line 2, in made: KeyError: 'a', row 31 of data.jsonl" in " ".join(ended.err.split())
    assert list(Path("runs").iterdir()) == []


def test_a_resumed_run_goes_on_with_its_rows(place: Path):
    """The sources may be gone, the format changed: what is learned stays as it was."""
    make_rows(place / "data.jsonl", *[{"q": "7?", "a": "7"}] * 8)
    words = (*GRPO, "--reward", "my/rewards.py:right", "--format", "my/fmt.py:made", "--save_steps", "2")
    first = tunekit(place, *words, fake={"die": "crash", "at": 3, "die_at": 3})
    assert first.code == 1, first.err
    made = Path("runs/try/data/data.jsonl")
    before = made.read_bytes()
    assert json.loads(before.splitlines()[0])["solution"] == "7"
    (place / "data.jsonl").unlink()
    Path("runs/try/plugin.py").unlink()
    future = made.stat().st_mtime + 100
    os.utime("my/fmt.py", (future, future))
    Path("elsewhere").mkdir()
    again = tunekit(place / "elsewhere", "resume", "../runs/try")
    assert again.code == 0, again.err
    assert made.read_bytes() == before
    assert Path("runs/try/plugin.py").is_file()
    assert "my/fmt.py was changed since, and is not run again" in " ".join(again.err.split())
    script = Path("runs/try/attempts/2/command.sh").read_text(encoding="utf-8")
    assert f"--dataset {place}/runs/try/data/data.jsonl" in script


def test_a_format_needs_the_data(place: Path):
    assert (
        "works on files"
        in tunekit(place, *GRPO[:6], "org/name", "--reward", "format", "--format", "my/fmt.py:made").err
    )


def test_a_missing_weight_is_not_counted_for_a_model(make):
    plan = make("grpo", reward_funcs=["format"], reward_model=["m"], reward_weights=["1", "2"])
    rewards.check_weights(plan)
    with pytest.raises(TunekitError, match="the rewards are 1"):
        rewards.check_weights(make("grpo", reward_funcs=["format"], reward_weights=["1", "2"]))


@pytest.mark.parametrize("file", ['o/x"+open("PWNED","w").name+".py', 'a\n\'""".py', "\u2028import os.py"])
def test_no_name_of_a_file_becomes_code(make, file):
    """Whatever a path says, the plugin holds it as a text."""
    reward = Function(file, "f", 'x"+open("PWNED","w").name+"_f')
    plan = replace(make(), rewards=(reward,))
    tree = ast.parse(plugin_text(plan, Path("runs/x/plugin.py")))
    call = tree.body[-1].value
    assert [type(word) for word in call.args] == [ast.Constant] * 3
    assert [call.args[0].value, call.args[2].value] == [reward.alias, "f"]
    calls = [node for node in tree.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    assert len(calls) == 1
