"""The table of options is the one source: of the commands, of recipes, of ``config.toml`` and of ``TUNEKIT_*``."""

from pathlib import Path

import pytest

from tunekit.cli.app import command_of
from tunekit.errors import TunekitError
from tunekit.plan.options import (
    ALL,
    FIT,
    HOW,
    LINE,
    OPTIONS,
    PREVIEW,
    RECIPE,
    RESERVED,
    STATS,
    TEXT,
    TRAIN,
    Option,
    canonical,
    options_of,
    spelled,
)
from tunekit.plan.said import Said
from tunekit.plan.user_words import user_words
from tunekit.recipes.reader import OWN, read_recipe

RUN = ("--model", "Qwen2.5-7B", "--dataset", "d.jsonl", "--gpus", "80GB", "--preset", "7b")
TRAINED = [option for option in OPTIONS.values() if TRAIN in option.commands]


@pytest.mark.parametrize(("command", "takes"), [("sft", TRAIN), ("grpo", TRAIN), ("rlhf", TRAIN), ("fit", FIT)])
def test_a_command_takes_the_options_of_the_table_and_no_other(command, takes):
    built = {parameter.name: (parameter.opts, parameter.help) for parameter in command_of(command).params}
    assert built == {option.name: ([option.spelled], option.help) for option in options_of(takes)}


def test_every_row_is_complete():
    for option in OPTIONS.values():
        assert option.help
        assert set(option.commands) <= {TRAIN, FIT, STATS, PREVIEW}
        assert option.reach == LINE or TRAIN in option.commands, "a recipe and a configuration are of runs"


def test_flags_behind_options_and_reserved_flags_exist(flags):
    """Else a new name of ms-swift would slip by."""
    meant = {flag for option in OPTIONS.values() for words in (option.means or {}).values() for flag in words}
    named = {option.flag for option in OPTIONS.values() if option.flag}
    assert RESERVED.keys() | named | meant <= flags.by_command["rlhf"].keys()


def test_names_in_short():
    assert [canonical(name) for name in ("epochs", "learning_rate_llm", "gpus", "packing")] == [
        "num_train_epochs",
        "learning_rate",
        "gpus",
        "packing",
    ]
    assert [spelled(name) for name in ("num_train_epochs", "effective_batch", "packing")] == [
        "--epochs",
        "--effective-batch",
        "--packing",
    ]


# --- one row is all that an option needs


@pytest.fixture
def rate(monkeypatch):
    """An option that is added by a row alone."""
    row = Option("rate", TEXT, HOW, "As fast as that.", flag="learning_rate", reach=ALL)
    monkeypatch.setitem(OPTIONS, "rate", row)
    return row


def planned(run):
    """The rate of the one plan of a call, and where it comes from."""
    assert run.code == 0, run.err
    setting = run.json["settings"]["learning_rate"]
    return setting["value"], setting["source"]


def configure(folder, text):
    (folder / "config").mkdir()
    (folder / "config/config.toml").write_text(f"[defaults]\n{text}\n", encoding="utf-8")


def write_recipe(text):
    Path("mine.toml").write_text(text, encoding="utf-8")
    return "mine.toml"


@pytest.mark.usefixtures("rate")
class TestARow:
    @pytest.mark.parametrize("words", [("--rate", "3e-5"), ("--rate=3e-5",)])
    def test_on_the_command_line(self, tunekit, words):
        assert planned(tunekit("sft", *RUN, *words, "--json")) == (3e-5, "command line")
        assert "As fast as that." in tunekit("sft", "--help").out

    def test_in_the_configuration(self, tunekit, isolated):
        configure(isolated, "rate = 3e-5")
        assert planned(tunekit("sft", *RUN, "--json")) == (3e-5, "config config.toml")

    def test_in_the_environment(self, tunekit, monkeypatch):
        monkeypatch.setenv("TUNEKIT_RATE", "3e-5")
        assert planned(tunekit("sft", *RUN, "--json")) == (3e-5, "environment")

    @pytest.mark.parametrize("place", ["[defaults]", '[[stage]]\ntype = "sft"'])
    def test_in_a_recipe(self, tunekit, place):
        path = write_recipe(f"{place}\nrate = 3e-5\n" + ('[[stage]]\ntype = "sft"' if "defaults" in place else ""))
        ended = tunekit("run", path, *RUN, "--dry-run")
        assert ended.code == 0, ended.err
        assert "--learning_rate 3e-05" in ended.out

    def test_on_the_command_line_of_a_recipe(self, tunekit):
        path = write_recipe('[[stage]]\ntype = "sft"\nrate = 1e-5\n')
        assert "--learning_rate 3e-05" in tunekit("run", path, *RUN, "--sft.rate", "3e-5", "--dry-run").out

    def test_its_flag_beside_it(self, tunekit):
        ended = tunekit("sft", *RUN, "--rate", "3e-5", "--learning-rate", "3e-5", "--dry-run")
        assert ended.code == 2
        assert "exclude each other" in ended.err


# --- where an option may stand


@pytest.mark.parametrize("option", TRAINED, ids=lambda option: option.name)
class TestReach:
    @pytest.mark.parametrize("typed", [True, False])
    def test_of_a_recipe(self, option, flags, typed):
        word = option.choices[0] if option.choices else "1"
        line = "" if typed else f'{option.name} = "{word}"'
        path = Path(write_recipe(f'[defaults]\nmodel = "m"\n[[stage]]\ntype = "grpo"\n{line}\n'))
        overrides = {f"grpo.{option.name}": [word]} if typed else {}
        where = f"--grpo.{option.name}" if typed else "mine.toml line 5"
        if option.reach >= RECIPE:
            said = read_recipe(path, flags, overrides).parts[0].said[canonical(option.name)]
            assert said == Said(option.name, (word,), where)
        elif typed or option.name not in OWN:
            with pytest.raises(TunekitError, match=f"^{where}: {option.name} has no place in a recipe") as refused:
                read_recipe(path, flags, overrides)
            assert refused.value.hint == option.elsewhere != ""

    @pytest.mark.parametrize("variable", [True, False])
    def test_of_what_is_said_for_all_runs(self, option, flags, tmp_path, variable):
        word = option.choices[0] if option.choices else "1"
        environ = {f"TUNEKIT_{option.name.upper()}": word} if variable else {}
        config = tmp_path / "config.toml"
        config.write_text("" if variable else f'[defaults]\n{option.name} = "{word}"\n', encoding="utf-8")
        if option.reach == ALL:
            assert user_words(flags, environ, config)[variable].said[canonical(option.name)].words == (word,)
        else:
            with pytest.raises(TunekitError, match=f"{option.name} cannot be set for all runs") as refused:
                user_words(flags, environ, config)
            assert refused.value.hint == f"say it for each: {option.spelled}"


@pytest.mark.parametrize(
    "option", [option for option in options_of(FIT) if option not in TRAINED], ids=lambda option: option.name
)
def test_what_only_fit_takes_is_for_no_run(option, flags, tmp_path):
    (tmp_path / "config.toml").write_text(f"[defaults]\n{option.name} = 1\n", encoding="utf-8")
    with pytest.raises(TunekitError, match=f"line 2: {option.name} is neither an option of tunekit nor a flag"):
        user_words(flags, {}, tmp_path / "config.toml")
