"""Tokens travel by environment only: in no argv, log, file, dry run or report."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.engine.command import build_command
from tunekit.errors import TunekitError
from tunekit.plan.secrets import VARIABLE_OF_FLAG, is_secret, move_to_environment, of_plan, redact, secret_values

TOKEN = "tk-planted-0123456789abcdef"
VARIABLES = ("SWANLAB_API_KEY", "WANDB_API_KEY", "HF_TOKEN", "MODELSCOPE_API_TOKEN", "MY_SECRET", "DB_PASSWORD")
SFT = ("--model", "Qwen2.5-7B", "--dataset", "data.jsonl", "--gpus", "1x80GB")


@pytest.mark.parametrize(
    ("argv", "kept", "moved"),
    [
        (["sft", "--swanlab_token", TOKEN, "--x", "1"], ["sft", "--x", "1"], {"SWANLAB_API_KEY": TOKEN}),
        (["sft", f"--swanlab_token={TOKEN}"], ["sft"], {"SWANLAB_API_KEY": TOKEN}),
        (["sft", "--swanlab-token", TOKEN], ["sft"], {"SWANLAB_API_KEY": TOKEN}),
        (["sft", f"--swanlab_token={TOKEN}=="], ["sft"], {"SWANLAB_API_KEY": f"{TOKEN}=="}),
        (["--hub_token", TOKEN, "--x"], ["--x"], {"MODELSCOPE_API_TOKEN": TOKEN}),
        (
            ["--hub_token", TOKEN, "--swanlab_token", "other-token"],
            [],
            {"MODELSCOPE_API_TOKEN": TOKEN, "SWANLAB_API_KEY": "other-token"},
        ),
        (["sft", "--model", "swanlab_token"], ["sft", "--model", "swanlab_token"], {}),
        (["sft", "--x", "--y=1"], ["sft", "--x", "--y=1"], {}),
    ],
)
def test_secrets_leave_the_arguments(argv, kept, moved):
    assert move_to_environment(argv, {}) == (kept, moved)


@pytest.mark.parametrize("words", [["--swanlab_token"], ["--swanlab_token="], ["--swanlab_token", "--dry-run"]])
def test_a_secret_flag_without_its_value(words):
    with pytest.raises(TunekitError, match="--swanlab_token has no value") as refused:
        move_to_environment(["sft", *words], {})
    assert "SWANLAB_API_KEY" in refused.value.hint


@pytest.mark.parametrize(
    ("words", "environ"),
    [
        (["--use_hf", "true"], {}),
        (["--use-hf", "1"], {}),
        (["--use_hf=true"], {}),
        (["--use_hf=True"], {}),
        (["--use-hf=true"], {}),
        (["--use_hf=1"], {}),
        (["--use_hf"], {}),
        ([], {"USE_HF": "1"}),
        ([], {"USE_HF": "true"}),
        ([], {"TUNEKIT_USE_HF": "true"}),
    ],
)
def test_a_hub_token_goes_to_the_hub_that_is_used(words, environ):
    for argv in ([*words, "--hub_token", TOKEN], ["--hub_token", TOKEN, *words]):
        assert move_to_environment(argv, environ)[1] == {"HF_TOKEN": TOKEN}


@pytest.mark.parametrize(
    ("words", "environ"),
    [(["--use_hf", "false"], {"USE_HF": "1"}), (["--use_hf=false"], {"USE_HF": "1"}), ([], {}), ([], {"USE_HF": "0"})],
)
def test_a_hub_token_for_modelscope(words, environ):
    assert move_to_environment([*words, "--hub_token", TOKEN], environ)[1] == {"MODELSCOPE_API_TOKEN": TOKEN}


@pytest.mark.parametrize("flag", [flag for flag, variable in VARIABLE_OF_FLAG.items() if variable is None])
@pytest.mark.parametrize("form", ["--{} {}", "--{}={}"])
def test_a_secret_that_only_a_flag_can_carry_is_refused(flag, form):
    with pytest.raises(TunekitError, match=f"--{flag} would show a secret") as refused:
        move_to_environment(["sft", *form.format(flag, TOKEN).split()], {})
    assert TOKEN not in f"{refused.value.message} {refused.value.hint}"


def test_every_secret_flag_of_ms_swift_is_known(flags):
    """Else a new one of ms-swift would stand in logs and in the arguments."""
    marks = {"token", "secret", "password", "webhook", "key", "credential"}
    named = {name for name in flags.by_command["rlhf"] if marks & set(name.split("_"))}
    assert named - NO_SECRET == VARIABLE_OF_FLAG.keys()
    assert VARIABLE_OF_FLAG.keys() <= flags.by_command["sft"].keys()


NO_SECRET = {"reft_layer_key", "teacher_tag_key", "vera_projection_prng_key"}
"""Flags whose names look like a secret's, and are none."""


def test_which_variables_are_secret():
    environ = {name: f"{TOKEN}-{number}" for number, name in enumerate(VARIABLES)}
    other = {"PATH": "/usr/bin:/bin", "TOKENIZERS_PARALLELISM": "false-false", "HOME": "/home/someone"}
    assert set(secret_values(environ | other)) == set(environ.values())


def test_short_values_are_no_secrets():
    assert secret_values({"HF_TOKEN": "true", "MY_SECRET": ""}) == []


def test_a_secret_that_contains_another_is_struck_out_whole():
    secrets = secret_values({"A_TOKEN": "abcdefgh", "B_TOKEN": "abcdefgh-ijkl"})
    assert redact("x abcdefgh-ijkl y abcdefgh z", secrets) == "x *** y *** z"


secret = st.text(st.characters(codec="utf-8", exclude_characters="*"), min_size=8, max_size=40)


@given(st.lists(secret, min_size=1, max_size=4), st.text(max_size=60), st.data())
def test_no_secret_survives_redaction(secrets, text, data):
    environ = {f"S{number}_TOKEN": value for number, value in enumerate(secrets)}
    for value in secrets:
        place = data.draw(st.integers(0, len(text)))
        text = text[:place] + value + text[place:]
    cleaned = redact(text, secret_values(environ))
    assert not any(value in cleaned for value in secrets)


@given(st.lists(secret, min_size=len(VARIABLES), max_size=len(VARIABLES), unique=True))
def test_no_secret_of_the_environment_in_any_text(plan_with, secrets):
    """In the plan, the shell text, the script and the JSON there are the variables' names and nothing more."""
    environ = dict(zip(VARIABLES, (f"tk-{value}" for value in secrets), strict=True))
    plan = plan_with(environ)
    command = build_command(plan, Path("runs/x/output"))
    texts = [
        command.shell(),
        command.script(["Written by a test."]),
        json.dumps(plan.to_json(), ensure_ascii=False),
        repr(command),
        repr(plan),
    ]
    for text in texts:
        assert "SWANLAB_API_KEY" in text
        assert not any(value in text for value in environ.values())


@pytest.fixture(scope="module")
def plan_with(make):
    return lambda environ: make(preset="7b", report_to=["swanlab", "wandb"], environ=environ)


@pytest.mark.parametrize(
    ("report_to", "environ", "names"),
    [
        ([], {}, ()),
        (["tensorboard"], {"SWANLAB_API_KEY": TOKEN}, ()),
        (["swanlab"], {"SWANLAB_API_KEY": TOKEN}, ("SWANLAB_API_KEY",)),
        (
            ["wandb", "swanlab"],
            {"SWANLAB_API_KEY": TOKEN, "WANDB_API_KEY": TOKEN},
            ("WANDB_API_KEY", "SWANLAB_API_KEY"),
        ),
        ([], {"HF_TOKEN": TOKEN, "MODELSCOPE_API_TOKEN": TOKEN}, ("HF_TOKEN", "MODELSCOPE_API_TOKEN")),
        ([], {"HF_TOKEN": ""}, ()),
    ],
)
def test_which_variables_a_run_reads(report_to, environ, names):
    assert of_plan(report_to, environ) == names


@pytest.mark.parametrize("look", ["--dry-run", "--explain", "--json"])
def test_nothing_that_is_printed_holds_a_secret(tunekit, monkeypatch, look):
    for name in VARIABLES:
        monkeypatch.setenv(name, f"{TOKEN}-{name}")
    ended = tunekit("sft", *SFT, "--report-to", "swanlab", "wandb", look)
    assert ended.code == 0
    assert ended.out
    assert TOKEN not in ended.out + ended.err
    if look != "--explain":
        assert "SWANLAB_API_KEY" in ended.out


def test_a_script_holds_no_secret(tunekit, monkeypatch, tmp_path):
    monkeypatch.setenv("SWANLAB_API_KEY", TOKEN)
    ended = tunekit("sft", *SFT, "--report-to", "swanlab", "--write", "go.sh")
    text = (tmp_path / "go.sh").read_text(encoding="utf-8")
    assert ended.code == 0
    assert 'SWANLAB_API_KEY="$SWANLAB_API_KEY"' in text
    assert TOKEN not in text + ended.out + ended.err


@pytest.mark.parametrize("place", ["config", "environment", "preset"])
@pytest.mark.parametrize("flag", sorted(VARIABLE_OF_FLAG))
def test_no_configuration_brings_a_secret_into_the_command(tunekit, monkeypatch, tmp_path, place, flag):
    (tmp_path / "config").mkdir()
    words = []
    if place == "config":
        (tmp_path / "config/config.toml").write_text(f'[defaults]\n{flag} = "{TOKEN}"\n', encoding="utf-8")
    elif place == "environment":
        monkeypatch.setenv(f"TUNEKIT_{flag.upper()}", TOKEN)
    else:
        (tmp_path / "mine.toml").write_text(f'extends = "7b"\n[train]\n{flag} = "{TOKEN}"\n', encoding="utf-8")
        words = ["--preset", "mine.toml"]
    ended = tunekit("sft", *SFT, *words, "--dry-run")
    assert TOKEN not in ended.out + ended.err
    assert ended.code in (0, 2)


def test_a_token_on_the_command_line_leaves_it():
    """A real process: its arguments are replaced before anything else happens."""
    command = [sys.executable, "-m", "tunekit", "sft", *SFT, "--swanlab_token", TOKEN, "--report-to", "swanlab"]
    ended = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=True)
    assert 'SWANLAB_API_KEY="$SWANLAB_API_KEY"' in ended.stdout
    assert "moved into the environment, where others cannot read it: SWANLAB_API_KEY" in ended.stderr
    assert TOKEN not in ended.stdout + ended.stderr


def test_a_script_runs_where_the_tracker_logs_in_by_itself(make, tmp_path):
    """`wandb login` leaves the key in a file of its own: without WANDB_API_KEY the script must run all the same."""
    command = build_command(make(preset="7b", report_to=["wandb"]), Path("out"), program=("./swift",))
    swift = tmp_path / "swift"
    swift.write_text('#!/bin/sh\necho "key ${WANDB_API_KEY-is not set}"\n', encoding="utf-8")
    swift.chmod(0o755)
    (tmp_path / "go.sh").write_text(command.script([]), encoding="utf-8")
    bash = shutil.which("bash")
    environ = {"PATH": os.environ["PATH"]}
    ended = subprocess.run([bash, "go.sh"], capture_output=True, text=True, check=False, env=environ)
    assert (ended.returncode, ended.stdout) == (0, "key is not set\n")
    ended = subprocess.run(
        [bash, "go.sh"], capture_output=True, text=True, check=False, env=environ | {"WANDB_API_KEY": "k"}
    )
    assert (ended.returncode, ended.stdout) == (0, "key k\n")


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *(
            (name, True)
            for name in ("GITHUB_PAT", "MYSQL_PWD", "DB_PASS", "PGPASSWORD", "MY_SECRET_VALUE", "AWS_ACCESS_KEY_ID")
        ),
        *((name, True) for name in ("openai_api_key", "APIKEY", "HF_TOKEN_2", "TOKEN", "SSH_KEY", "CREDENTIALS")),
        *(
            (name, False)
            for name in ("PATH", "PWD", "TOKENIZERS_PARALLELISM", "MAX_TOKENS", "HOME", "KEYBOARD", "SSH_KEY_FILE")
        ),
    ],
)
def test_names_of_secrets(name, secret):
    assert is_secret(name) == secret


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("tk-0123456789\n", "login with tk-0123456789 failed"),
        ("hunter2", "password=hunter2, user hunter2"),
        ('a"b\\c-secret', r'{"x": "a\"b\\c-secret"}'),
        ("p@ss/word+1", "https://host/?q=p%40ss%2Fword%2B1"),
        ("-----BEGIN KEY-----\nMIIEowIBAAK", "line MIIEowIBAAK of it"),
    ],
)
def test_a_secret_in_other_clothes(value, text):
    cleaned = redact(text, secret_values({"MY_SECRET": value}))
    assert "***" in cleaned
    assert not any(form in cleaned for form in (value.split("\n")[-1] or value.strip(), "hunter2", "c-secret", "%2B1"))


def test_a_short_secret_is_struck_out_as_a_word():
    assert redact("abc abcd x.abc", secret_values({"DB_PASS": "abc"})) == "*** abcd x.***"


@pytest.mark.parametrize(
    "text",
    [
        "fetching https://me:SECRETWORD@host/x",
        "HTTPS_PROXY=http://user:SECRETWORD@proxy:3128",
        '{"api_key": "SECRETWORD", "x": 1}',
        "{'hub_token': 'SECRETWORD'}",
        "GET /x?access_token=SECRETWORD&y=1",
        "--wandb_api_key=SECRETWORD",
        "Authorization: Bearer SECRETWORD0123456789",
        "hf_SECRETWORDabcdefghij",
    ],
)
def test_secrets_by_their_shape(text):
    assert "SECRETWORD" not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "hub_token=None, swanlab_token=None, eos_token='<|im_end|>', max_new_tokens=64",
        "{'loss': 1.2, 'token_acc': 0.5, 'num_input_tokens_seen': 9}",
        "see https://host/path?x=1 and a@b.org; basic understanding of keys",
    ],
)
def test_what_looks_like_a_secret_and_is_none(text):
    assert redact(text) == text


def test_a_long_line_takes_no_time():
    for text in ("a-" * 200_000, "x" * 400_000, "--" * 200_000, "http://" * 50_000, '"secret"' * 40_000):
        assert len(redact(text)) > 1000


def test_no_error_repeats_a_secret(tunekit, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (tmp_path / "p.toml").write_text(f'[train]\nhub_token = {{ a = "{TOKEN}" }}\n', encoding="utf-8")
    for words in (
        ["--preset", "p.toml"],
        ["--swanlab_token", "first", TOKEN],
        ["--max-length", TOKEN],
        ["--model", f"https://me:{TOKEN}@host/x/y"],
    ):
        ended = tunekit("sft", *SFT, *words, "--dry-run")
        assert ended.code == 2
        assert TOKEN not in ended.out + ended.err
    assert move_to_environment(["run", "x", "--dpo.hub_token", TOKEN], {})[0] == ["run", "x"]
