"""Words → request: what is said for a run, and for all runs by ``config.toml`` and ``TUNEKIT_*``."""

import pytest

from tunekit.errors import TunekitError
from tunekit.plan.options import ALL, OPTIONS, canonical
from tunekit.plan.request import Request, read_request, stage_named
from tunekit.plan.said import Said, gather_words
from tunekit.plan.settings import COMMAND_LINE, Setting, Source
from tunekit.plan.user_words import user_words
from tunekit.stages import STAGES

CONFIG, ENVIRONMENT = Source("config", "config.toml"), Source("environment")
SFT = STAGES["sft"]
MODEL = gather_words(COMMAND_LINE, [Said("model", ("m",))])


@pytest.fixture
def gather(tmp_path, flags):
    """What a configuration says, place by place: its text, then the environment."""

    def gather(text="", **environ):
        config = tmp_path / "config.toml"
        config.write_text(text, encoding="utf-8")
        return user_words(flags, environ, config)

    return gather


@pytest.fixture
def read(gather, flags):
    """The request of a run of which nothing is said, beside that configuration."""
    return lambda text="", stage="sft", **environ: read_request(STAGES[stage], MODEL, gather(text, **environ), flags)


def line(**said):
    """Words of the command line."""
    return gather_words(COMMAND_LINE, [Said(name, tuple(words.split())) for name, words in said.items()])


def values(settings):
    return {name: setting.value for name, setting in settings.items()}


def test_nothing_set(tmp_path, flags):
    others = user_words(flags, {"PATH": "/bin"}, tmp_path / "none.toml")
    assert not any(place.said for place in others)
    request = read_request(SFT, MODEL, others, flags)
    assert not any(request.layers)
    assert request == Request(SFT, "m", layers=request.layers)


def test_config_file(read):
    request = read(
        '[defaults]\npreset = "8b-tight"\nwith = ["stable", "long-run"]\neffective_batch = 64\nuse_hf = true\n'
        'report_to = ["swanlab", "wandb"]\nlearning_rate = 1e-4\nlora_rank = 16\nsystem = "be kind and brief"\n'
    )
    assert (request.preset, request.overlays) == ("8b-tight", ("stable", "long-run"))
    assert request.effective_batch == Setting(64, CONFIG)
    layer = request.layers[0]
    assert values(layer) == {
        "use_hf": True,
        "report_to": ["swanlab", "wandb"],
        "learning_rate": 1e-4,
        "lora_rank": 16,
        "system": "be kind and brief",
    }
    assert {setting.source for setting in layer.values()} == {CONFIG}


def test_environment(read):
    request = read(
        TUNEKIT_PRESET="7b",
        TUNEKIT_WITH="stable,long-run",
        TUNEKIT_MAX_ATTEMPTS="2",
        TUNEKIT_LORA_RANK="32",
        TUNEKIT_TARGET_MODULES="q_proj v_proj",
        TUNEKIT_PACKING="false",
        LORA_RANK="5",
    )
    assert (request.preset, request.overlays, request.max_attempts) == ("7b", ("stable", "long-run"), 2)
    assert values(request.layers[-1]) == {
        "lora_rank": 32,
        "target_modules": ["q_proj", "v_proj"],
        "packing": False,
    }
    assert {setting.source for setting in request.layers[-1].values()} == {ENVIRONMENT}


def test_the_environment_is_stronger_than_the_file(read):
    request = read('[defaults]\npreset = "7b"\nlora_rank = 4\n', TUNEKIT_PRESET="20b", TUNEKIT_LORA_RANK="64")
    assert request.preset == "20b"
    assert [layer["lora_rank"].source for layer in request.layers] == [CONFIG, ENVIRONMENT]
    assert [layer["lora_rank"].value for layer in request.layers] == [4, 64]


def test_the_command_line_is_the_strongest(gather, flags):
    others = gather('[defaults]\npreset = "7b"\n', TUNEKIT_PRESET="20b", TUNEKIT_EFFECTIVE_BATCH="64")
    request = read_request(SFT, line(model="m", preset="8b", effective_batch="40", epochs="3"), others, flags)
    assert (request.preset, request.effective_batch) == ("8b", Setting(40, COMMAND_LINE))
    assert request.typed == {"num_train_epochs": Setting(3, COMMAND_LINE)}


def test_options_are_all_taken(gather):
    for_all = [name for name, option in OPTIONS.items() if option.reach == ALL]
    _, environment = gather(**{f"TUNEKIT_{name.upper()}": "x" for name in for_all})
    assert environment.said.keys() == {canonical(name) for name in for_all}


@pytest.mark.parametrize("name", ["CONFIG", "CACHE", "DEBUG", "VENV", "TEST_MODEL"])
def test_variables_about_tunekit_and_its_scripts_are_no_settings(gather, name):
    """``scripts/common.sh`` reads TUNEKIT_VENV, ``scripts/test`` exports TUNEKIT_TEST_MODEL."""
    assert not gather(**{f"TUNEKIT_{name}": "/somewhere"})[1].said


def test_one_text_with_spaces_is_one_value(read):
    layer = read(TUNEKIT_SYSTEM="be kind and brief", TUNEKIT_DEEPSPEED="/my files/zero.json").layers[-1]
    assert values(layer) == {"system": "be kind and brief", "deepspeed": "/my files/zero.json"}


def test_an_empty_variable_sets_nothing(gather):
    assert not gather(TUNEKIT_LORA_RANK="", TUNEKIT_PACKING="", TUNEKIT_PRESET="")[1].said


def test_flags_of_another_command_wait_for_it(read):
    text = "[defaults]\nnum_generations = 4\n"
    assert not any(read(text, TUNEKIT_BETA="0.2").layers)
    request = read(text, "dpo", TUNEKIT_BETA="0.2")
    assert [values(layer) for layer in request.layers] == [{"num_generations": 4}, {"beta": 0.2}]


@pytest.mark.parametrize(
    ("text", "line", "says", "hint"),
    [
        ("[defaults]\nlora_rank = 8\nlora_rnak = 8\n", 3, "lora_rnak is neither an option of tunekit", "lora_rank"),
        ('[defaults]\npresett = "7b"\n', 2, "presett is neither", "preset"),
        ("[defaults]\nval_size = 0.1\n", 2, "val_size is neither", "--split_dataset_ratio"),
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
        ("TUNEKIT_OOM_RETRY", "nutral", "oom_retry takes neutral, lossy, off, not nutral", "neutral"),
        ("TUNEKIT_MAX_ATTEMPTS", "many", "max_attempts takes a whole number, not many", ""),
    ],
)
def test_what_is_wrong_in_the_environment(read, name, word, says, hint):
    with pytest.raises(TunekitError) as refused:
        read(**{name: word})
    assert refused.value.message.startswith(f"environment variable {name}: ")
    assert says in refused.value.message
    assert hint in (refused.value.hint or "")
    assert "s3cr3t" not in f"{refused.value.message} {refused.value.hint}"


def test_which_stage_a_command_means(flags):
    assert stage_named("dpo", line(), flags) is stage_named("rlhf", line(rlhf_type="dpo"), flags) is STAGES["dpo"]
    with pytest.raises(TunekitError, match="needs --rlhf-type") as refused:
        stage_named("rlhf", line(), flags)
    assert refused.value.hint.startswith("one of rm, dpo")
    with pytest.raises(TunekitError, match="takes no --rlhf_type") as refused:
        stage_named("sft", line(rlhf_type="kto"), flags)
    assert refused.value.hint == "tunekit kto trains that"
