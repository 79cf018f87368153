"""``tunekit import`` as it is called."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "recipes" / "importers" / "examples"
YAML = EXAMPLES / "llamafactory.yaml"
SECRET = "not-to-be-seen-anywhere"


TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def write_rows():
    """The datasets that the examples name."""
    for name, more in {"mine": {}, "pairs": {"rejected_response": "c"}}.items():
        Path(f"{name}.jsonl").write_text(f"{json.dumps({'messages': TURNS, **more})}\n", encoding="utf-8")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_command_goes_to_stdout_and_the_rest_to_stderr(tunekit):
    ended = tunekit("import", str(YAML), "--world", "2")
    assert ended.code == 0
    words = shlex.split(ended.out.replace("\\\n", " "))
    assert words[:4] == ["tunekit", "sft", "--preset", "none"]
    assert words[words.index("--gpus") + 1] == "2"
    assert words[words.index("--effective-batch") + 1] == "32"
    assert "16 rows a step" in ended.err
    assert SECRET not in ended.out + ended.err
    assert "set SWANLAB_API_KEY" in ended.err


def test_the_exact_run_keeps_its_batch(tunekit):
    words = shlex.split(tunekit("import", str(YAML), "--to", "swift").out.replace("\\\n", " "))
    assert words[:2] == ["swift", "sft"]
    assert words[words.index("--gradient_accumulation_steps") + 1] == "2"


def test_the_command_can_be_planned(tunekit):
    from tunekit.plan.options import RESERVED

    words = YAML.read_text(encoding="utf-8").replace("letters,calls", "letters")
    Path("a.yaml").write_text(words.replace("dataset_dir: data", f"dataset_dir: {EXAMPLES}/data"), encoding="utf-8")
    write_rows()
    for path in (Path("a.yaml"), EXAMPLES / "swift3.sh"):
        lines = tunekit("import", str(path), "--world", "1").out.replace("\\\n", " ").splitlines()
        for line in lines:
            words = [word for word in shlex.split(line) if not word.startswith(("CUDA_", "NPROC_"))]
            if words[0] == "tunekit":
                assert not {f"--{name}" for name in RESERVED} & set(words)
                gpus = words.index("--gpus")
                described = [*words[1:gpus], "--gpus", f"{words[gpus + 1]}x80GB", *words[gpus + 2 :], "--dry-run"]
                ended = tunekit(*described)
                assert ended.code == 0, ended.err
                assert "preset none" in ended.err


def test_the_document(tunekit):
    document = tunekit("import", str(YAML), "--to", "swift", "--json").json
    assert {"dialect", "source", "command", "argv", "env", "secrets", "batch", "warnings", "report"} <= document.keys()
    assert document["batch"] == {
        "micro": 4,
        "accumulation": 2,
        "data_parallel": None,
        "effective": 8,
        "warning": document["batch"]["warning"],
    }
    assert "--world" in document["batch"]["warning"]
    rows = {row["key"]: row for row in document["report"]}
    assert rows["cutoff_len"] | {"why": ""} == {
        "key": "cutoff_len",
        "value": 700,
        "line": 11,
        "status": "translated",
        "flags": ["max_length", "truncation_strategy"],
        "where": None,
        "why": "",
    }
    assert rows["adam_beta2"]["value"] is None
    assert SECRET not in json.dumps(document)
    assert "stages" not in document


def test_several_runs_are_stages(tunekit):
    document = tunekit("import", str(EXAMPLES / "swift3.sh"), "--json").json
    assert [stage["command"] for stage in document["stages"]] == ["sft", "rlhf", "infer"]
    assert document["argv"] == document["stages"][0]["argv"]


def test_unknown_keys_are_named_at_once(tunekit):
    Path("a.yaml").write_text(f"{YAML.read_text(encoding='utf-8')}\ncutof_len: 3\nnothing: 1\n", encoding="utf-8")
    ended = tunekit("import", "a.yaml")
    assert ended.code == 2
    assert "cutof_len (line 24), nothing (line 25)" in ended.err
    assert not ended.out
    assert tunekit("import", "a.yaml", "--lenient").code == 0


def test_what_cannot_be_had_is_refused(tunekit):
    Path("a.yaml").write_text(YAML.read_text(encoding="utf-8").replace(": lora\n", ": oft\n"), encoding="utf-8")
    ended = tunekit("import", "a.yaml")
    assert (ended.code, ended.out) == (2, "")
    assert "finetuning_type" in ended.err
    Path("a.yaml").write_text(f"{YAML.read_text(encoding='utf-8')}\nuse_badam: true\n", encoding="utf-8")
    ended = tunekit("import", "a.yaml", "--json")
    assert ended.code == 2
    assert "use_badam" in ended.err
    assert ended.json["refused"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing.yaml",), "nothing.yaml: cannot be read"),
        ((str(YAML), "--from", "lamafactory"), "did you mean llamafactory"),
        ((str(YAML), "--to", "x"), "there are: command, swift, recipe"),
        ((str(YAML), "--to", "recipe", "--run"), "--out FILE"),
        ((str(EXAMPLES / "data" / "dataset_info.json"),), "no run of a tool that is known"),
    ],
)
def test_what_is_wrong_is_said(tunekit, words, said):
    ended = tunekit("import", *words)
    assert ended.code == 2
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_written_to_a_file_with_what_must_stand_beside(tunekit, monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    place = Path(__file__).parent / "no-such-folder" / "run.sh"
    assert tunekit("import", YAML.name, "--out", str(place)).code == 2
    assert not (EXAMPLES / "llamafactory.datasets.json").exists()


def test_a_script_is_one_of_a_shell(tunekit, tmp_path):
    assert tunekit("import", str(EXAMPLES / "swift3.sh"), "--to", "swift", "--out", "run.sh").code == 0
    assert subprocess.run(["sh", "-n", tmp_path / "run.sh"], check=False).returncode == 0
    assert tunekit("import", str(EXAMPLES / "swift3.sh"), "--out", "run.sh").code == 2


def test_a_recipe_is_read_again(tunekit):
    assert tunekit("import", str(EXAMPLES / "swift3.sh"), "--to", "recipe", "--out", "r.toml").code == 0
    write_rows()
    ended = tunekit("run", "r.toml", "--dry-run")
    assert ended.code == 0, ended.err
    assert "swift rlhf" in ended.out


def test_run_starts_what_was_imported(tunekit, monkeypatch):
    started = []

    def record(words, *, env, check):
        started.append((words, env.get("MAX_PIXELS"), check))
        return subprocess.CompletedProcess(words, 3)

    monkeypatch.setattr(subprocess, "run", record)
    Path("a.sh").write_text(
        "MAX_PIXELS=9 swift sft --model x --train_type lora --dataset y\nswift infer --model x", encoding="utf-8"
    )
    assert tunekit("import", "a.sh", "--run").code == 3
    ((words, pixels, check),) = started
    assert words[1:6] == ["-m", "tunekit", "sft", "--preset", "none"]
    assert (pixels, check) == ("9", False)
