"""Plan → command: the exact words, and a text that a shell reads back as the same words."""

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tunekit.engine.command import Command, build_command, child_environment
from tunekit.plan.batch import Batch
from tunekit.plan.settings import Source

OUT = Path("runs/x/output")
SHELL_MEANS_MORE = [
    "a b",
    "it's",
    '"$HOME"',
    "$(touch x)",
    "`id`",
    "a;b",
    "a\nb",
    "*",
    "~",
    "\\",
    "#",
    "é 中 🙂",
    "",
    "-1",
]
NEW_LINE = " \\\n"

words = st.one_of(
    st.sampled_from([*SHELL_MEANS_MORE, "--", "--a b", "--x=$HOME", "-x", "a\\\nb", " \\\n", "!", "{a,b}", "\t"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=10).map(lambda text: f"--{text}"),
)
names = st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True)
flags_with_words = st.lists(
    st.tuples(st.from_regex(r"--[a-z_]{1,10}", fullmatch=True), st.lists(words, max_size=3)), max_size=5
)
commands = st.builds(
    lambda flags, env: Command(("swift", "sft", *(word for flag, rest in flags for word in (flag, *rest))), env),
    flags_with_words,
    st.dictionaries(names, words, max_size=3),
)


@given(commands)
@example(Command(("swift", "sft", "--system", "--be kind; touch made"), {}))
@settings(max_examples=300)
def test_shell_text_is_read_back_as_the_same_words(command):
    parts = [*command.argv, *command.env.values()]
    assume(not any(NEW_LINE in part for part in parts))  # the join below knows nothing of quotes; a shell does
    joined = command.shell().replace(NEW_LINE, " ")
    assert shlex.split(joined) == [*(f"{name}={value}" for name, value in command.env.items()), *command.argv]


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Run a shell text in which the program `./swift` writes down the words and the variable that it gets."""
    folder = tmp_path_factory.mktemp("shell")
    program = folder / "swift"
    program.write_text('#!/bin/sh\nprintf "%s\\0" "${VALUE-unset}" "${KEY-unset}" "$@" > seen\n', encoding="utf-8")
    program.chmod(0o755)

    def run(text, interpreter="sh", **environ):
        path = {"PATH": "/usr/bin:/bin", **environ}
        ended = subprocess.run(
            [interpreter], input=text.encode(), cwd=folder, env=path, capture_output=True, check=False
        )
        made = {file.name for file in folder.iterdir()} - {"swift", "seen"}
        for name in made:
            (folder / name).unlink()
        assert (ended.returncode, ended.stdout, ended.stderr, made) == (0, b"", b"", set()), "it did something else"
        value, key, *argv = (folder / "seen").read_bytes().decode().split("\0")[:-1]
        return value, key, argv

    return run


@given(flags_with_words, words)
@example([("--system", ["--be kind; touch made", "a\\\nb"])], "$(touch made)")
@settings(max_examples=60)
def test_a_real_shell_starts_the_same_words(shell, flags, value):
    argv = [word for flag, rest in flags for word in (flag, *rest)]
    command = Command(("./swift", "sft", *argv), {"VALUE": value})
    assert shell(command.shell()) == (value, "unset", ["sft", *argv])
    assert shell(command.script(["a comment"]), "bash") == (value, "unset", ["sft", *argv])


def test_secrets_are_passed_on_by_name(shell):
    command = Command(("./swift", "sft"), {"VALUE": "v"}, ("KEY",))
    assert '\nKEY="$KEY" \\\n' in command.shell()
    assert shell(command.shell(), KEY="it's a $ecret") == ("v", "it's a $ecret", ["sft"])


@pytest.mark.parametrize("word", SHELL_MEANS_MORE)
def test_any_value_of_a_flag_reaches_the_program(make, shell, word):
    plan = make(preset="7b", system=word, target_modules=[word, "q_proj"])
    command = build_command(plan, Path("out put/x"), program=("./swift",))
    _, _, argv = shell(command.shell())
    assert ["./swift", *argv] == list(command.argv)
    assert argv[argv.index("--system") + 1] == word
    assert argv[argv.index("--target_modules") + 1 : argv.index("--target_modules") + 3] == [word, "q_proj"]


def test_one_flag_a_line(make):
    lines = build_command(make(preset="7b", gpus="2x80GB"), OUT).shell().splitlines()
    assert lines[0] == "CUDA_VISIBLE_DEVICES=0,1 \\"
    assert lines[1] == "NPROC_PER_NODE=2 \\"
    start = lines.index("swift sft \\")
    assert all(line.startswith("  --") for line in lines[start + 1 :])
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert lines[-1] == "  --add_version false"


def test_a_script_explains_itself():
    script = Command(("swift", "sft", "--x", "1"), {"A": "b"}).script(["Written by tunekit.", "Batch 8 × 4."])
    assert script == (
        "#!/usr/bin/env bash\n# Written by tunekit.\n# Batch 8 × 4.\nset -euo pipefail\n\n"
        "A=b \\\nswift sft \\\n  --x 1\n"
    )


def test_a_comment_of_several_lines_stays_a_comment(shell):
    text = Command(("./swift", "sft"), {}).script(["harmless\ntouch made", "x\r\ntouch made"])
    assert shell(text, "bash") == ("unset", "unset", ["sft"])


def test_build_takes_everything_from_the_plan(make):
    plan = make(preset="7b", gpus="2x80GB", report_to=["swanlab"], environ={"SWANLAB_API_KEY": "planted"})
    command = build_command(plan, OUT)
    assert command.argv[:2] == ("swift", "sft")
    assert dict(command.env) == {**plan.env, "SWANLAB_LOG_DIR": "runs/x/swanlog"}
    assert command.secrets == ("SWANLAB_API_KEY",)
    rest = list(command.argv[2:])
    for flag, setting in plan.settings.items():
        assert rest[: 1 + len(setting.render())] == [f"--{flag}", *setting.render()]
        rest = rest[1 + len(setting.render()) :]
    assert rest == ["--output_dir", "runs/x/output", "--add_version", "false"]


def test_build_for_a_resume_and_another_program(make):
    plan = make("pt", preset="7b").changed({}, Source("retry", "1"), "less memory", Batch(4, 8))
    command = build_command(plan, OUT, OUT / "checkpoint-20", ("/v/bin/python", "-m", "swift.cli.main"))
    assert command.argv[:4] == ("/v/bin/python", "-m", "swift.cli.main", "pt")
    assert command.argv[-2:] == ("--resume_from_checkpoint", "runs/x/output/checkpoint-20")
    place = command.argv.index("--per_device_train_batch_size")
    assert command.argv[place : place + 4] == (
        "--per_device_train_batch_size",
        "4",
        "--gradient_accumulation_steps",
        "8",
    )


def test_no_flag_stands_twice(make):
    for name in ("7b", "20b-moe", "cpu"):
        argv = build_command(make("dpo", preset=name, gpus="2x80GB"), OUT).argv
        flags = [word for word in argv if word.startswith("--")]
        assert len(flags) == len(set(flags)) > 20


def test_what_the_shell_says_of_a_launcher_counts_for_several_processes_only():
    shell = {"PATH": "/bin", "NPROC_PER_NODE": "4", "NNODES": "2", "NODE_RANK": "1"}
    single = Command(("swift",), {"CUDA_VISIBLE_DEVICES": "0"})
    assert child_environment(single, shell) == {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0"}
    several = Command(("swift",), {"NPROC_PER_NODE": "2"})
    assert child_environment(several, shell) == shell | {"NPROC_PER_NODE": "2"}


def test_what_swanlab_misreads_does_not_reach_it():
    command = Command(("swift",), {})
    shell = {"PATH": "/bin", "SWANLAB_PROJECT": "mine", "SWANLAB_TOKEN": "planted-token"}
    assert child_environment(command, shell) == {"PATH": "/bin", "SWANLAB_API_KEY": "planted-token"}
    both = child_environment(command, shell | {"SWANLAB_API_KEY": "planted-key"})
    assert both == {"PATH": "/bin", "SWANLAB_API_KEY": "planted-key"}


@pytest.mark.parametrize("nodes", ["1", "2"])
def test_several_machines_train_where_the_plan_has_counted_them(make, monkeypatch, nodes):
    monkeypatch.setenv("NNODES", nodes)
    command = build_command(make(gpus="1x80GB", preset="7b"), OUT)
    assert child_environment(command, {"NNODES": nodes}).get("NNODES") == (None if nodes == "1" else nodes)
