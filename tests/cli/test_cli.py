"""The command line: what it takes, what it prints and where, how it ends."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from running import (
    SECRET_TOKEN,
    SFT,
    Started,
    call,
    environment,
    make_model,
    make_rows,
    make_workplace,
    tunekit,
)
from tokenized import lengths_of, make_tokenized

import tunekit as package
from tunekit.cli.app import COMMANDS, command_of
from tunekit.cli.data import BUILDERS

BASE = ("--model", "tiny", "--dataset", "data.jsonl")
DRY = ("sft", *BASE, "--dry-run")
JSON = ("sft", *BASE, "--json")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_workplace(tmp_path)


def refused(*argv: str, code: int = 2) -> str:
    """The error line and the hint of a call that must be refused: nothing on stdout, nothing done."""
    result = call(*argv)
    assert result.code == code, result.err
    assert result.out == ""
    assert "Traceback" not in result.err
    assert "fault of tunekit" not in result.err
    lines = [line for line in result.err.splitlines() if line.startswith(("error: ", "hint: "))]
    assert [line[:5] for line in lines] in (["error"], ["error", "hint:"])
    assert len(lines[0]) > len("error: ")
    assert not Path("runs").exists()
    return "\n".join(lines)


def plan(*argv: str) -> dict[str, Any]:
    """The plan that ``--json`` prints."""
    result = call(*JSON, *argv)
    assert result.code == 0, result.err
    document: dict[str, Any] = json.loads(result.out)
    return document


def value(flag: str, *argv: str) -> Any:
    return plan(*argv)["settings"][flag]["value"]


def argv_of(shell: str) -> list[str]:
    """The words of a command that a shell would read."""
    return shlex.split(shell.replace("\\\n", " "))


# What is refused.


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--lora_rnak", "8"), "did you mean --lora_rank"),
        (("--lora_ran", "8"), "--lora_ran is not a flag"),  # ms-swift would take it for --lora_rank
        (("--beta", "0.1"), "tunekit rlhf"),
        (("--preset", "8b-tigth"), "did you mean 8b-tight?"),
        (("--preset", "absent.toml"), "absent.toml does not exist"),
        (("--with", "stabel"), "did you mean stable?"),
        (("--with", "stable,absent"), "no overlay absent"),
        (("--gpus", "nonsense"), "--gpus nonsense"),
        (("--gpus", "H1000"), "did you mean h100"),
        (("--gpus", "0"), "--gpus 0"),
        (("--gpus", "4"), "this machine shows 0 GPUs"),
        (("--gpus", "0x24GB"), "at least one GPU"),
        (("--gpus", "-1"), "--gpus -1"),
        (("--gradient_accumulation_steps", "0"), "1 or more"),
        (("--gradient_accumulation_steps", "4", "--effective-batch", "64"), "exclude each other"),
        (("--auto_find_batch_size", "true"), "tunekit's to set"),
        (("--use_ray", "true"), "tunekit's to set"),
        (("--resume_from_checkpoint", "x"), "tunekit resume"),
        (("--add_version", "true"), "--name"),
        (("--rlhf_type", "dpo"), "tunekit dpo"),
        (("--effective-batch", "16"), "32 or more"),
        (("--effective-batch", "0"), "32 or more"),
        (("--effective-batch", "-40"), "32 or more"),
        (("--micro-batch", "0"), "1 or more"),
        (("--micro-batch", "many"), "many"),
        (("--micro-batch", "5", "--effective-batch", "32"), "--micro-batch 5 does not divide 32"),
        (("--micro-batch", "4", "--per_device_train_batch_size", "4"), "are the same"),
        (("--max_length", "long"), "whole number"),
        (("--learning_rate", "fast"), "a number"),
        (("--packing", "maybe"), "true or false"),
        (("--packing", "true"), "flash"),
        (("--save_strategy", "sometimes"), "sometimes"),
        (("--save_steps", "2", "3"), "takes one value"),
        (("--save_steps",), "takes one value"),
        (("--save_steps", "2", "--save-steps", "3"), "given twice"),
        (("--oom-retry", "nuetral"), "did you mean neutral?"),
        (("--max-attempts", "-1"), "1 or more"),
        (("--max-attempts", "0"), "1 or more"),
        (("stray",), "stray"),
        (("--dry-run", "stray"), "stray belongs to no flag"),
        (("-x",), "-x"),
        (("--",), "--"),
        (("--name", "a/b"), "--name a/b"),
        (("--streaming", "true"), "--max_steps"),
        (("--quant_bits", "4", "--tuner_type", "full"), "cannot be trained in full"),
        (("--report-to", "swanlab"), "tunekit[swanlab]"),
        (("--ddp_backend", "gloo"), "several processes"),
    ],
    ids=lambda item: " ".join(item) if isinstance(item, tuple) else "",
)
def test_what_is_refused(argv: tuple[str, ...], said: str) -> None:
    # A bare word would be another dataset; the option in front of it ends that list.
    tail = argv if argv[0].startswith("--") and argv != ("--",) else ("--seed=1", *argv)
    assert said in refused("sft", *BASE, *tail)


@pytest.mark.parametrize(
    "argv",
    [
        ("--max_length", "100", "--max-length", "200"),
        ("--epochs", "1", "--num_train_epochs", "2"),
        ("--model", "other"),
        ("--name", "a", "--name", "b"),
        ("--effective-batch", "32", "--effective_batch", "64"),
        ("--preset", "cpu", "--preset", "7b"),
    ],
    ids=" ".join,
)
def test_an_option_of_tunekit_that_is_given_twice(argv: tuple[str, ...]) -> None:
    """As for the flags of ms-swift: the last one would win without a word."""
    assert "twice" in refused(*DRY, *argv) or "the same" in refused(*DRY, *argv)


@pytest.mark.parametrize(
    "option", ["--name", "--preset", "--gpus", "--with", "--output-dir", "--write", "--max-attempts"]
)
def test_an_option_without_its_value_takes_no_other_option_for_it(option: str) -> None:
    """``--name --dry-run`` must not train a run that is called --dry-run."""
    assert option in refused("sft", *BASE, option, "--dry-run")


def test_a_token_without_its_value_takes_no_other_option_for_it(place: Path) -> None:
    result = tunekit(place, "sft", *BASE, "--swanlab_token", "--dry-run")
    assert result.code == 2
    assert not (place / "runs").exists()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("sft", "--dataset", "data.jsonl"), "--model"),
        (("sft", "--model"), "--model"),
        (("sft", "--model", "./absent", "--dry-run"), "./absent does not exist"),
        (("sft", "--model", "Qwen2.5-7", "--dry-run"), "Qwen2.5-7B"),
        (("rlhf", *BASE, "--dry-run"), "--rlhf-type"),
        (("rlhf", *BASE, "--rlhf-type", "dop", "--dry-run"), "did you mean dpo"),
        (("sfft", *BASE), "sfft"),
        (("resume",), "RUN"),
        (("resume", "absent"), "no run absent"),
        (("presets", "show", "absent"), "absent"),
        (("presets", "frobnicate"), "frobnicate"),
    ],
    ids=lambda item: " ".join(item) if isinstance(item, tuple) else "",
)
def test_what_is_refused_of_other_commands(argv: tuple[str, ...], said: str) -> None:
    assert said.lower() in refused(*argv).lower()


def test_without_ms_swift_nothing_is_trained() -> None:
    assert "pip install" in refused("sft", *BASE)


def test_a_fault_of_tunekit_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tunekit.runs.prepare.prepare", fail)
    result = call(*DRY)
    assert result.code == 1
    assert "fault of tunekit" in result.err
    assert "--debug" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(("before", "variable"), [((), "1"), (("--debug",), "0")])
def test_debugging_shows_where(before: tuple[str, ...], variable: str, place: Path) -> None:
    result = tunekit(place, *before, *DRY, "--lora_rnak", "8", env={"TUNEKIT_DEBUG": variable})
    assert result.code == 1
    assert "Traceback" in result.err


# What is taken.


@pytest.mark.parametrize(
    ("argv", "flag", "wanted"),
    [
        (("--save_steps", "7"), "save_steps", 7),
        (("--save-steps", "7"), "save_steps", 7),
        (("--save_steps=7",), "save_steps", 7),
        (("--lora_rank", "16"), "lora_rank", 16),
        (("--lora-rank", "16"), "lora_rank", 16),
        (("--lora_rank=16",), "lora_rank", 16),
        (("--target_modules", "q_proj", "v_proj"), "target_modules", ["q_proj", "v_proj"]),
        (("--target-modules=q_proj",), "target_modules", ["q_proj"]),
        (("--learning_rate", "5e-4"), "learning_rate", 5e-4),
        (("--learning-rate=1",), "learning_rate", 1),
        (("--epochs", "3"), "num_train_epochs", 3),
        (("--num_train_epochs", "3"), "num_train_epochs", 3),
        (("--gradient_checkpointing",), "gradient_checkpointing", True),
        (("--gradient_checkpointing", "no"), "gradient_checkpointing", False),
        (("--report-to", "clearml", "none"), "report_to", ["clearml", "none"]),
        (("--report_to", "clearml"), "report_to", ["clearml"]),
        (("--per_device_train_batch_size", "4"), "per_device_train_batch_size", 4),
        (("--micro_batch", "4"), "per_device_train_batch_size", 4),
        (("--adam_beta1", "-1"), "adam_beta1", -1),
        (("--system", "You are a = b, --so"), "system", "You are a = b, --so"),
        (("--system=-x=y",), "system", "-x=y"),
    ],
    ids=lambda item: " ".join(item) if isinstance(item, tuple) else "",
)
def test_how_flags_may_be_written(argv: tuple[str, ...], flag: str, wanted: Any) -> None:
    assert value(flag, *argv) == wanted
    assert plan(*argv)["settings"][flag]["source"] == "command line"


def test_several_datasets() -> None:
    make_rows(Path("more.jsonl"))
    for argv in (("--dataset", "data.jsonl", "more.jsonl"), ("--dataset", "data.jsonl", "--dataset", "more.jsonl")):
        result = call("sft", "--model", "tiny", *argv, "--json")
        words = json.loads(result.out)["argv"]
        at = words.index("--dataset")
        assert words[at + 1 : at + 3] == ["data.jsonl", "more.jsonl"]


def test_words_with_spaces_and_quotes_reach_the_shell_whole() -> None:
    odd = 'it\'s $HOME `x` "q"\n第二行'
    result = call(*DRY, "--system", odd)
    assert odd in argv_of(result.out)


# What is printed.

KEYS = {
    "argv", "env", "secrets", "name", "run_folder", "model", "preset", "preset_reason", "overlays", "batch",
    "settings", "changes", "warnings", "flags_checked_against",
}  # fmt: skip


def test_json_is_one_object() -> None:
    result = call(*JSON, "--gpus", "2x24GB", "--with", "stable")
    assert result.code == 0
    assert result.err == ""
    document = json.loads(result.out)
    assert set(document) >= KEYS
    batch = document["batch"]
    assert batch["micro"] * batch["accumulation"] * batch["data_parallel"] == batch["effective"] >= 32
    assert batch["data_parallel"] == 2
    assert document["argv"][:2] == ["swift", "sft"]
    assert all(isinstance(word, str) for word in document["argv"])
    assert document["env"]["NPROC_PER_NODE"] == "2"
    assert all(set(setting) == {"value", "source", "why"} for setting in document["settings"].values())
    for flag, setting in document["settings"].items():
        rest = document["argv"][document["argv"].index(f"--{flag}") + 1 :]
        assert rest[0] == str(setting["value"][0] if isinstance(setting["value"], list) else setting["value"]).replace(
            "True", "true"
        ).replace("False", "false")
    assert document["overlays"] == ["stable"]
    assert all(isinstance(warning, str) for warning in document["warnings"])


def test_the_dry_run_and_json_agree() -> None:
    for argv in ((), ("--gpus", "2x24GB"), ("--gpus", "H100", "--with", "long-context,stable")):
        shell = argv_of(call(*DRY, *argv).out)
        document = plan(*argv)
        assert shell[-len(document["argv"]) :] == document["argv"]
        assert dict(word.split("=", 1) for word in shell[: -len(document["argv"])]) == document["env"]


def test_a_dry_run_says_everything_for_people_on_stderr() -> None:
    result = call(*DRY)
    assert result.code == 0
    assert result.out.startswith("swift sft \\\n")
    for text in ("preset cpu", "Hardware", "8 × 4 accumulation × 1 CPU = 32"):
        assert text in result.err
        assert text not in result.out
    assert "runs/tiny-sft" in result.err
    assert not Path("runs").exists()


def test_explain() -> None:
    result = call("sft", *BASE, "--explain", "--lora_rank", "16", "--gpus", "2x24GB")
    assert result.code == 0
    lines = {line.split()[0]: line for line in result.out.splitlines()}
    assert "16" in lines["lora_rank"]
    assert "command line" in lines["lora_rank"]
    assert "batch" in lines["gradient_accumulation_steps"]
    assert "NPROC_PER_NODE" in lines
    wanted = set(plan("--lora_rank", "16", "--gpus", "2x24GB")["settings"])
    assert wanted <= set(lines)


FAKE_SWIFT = """#!{python}
import json, os, sys
names = ("CUDA_VISIBLE_DEVICES", "NPROC_PER_NODE", "PYTORCH_CUDA_ALLOC_CONF", "SWANLAB_API_KEY", "SWANLAB_LOG_DIR")
print(json.dumps([sys.argv[1:], {{name: os.environ[name] for name in names if name in os.environ}}]))
"""


@pytest.fixture
def with_swift(place: Path) -> dict[str, str]:
    """An environment in which the first ``swift`` on the path prints what it was given."""
    program = place / "bin" / "swift"
    program.parent.mkdir()
    program.write_text(FAKE_SWIFT.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:/usr/bin:/bin"}


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("--gpus", "2x24GB", "--target_modules", "q_proj", "v_proj"),
        ("--gpus", "H100", "--system", 'it\'s $HOME "q"\nline', "--report-to", "swanlab"),
    ],
)
@pytest.mark.parametrize("how", ["dry run", "script"])
def test_the_command_can_be_run(argv: tuple[str, ...], how: str, with_swift: dict[str, str]) -> None:
    document = plan(*argv)
    env = with_swift | {"SWANLAB_API_KEY": "some-key"}
    if how == "dry run":
        ran = subprocess.run(["sh"], input=call(*DRY, *argv).out, env=env, capture_output=True, text=True, check=True)
    else:
        assert call("sft", *BASE, *argv, "--write", "go.sh").code == 0
        assert os.access("go.sh", os.X_OK)
        ran = subprocess.run(["./go.sh"], env=env, capture_output=True, text=True, check=True)
    words, variables = json.loads(ran.stdout)
    assert ["swift", *words] == document["argv"]
    assert variables == {**document["env"], "SWANLAB_API_KEY": "some-key"}


def test_a_script_says_where_it_comes_from() -> None:
    assert "does not exist" in refused("sft", *BASE, "--write", "deep/go.sh")
    Path("deep").mkdir()
    result = call("sft", *BASE, "--gpus", "1x24GB", "--write", "deep/go.sh")
    assert call("sft", *BASE, "--write", "deep/go.sh").code == 0  # its own may be written again
    Path("deep/mine.sh").write_text("echo mine")
    assert "did not write it" in refused("sft", *BASE, "--write", "deep/mine.sh")
    assert result.code == 0
    assert result.out == ""
    assert "wrote deep/go.sh" in result.err
    text = Path("deep/go.sh").read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n# Written by tunekit")
    assert "# Preset" in text
    assert subprocess.run(["bash", "-n", "deep/go.sh"], check=False).returncode == 0


def test_a_comment_in_a_script_stays_a_comment(place: Path) -> None:
    """Text of users ends up in comments: it must not break out of them."""
    make_model(place / "odd\nrm -rf x")
    result = call("sft", "--model", "odd\nrm -rf x", "--dataset", "data.jsonl", "--write", "go.sh")
    assert result.code == 0
    head = Path("go.sh").read_text(encoding="utf-8").partition("set -euo pipefail")[0]
    assert all(line.startswith("#") for line in head.splitlines() if line)


def test_a_script_that_cannot_be_written() -> None:
    assert "data.jsonl does not exist" in refused("sft", *BASE, "--write", "data.jsonl/go.sh")


# Help.


def test_the_version() -> None:
    assert call("--version").out == f"tunekit {package.__version__}\n"


def options_of(*path: str) -> list[str]:
    command: Any = command_of(path[0])
    for name in path[1:]:
        command = command.get_command(None, name)
    return [name for parameter in command.params for name in parameter.opts if name.startswith("--")]


BELOW = [("presets", "list"), ("presets", "show"), ("presets", "copy"), ("recipes", "list"), ("recipes", "copy")]
BELOW += [("data", name) for name in BUILDERS]
BELOW += [("runs", name) for name in ("list", "show", "compare", "logs", "stop", "rm")]


@pytest.mark.parametrize(
    "path", [*((name,) for name in COMMANDS if name not in ("presets", "recipes", "data", "runs")), *BELOW]
)
@pytest.mark.parametrize("columns", ["80"])
def test_help_mentions_every_option(path: tuple[str, ...], columns: str, place: Path) -> None:
    result = tunekit(place, *path, "--help", env={"COLUMNS": columns})
    assert result.code == 0
    assert result.err == ""
    for option in options_of(*path):
        assert re.search(rf"{option}(?![\w-])", result.out), option
    assert max(len(line) for line in result.out.splitlines()) <= int(columns)
    assert "…" not in result.out.replace("JSON lines", "")


def test_help_names_every_command() -> None:
    result = call("--help")
    assert result.code == 0
    for name in ("sft", "pt", "rlhf", "resume", "presets", "doctor"):
        assert re.search(rf"\b{name}\b", result.out)


def test_no_command_is_one_screen_that_names_commands() -> None:
    result = call()
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    named = re.findall(r"^  tunekit (\w+)", result.out, re.MULTILINE)
    assert len(named) == 5
    assert set(named) <= set(COMMANDS)


def test_the_help_builds_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(name: str) -> None:
        raise AssertionError(name)

    built = {name: row._replace(build=build) for name, row in COMMANDS.items()}
    monkeypatch.setattr("tunekit.cli.root.COMMANDS", built)
    monkeypatch.setattr("tunekit.cli.root.command_of", build)
    result = call("--help")
    assert result.code == 0
    for name, row in COMMANDS.items():
        assert "\n" not in row.summary
        assert f"│ {name} " in result.out


def test_a_misspelled_command_is_suggested() -> None:
    assert "did you mean tunekit sft?" in refused("sfft", *BASE)


def test_a_switch_takes_no_value() -> None:
    assert "--dry-run takes no value" in refused("sft", *BASE, "--dry-run=yes")


def test_what_is_read_without_typer_is_read_the_same_behind_an_option_of_tunekit() -> None:
    assert call("--debug", *DRY).out == call(*DRY).out


def test_all_three_commands_take_the_same_options() -> None:
    assert options_of("sft") == options_of("pt") == options_of("rlhf")


# Presets.


def test_presets_are_listed() -> None:
    result = call("presets", "list")
    assert result.code == 0
    rows = json.loads(call("presets", "list", "--json").out)
    for row in (*rows["presets"], *rows["overlays"]):
        assert re.search(rf"^{row['name']} ", result.out, re.MULTILINE)
        assert row["title"] in result.out
    assert "base" not in {row["name"] for row in rows["presets"]}
    by_name = {row["name"]: row["batch"] for row in rows["presets"]}
    assert (
        by_name.items()
        >= {"7b": "8 × 4 = 32", "8b-tight": "6 × 6 = 36", "20b": "2 × 16 = 32", "low-memory": "1 × 32 = 32"}.items()
    )


def test_a_preset_is_shown_with_its_sources() -> None:
    result = call("presets", "show", "8b-tight")
    assert result.code == 0
    lines = {line.split()[0]: line for line in result.out.splitlines() if line}
    assert re.search(r"\b6\b.*preset 8b-tight", lines["batch.micro"])
    assert "base" in lines["max_grad_norm"]
    document = json.loads(call("presets", "show", "8b-tight", "--json").out)
    assert document["settings"]["batch.effective"]["value"] == 36
    assert set(document["settings"]) <= set(lines)


def test_an_overlay_is_shown() -> None:
    assert call("presets", "show", "stable").code == 0


def test_a_copied_preset_can_be_used() -> None:
    result = call("presets", "copy", "8b-tight", "mine.toml")
    assert result.code == 0
    assert result.out == ""
    text = Path("mine.toml").read_text(encoding="utf-8")
    Path("mine.toml").write_text(text.replace("effective = 36", "effective = 48"), encoding="utf-8")
    assert plan("--preset", "mine.toml", "--gpus", "1x40GB")["batch"]["effective"] == 48


def test_a_copy_overwrites_nothing() -> None:
    assert "exists already" in refused("presets", "copy", "7b", "data.jsonl")
    assert "does not exist" in refused("presets", "copy", "7b", "absent/mine.toml")
    assert Path("data.jsonl").read_text(encoding="utf-8").startswith("{")


# Ends of pipes, exit codes.


@pytest.mark.parametrize(
    "argv", [("presets", "list"), JSON, DRY, ("--help",), ("--version",)], ids=lambda argv: argv[-1]
)
def test_a_reader_that_went_away_is_no_error(argv: tuple[str, ...], place: Path) -> None:
    """The pipe is closed before the first byte, so this does not depend on who is quicker."""
    reader, writer = os.pipe()
    os.close(reader)
    with Started(place, *argv, stdout=writer) as started:
        os.close(writer)
        result = started.end()
    assert "Traceback" not in result.err
    assert "BrokenPipe" not in result.err
    assert "Exception ignored" not in result.err
    assert result.code in (0, 1, 141)  # 120 is Python's own, with a complaint


def test_through_head(place: Path) -> None:
    line = f"{shlex.join([sys.executable, '-m', 'tunekit', 'presets', 'list'])} | head -1"
    ran = subprocess.run(["bash", "-c", line], env=environment(), cwd=place, capture_output=True, text=True, check=True)
    assert len(ran.stdout.splitlines()) == 1
    assert ran.stderr == ""


@pytest.mark.parametrize(
    ("argv", "fake", "code"),
    [
        (SFT, {}, 0),
        (SFT, {"die": "crash"}, 1),
        ((*SFT, "--lora_rnak", "8"), {}, 2),
        (("sft", "--model", "tiny", "--dataset", "absent.jsonl"), {}, 4),
    ],
)
def test_exit_codes(argv: tuple[str, ...], fake: dict[str, Any], code: int, place: Path) -> None:
    """130 is proven with the signals, in the tests of the supervisor."""
    result = tunekit(place, *argv, fake=fake)
    assert result.code == code
    assert result.out == ""


def test_a_plan_for_other_gpus_cannot_be_trained_here(place: Path) -> None:
    result = tunekit(place, *SFT, "--gpus", "8x80GB")
    assert result.code == 2
    assert "--dry-run" in result.err
    assert not (place / "runs").exists()


def test_a_token_leaves_the_arguments_and_is_told_by_name(place: Path) -> None:
    result = tunekit(place, *DRY, "--swanlab_token", SECRET_TOKEN, "--system", "two words")
    assert result.code == 0
    assert "two words" in argv_of(result.out)
    assert "SWANLAB_API_KEY" in result.err
    assert SECRET_TOKEN not in result.out + result.err


def test_colours_only_in_a_terminal() -> None:
    assert "\x1b" not in call(*DRY).err + call(*DRY).out + call(*DRY, "--lora_rnak", "1").err


# --- does not fit


LARGE = ("sft", "--model", "Qwen2.5-32B", "--dataset", "data.jsonl")


def on_a_machine_with(monkeypatch, gigabytes):
    from tunekit.hardware import Gpu

    monkeypatch.setattr("tunekit.hardware.detect", lambda: [Gpu("NVIDIA X", gigabytes * 0.985, device="0")])
    monkeypatch.setattr("tunekit.runs.prepare.installed_packages", lambda: frozenset({"flash_attn", "bitsandbytes"}))


def test_a_preset_that_does_not_fit_is_refused_before_the_launch(tunekit, monkeypatch, isolated):
    on_a_machine_with(monkeypatch, 24)
    ended = tunekit(*LARGE, "--preset", "20b")
    assert ended.code == 3
    assert re.search(r"error: 20b would take \d\d\.\d GiB of 23\.6", ended.err)
    assert re.search(r"hint:  --preset (auto|low-memory) fits \(micro-batch 1, \d\d\.\d GiB\); --force", ended.err)
    assert not (isolated / "runs").exists()


def test_a_dry_run_of_it_is_shown_with_its_number(tunekit, monkeypatch):
    on_a_machine_with(monkeypatch, 24)
    ended = tunekit(*LARGE, "--preset", "20b", "--dry-run")
    assert (ended.code, ended.out) == (3, "")
    assert "does not fit" in ended.err
    assert tunekit(*LARGE, "--preset", "20b", "--explain").code == 3
    assert json.loads(tunekit(*LARGE, "--preset", "20b", "--json").out)["memory"]["verdict"] == "does not fit"
    assert "swift sft" in tunekit(*LARGE, "--preset", "20b", "--dry-run", "--force").out


OF_PAIRS = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


@pytest.mark.parametrize("look", ["--dry-run", "--json", "--explain"])
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("sft", "--dataset", "pairs.jsonl"), 4, "a rejected answer"),
        (("sft", "--dataset", "data.jsonl", "--val_dataset", "pairs.jsonl"), 4, "a rejected answer"),
        (("sft", "--dataset", "data.jsonl", "--adapters", "tiny"), 2, "holds no adapter"),
        (("gkd", "--dataset", "data.jsonl", "--teacher_model", "./nope"), 2, "./nope does not exist"),
        (("ppo", "--dataset", "asked.jsonl", "--reward_model", "tiny"), 2, "gives no scores"),
        (("grpo", "--dataset", "asked.jsonl", "--reward", "accuracy"), 2, "math_verify, which is not installed"),
        (("sft", "--dataset", "data.jsonl", "--model", "Qwen2.5-72B"), 3, "this machine shows no GPU"),
    ],
)
def test_a_look_refuses_what_a_start_refuses(tunekit, monkeypatch, look, words, code, said):
    monkeypatch.setattr("tunekit.hardware.detect", list)
    monkeypatch.setattr("tunekit.runs.functions.find_package", lambda _: None)
    make_rows(Path("data.jsonl"), OF_PAIRS)
    make_rows(Path("pairs.jsonl"), OF_PAIRS | {"rejected_response": "c"})
    make_rows(Path("asked.jsonl"), *[{"messages": OF_PAIRS["messages"][:1], "solution": "1"}] * 40)
    model = () if "--model" in words else ("--model", "tiny", "--template", "chatml")
    ended = tunekit(*words, *model, look)
    assert ended.code == code, ended.err
    assert said in ended.err
    assert code == 3 or ended.out == ""


def test_a_plan_for_another_machine_only_says_what_is_not_here(tunekit):
    words = ("--model", "Qwen2.5-7B", "--gpus", "80GB", "--dataset", "gone.jsonl", "--adapters", "./gone")
    ended = tunekit("sft", *words, "--json")
    assert ended.code == 0
    missing = json.loads(ended.out)["missing"]
    assert [line.split(" does not")[0] for line in missing] == ["dataset gone.jsonl", "--adapters ./gone"]
    assert tunekit("sft", *words, "--explain").err.count("Refused") == 2


def test_where_the_model_comes_from_is_a_line_of_the_plan(tunekit):
    words = ("sft", "--model", "Qwen2.5-7B", "--gpus", "80GB", "--dataset", "d.jsonl")
    assert "  Model    ModelScope, about 15.2 GB to fetch\n" in tunekit(*words, "--dry-run").err
    source = json.loads(tunekit(*words, "--use_hf", "true", "--json").out)["model_source"]
    assert source["hub"] == "Hugging Face"
    assert source["gigabytes"] == pytest.approx(15.2, abs=0.1)


def test_trackers_of_the_command_line(tunekit):
    words = ("sft", "--model", "Qwen2.5-7B", "--gpus", "80GB", "--dataset", "d.jsonl", "--dry-run")
    made = tunekit(*words, "--report-to", "wandb", "--project", "p", "--group", "g", "--entity", "e")
    for variable in ("WANDB_PROJECT=p", "WANDB_RUN_GROUP=g", "WANDB_ENTITY=e"):
        assert f"{variable} \\\n" in made.out
    assert "--project" not in made.out
    assert tunekit(*words, "--group", "g").code == 2


def test_force_goes_on(tunekit, monkeypatch):
    on_a_machine_with(monkeypatch, 24)
    monkeypatch.setattr("tunekit.runs.attempts.find_engine", lambda: None)
    ended = tunekit(*LARGE, "--preset", "20b", "--force")
    assert "ms-swift is not installed" in ended.err


@pytest.mark.parametrize(
    ("total", "packed", "warned"), [(1000, True, True), (1000, False, False), (100_000, True, False)]
)
def test_a_pass_of_a_few_steps_is_told(total: int, packed: bool, warned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found = replace(lengths_of(*[(100, 30)] * 90), total=total)
    monkeypatch.setattr("tunekit.data.lengths.measured_before", lambda _: found)
    make_tokenized(Path("m"))
    words = ("--model", "m", "--dataset", "data.jsonl", "--gpus", "24GB", "--preset", "7b", "--dry-run")
    told = " ".join(call("sft", *words, "--packing", str(packed).lower()).err.split())
    assert ("are about" in told) is warned
    assert not warned or "1,000 rows (a packed row holds 30 of them) are about 2 optimizer steps of 32: more" in told
    assert ("packed rows ≈ 960 samples" in told) is packed
