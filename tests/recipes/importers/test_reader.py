"""What stands in a file, of every kind."""

import io

import pytest

from tunekit.errors import TunekitError
from tunekit.recipes.importers.reader import read_settings, read_sources


@pytest.fixture
def read(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return read_sources(str(path))

    return write


def test_yaml_as_the_trainers_read_it(read):
    (origin,) = read("a.yaml", "a: 1e-4\nb: 2.0\t# tab\nc: yes\nd: 2024-01-01\ne: &x {f: 3}\ng: *x\nh: 08\ni: null\n")
    values = origin.values()
    assert (values["a"], str(values["a"]), values["b"], values["c"]) == (1e-4, "1e-4", 2.0, True)
    assert (values["d"], values["g"], values["i"]) == ("2024-01-01", {"f": 3}, None)
    assert [entry.line for entry in origin.entries] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert origin.lines["e.f"] == 5


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.yaml", "a: [1\nb: 2", "a.yaml line 2: not valid YAML"),
        ("a.yaml", "- 1\n- 2", "holds no keys"),
        ("a.yaml", "a: 1\n---\nb: 2", "not valid YAML"),
        ("a.yaml", "a: !!python/object/apply:os.system ['true']", "not valid YAML"),
        (
            "a.yaml",
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"k{i}: &k{i} [{', '.join(['*' + ('a' if not i else f'k{i - 1}')] * 9)}]\n" for i in range(9)),
            "too many",
        ),
        ("a.json", '{"a": ', "not valid JSON"),
        ("a.json", "[1]", "holds no keys"),
        ("a.toml", "a = ", "not valid TOML"),
        ("a.sh", "# nothing\n", "no command"),
    ],
)
def test_what_cannot_be_read_is_one_line(read, name, text, said):
    with pytest.raises(TunekitError, match=said.replace("[", r"\[")) as caught:
        read(name, text)
    assert "\n" not in caught.value.message


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(TunekitError, match="cannot be read"):
        read_sources(str(tmp_path / "none.yaml"))
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TunekitError, match="UTF-8"):
        read_sources(str(tmp_path / "a.yaml"))


def test_toml_and_json_have_lines(read):
    (toml,) = read("a.toml", "x = 1e-5\n[model]\nname = 'm'\n[model.more]\nr = 8\n")
    assert [(entry.key, entry.line) for entry in toml.entries] == [("x", 1), ("model", 2)]
    assert str(toml.values()["x"]) == "1e-5"
    assert toml.lines["model.name"] == 3
    (json,) = read("a.json", '{\n "x": 1,\n "y": {"z": 2}}')
    assert [(entry.key, entry.line) for entry in json.entries] == [("x", 2), ("y", 3)]


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("swift sft --model x", ("swift", "sft")),
        ("model: x\ntrain_type: lora\n", ()),
        ('{"model": "x"}', ()),
        ("[model]\nname = 'x'\n", ()),
        ("from unsloth import FastLanguageModel\nFastLanguageModel.from_pretrained('x')", ()),
    ],
)
def test_standard_input_is_known_by_what_it_holds(monkeypatch, text, program):
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    (origin,) = read_sources("-")
    assert (origin.program, origin.path, origin.text) == (program, None, text)


@pytest.mark.parametrize(
    ("line", "program", "world"),
    [
        ("swift sft --a 1", ("swift", "sft"), None),
        ("NPROC_PER_NODE=4 NNODES=2 swift sft --a 1", ("swift", "sft"), 8),
        ("nohup python -u llm_sft.py --a 1 > log &", ("llm_sft.py",), None),
        ("torchrun --nproc_per_node=4 --nnodes 2 --standalone src/train.py --a 1", ("src/train.py",), 8),
        ("python -m torch.distributed.run --nproc_per_node 3 t.py --a 1", ("t.py",), 3),
        ("accelerate launch --config_file z.yaml --num_processes 4 --multi_gpu src/dpo.py --a 1", ("src/dpo.py",), 4),
        ("deepspeed --include localhost:0,2,3 t.py --a 1", ("t.py",), 3),
        ("deepspeed --num_gpus 2 --num_nodes 3 --no_ssh t.py --a 1", ("t.py",), 6),
        ("accelerate launch -m axolotl.cli.train --a 1", ("axolotl.cli.train",), None),
        ("env CUDA_VISIBLE_DEVICES=0 llamafactory-cli train --a 1", ("llamafactory-cli", "train"), None),
        ("uv run trl sft --a 1", ("trl", "sft"), None),
        ("srun -N 1 torchrun --nproc_per_node 8 t.py --a 1", ("t.py",), 8),
        ("/opt/x/bin/swift sft --a 1", ("swift", "sft"), None),
    ],
)
def test_launchers_are_taken_off(read, line, program, world):
    (origin,) = read("a.sh", line)
    assert (origin.program, origin.world, origin.values()) == (program, world, {"a": 1})


def test_flags_become_keys(read):
    (origin,) = read("a.sh", "swift sft --lr 1e-5 --list a b --on --off false --a-b=x --n -1 --id 007 --lr 2e-5 stray")
    values = origin.values()
    assert (str(values["lr"]), values["list"], values["on"], values["off"]) == (
        "[2e-05, 'stray']",
        ["a", "b"],
        True,
        False,
    )
    assert (values["a_b"], values["n"], values["id"]) == ("x", -1, "007")


def test_a_configuration_that_a_call_names_is_read_and_overridden(read, tmp_path):
    (tmp_path / "c.yaml").write_text("a: 1\nb: 2\n", encoding="utf-8")
    (origin,) = read("a.sh", "llamafactory-cli train c.yaml b=3 +c=x")
    assert origin.values() == {"a": 1, "b": 3, "c": "x"}
    (missing,) = read("b.sh", "trl sft --config none.yaml --a 1")
    assert missing.values() == {"a": 1}
    assert "none.yaml" in missing.unread[0]


def test_settings_alone(tmp_path):
    (tmp_path / "c.json").write_text('{"a": {"b": 1}}', encoding="utf-8")
    entries, _ = read_settings(tmp_path / "c.json")
    assert [(entry.key, entry.value) for entry in entries] == [("a", {"b": 1})]
