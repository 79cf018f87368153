"""The run as a command, as a script, as a recipe."""

import shlex
from pathlib import Path

import pytest

from tunekit.files import parse_toml
from tunekit.recipes.importers.recognition import import_file
from tunekit.recipes.importers.source import Origin
from tunekit.recipes.importers.start import write_imported
from tunekit.recipes.importers.translation import Draft
from tunekit.recipes.importers.written import batch_of, raised, recipe_of, script_of, swift_words, tunekit_words

EXAMPLES = Path(__file__).with_name("examples")


def draft(world=None, command="sft", **flags):
    made = Draft(Origin(("swift", command), (), Path()), command, world=world)
    made.flags = {name: str(value).split() for name, value in flags.items()}
    return made


@pytest.mark.parametrize(
    ("world", "flags", "batch", "rows"),
    [
        (1, {}, (1, 16, 1), 32),
        (4, {"per_device_train_batch_size": 3}, (3, 2, 4), 36),
        (8, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}, (2, 4, 8), 64),
        (8, {"per_device_train_batch_size": 1, "sequence_parallel_size": 4}, (1, 8, 2), 32),
        (None, {"per_device_train_batch_size": 4}, (4, 4, None), 32),
    ],
)
def test_batch(world, flags, batch, rows):
    found = batch_of(draft(world, **flags))
    assert (found.micro, found.accumulation, found.data_parallel) == batch
    assert raised(found) == rows
    assert bool(found.warning) == (found.effective < 32 or world is None)


def test_what_does_not_train_has_no_batch():
    assert batch_of(draft(command="export")) is None
    assert tunekit_words(draft(command="export", model="x")) == ["swift", "export", "--model", "x"]


def test_the_command_says_what_tunekit_decides_in_its_own_words():
    words = tunekit_words(draft(2, model="m", add_version="false", output_dir="o", gradient_accumulation_steps=1))
    assert words == shlex.split(
        "tunekit sft --preset none --gpus 2 --micro-batch 1 --effective-batch 32 --output-dir o --model m"
    )


def test_scripts_are_what_a_shell_reads():
    one = draft(1, model="a b", system="it's")
    one.env["A"] = "x y"
    line = script_of([one], swift=True).replace("\\\n", " ")
    assert shlex.split(line) == ["A=x y", *swift_words(one)]


def test_recipe():
    _, drafts = import_file(str(EXAMPLES / "swift3.sh"))
    recipe = parse_toml(recipe_of(drafts, "t"), "recipe")
    first, second = recipe["stage"]
    assert (first["type"], second["type"], first["preset"]) == ("sft", "dpo", "none")
    assert not {"model", "adapters", "from"} & second.keys()
    assert "not-to-be-seen" not in recipe_of(drafts, "t")


def test_runs_that_do_not_follow_one_another_start_from_their_model():
    text = recipe_of([draft(1, model="a", output_dir="x"), draft(1, model="a", seed=2)], "t")
    assert parse_toml(text, "recipe")["stage"][1]["from"] == "base"


def test_no_other_file_is_replaced(tmp_path, monkeypatch):
    from tunekit.errors import TunekitError

    monkeypatch.chdir(tmp_path)
    one = draft(1, model="m")
    one.files["rows.json"] = "[]\n"
    write_imported(Path("a.sh"), script_of([one], swift=True), [one], executable=True)
    assert Path("a.sh").read_text(encoding="utf-8").startswith("#!/bin/sh\n")
    assert Path("rows.json").read_text(encoding="utf-8") == "[]\n"
    Path("rows.json").write_text("mine", encoding="utf-8")
    with pytest.raises(TunekitError, match=r"rows\.json exists already"):
        write_imported(Path("b.sh"), "x", [one], executable=True)
