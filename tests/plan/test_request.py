"""What the user's configuration says for all runs: ``config.toml`` and ``TUNEKIT_*``."""

import pytest

from tunekit.errors import TunekitError
from tunekit.plan.request import OPTIONS, user_defaults


@pytest.fixture
def read(tmp_path, flags):
    """Read a configuration: its text, then the environment."""

    def read(text="", command="sft", **environ):
        config = tmp_path / "config.toml"
        config.write_text(text, encoding="utf-8")
        return user_defaults(command, flags, environ, config)

    return read


def values(settings):
    return {name: setting.value for name, setting in settings.items()}


def test_nothing_set(tmp_path, flags):
    defaults = user_defaults("sft", flags, {"PATH": "/bin"}, tmp_path / "none.toml")
    assert not defaults.options
    assert not any(layer.settings for layer in defaults.layers)


def test_config_file(read):
    defaults = read(
        '[defaults]\npreset = "8b-tight"\nwith = ["stable", "long-run"]\neffective_batch = 64\nuse_hf = true\n'
        'report_to = ["swanlab", "wandb"]\nlearning_rate = 1e-4\nlora_rank = 16\nsystem = "be kind and brief"\n'
    )
    assert values(defaults.options) == {"preset": "8b-tight", "with": "stable long-run", "effective_batch": "64"}
    assert {setting.source for setting in defaults.options.values()} == {"config config.toml"}
    layer = defaults.layers[0]
    assert layer.source == "config config.toml"
    assert values(layer.settings) == {
        "use_hf": True,
        "report_to": ["swanlab", "wandb"],
        "learning_rate": 1e-4,
        "lora_rank": 16,
        "system": "be kind and brief",
    }


def test_environment(read):
    defaults = read(
        TUNEKIT_PRESET="7b",
        TUNEKIT_WITH="stable,long-run",
        TUNEKIT_MAX_ATTEMPTS="2",
        TUNEKIT_LORA_RANK="32",
        TUNEKIT_TARGET_MODULES="q_proj v_proj",
        TUNEKIT_PACKING="false",
        LORA_RANK="5",
    )
    assert values(defaults.options) == {"preset": "7b", "with": "stable,long-run", "max_attempts": "2"}
    assert values(defaults.layers[-1].settings) == {
        "lora_rank": 32,
        "target_modules": ["q_proj", "v_proj"],
        "packing": False,
    }
    assert {setting.source for setting in defaults.layers[-1].settings.values()} == {"environment"}


def test_the_environment_is_stronger_than_the_file(read):
    defaults = read('[defaults]\npreset = "7b"\nlora_rank = 4\n', TUNEKIT_PRESET="20b", TUNEKIT_LORA_RANK="64")
    assert values(defaults.options) == {"preset": "20b"}
    assert [layer.source for layer in defaults.layers] == ["config config.toml", "environment"]
    assert [layer.settings["lora_rank"].value for layer in defaults.layers] == [4, 64]


def test_options_are_all_taken(read):
    words = {f"TUNEKIT_{name.upper()}": "x" for name in OPTIONS}
    assert read(**words).options.keys() == set(OPTIONS)


@pytest.mark.parametrize("name", ["CONFIG", "CACHE", "DEBUG", "VENV", "TEST_MODEL"])
def test_variables_about_tunekit_and_its_scripts_are_no_settings(read, name):
    """``scripts/common.sh`` reads TUNEKIT_VENV, ``scripts/test`` exports TUNEKIT_TEST_MODEL."""
    assert not read(**{f"TUNEKIT_{name}": "/somewhere"}).options


def test_one_text_with_spaces_is_one_value(read):
    layer = read(TUNEKIT_SYSTEM="be kind and brief", TUNEKIT_DEEPSPEED="/my files/zero.json").layers[-1]
    assert values(layer.settings) == {"system": "be kind and brief", "deepspeed": "/my files/zero.json"}


def test_an_empty_variable_sets_nothing(read):
    defaults = read(TUNEKIT_LORA_RANK="", TUNEKIT_PACKING="", TUNEKIT_PRESET="")
    assert not defaults.layers[-1].settings
    assert not any(setting.value for setting in defaults.options.values())


def test_flags_of_another_command_wait_for_it(read):
    text = "[defaults]\nnum_generations = 4\n"
    assert not read(text, "sft", TUNEKIT_BETA="0.2").layers[0].settings
    defaults = read(text, "rlhf", TUNEKIT_BETA="0.2")
    assert [values(layer.settings) for layer in defaults.layers] == [{"num_generations": 4}, {"beta": 0.2}]


@pytest.mark.parametrize(
    ("text", "line", "says", "hint"),
    [
        ("[defaults]\nlora_rank = 8\nlora_rnak = 8\n", 3, "lora_rnak is neither an option of tunekit", "lora_rank"),
        ('[defaults]\npresett = "7b"\n', 2, "presett is neither", "preset"),
        ('# mine\n[defaults]\nlora_rank = "x"\n', 3, "--lora_rank takes a whole number, not x", ""),
        ('[defaults]\ntorch_dtype = "bf16"\n', 2, "--torch_dtype takes bfloat16", ""),
        ("[defaults]\ngradient_accumulation_steps = 4\n", 2, "gradient_accumulation_steps cannot", "--effective"),
        ("[defaults]\nadd_version = true\n", 2, "add_version cannot be set", "--name"),
        ("[default]\nlora_rank = 8\n", 1, "default is unknown", "[defaults]"),
        ("lora_rank = 8\n", 1, "lora_rank is unknown", "[defaults]"),
        ("[defaults]\nlora_rank = [8, 16]\n", 2, "--lora_rank takes one value, not 2", ""),
        ("\ndefaults = 3\n", 2, "defaults", "[defaults]"),
        ("[defaults]\nlora_rank = {a = 1}\n", 2, "lora_rank", ""),
        ('[defaults]\nswanlab_token = "s3cr3t-s3cr3t"\n', 2, "swanlab_token", "SWANLAB_API_KEY"),
    ],
)
def test_what_is_wrong_in_the_file(read, tmp_path, text, line, says, hint):
    with pytest.raises(TunekitError) as refused:
        read(text)
    assert refused.value.message.startswith(f"{tmp_path}/config.toml line {line}: ")
    assert says in refused.value.message
    assert hint in (refused.value.hint or "")
    assert "s3cr3t" not in f"{refused.value.message} {refused.value.hint}"


def test_a_file_that_is_not_toml(read):
    with pytest.raises(TunekitError, match=r"config\.toml: not valid TOML: .*line 2"):
        read("[defaults]\nlora_rank = \n")


@pytest.mark.parametrize(
    ("name", "word", "says", "hint"),
    [
        ("TUNEKIT_LORA_RNAK", "8", "lora_rnak is neither an option of tunekit nor a flag", "lora_rank"),
        ("TUNEKIT_LORA_RANK", "eight", "--lora_rank takes a whole number, not eight", ""),
        ("TUNEKIT_LORA_RANK", "8 16", "--lora_rank takes", ""),
        ("TUNEKIT_RESUME_FROM_CHECKPOINT", "x", "resume_from_checkpoint cannot be set", "tunekit resume"),
        ("TUNEKIT_RLHF_TYPE", "dpo", "rlhf_type cannot be set", ""),
        ("TUNEKIT_HUB_TOKEN", "s3cr3t-s3cr3t", "hub_token", ""),
    ],
)
def test_what_is_wrong_in_the_environment(read, name, word, says, hint):
    with pytest.raises(TunekitError) as refused:
        read(**{name: word})
    assert refused.value.message.startswith(f"environment variable {name}: ")
    assert says in refused.value.message
    assert hint in (refused.value.hint or "")
    assert "s3cr3t" not in f"{refused.value.message} {refused.value.hint}"
