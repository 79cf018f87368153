"""The presets that tunekit ships, value by value; and what is said of a preset file that is wrong."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from tunekit.errors import TunekitError
from tunekit.hardware import GIB_PER_GB
from tunekit.plan.predict import SPARE
from tunekit.plan.presets.fits import MARKS, Fits, in_short, with_fits, without_fits
from tunekit.plan.presets.shelf import Library
from tunekit.plan.settings import Source

SHARED = {
    "tuner_type": "lora",
    "lora_rank": 8,
    "lora_alpha": 32,
    "target_modules": ["all-linear"],
    "torch_dtype": "bfloat16",
    "gradient_checkpointing": True,
    "num_train_epochs": 1,
    "warmup_ratio": 0.1,
    "max_grad_norm": 1.0,
}
STANDARD = SHARED | {
    "attn_impl": "flash_attn",
    "packing": True,
    "max_length": 3072,
    "learning_rate": 2e-4,
    "save_steps": 200,
    "save_total_limit": 3,
    "logging_steps": 20,
}
LOW_MEMORY = SHARED | {
    "attn_impl": "sdpa",
    "packing": False,
    "max_length": 2048,
    "learning_rate": 1e-4,
    "save_steps": 100,
    "save_total_limit": 2,
    "logging_steps": 50,
}
MOE = STANDARD | {
    "max_length": 2048,
    "warmup_ratio": 0.05,
    "save_steps": 50,
    "save_total_limit": 2,
    "logging_steps": 5,
    "per_device_eval_batch_size": 1,
    "dataloader_num_workers": 4,
    "router_aux_loss_coef": 1e-3,
}
CPU = SHARED | {
    "torch_dtype": "float32",
    "attn_impl": "sdpa",
    "packing": False,
    "max_length": 512,
    "gradient_checkpointing": False,
    "learning_rate": 1e-3,
    "lora_dropout": 0,
    "save_steps": 20,
    "save_total_limit": 2,
    "logging_steps": 1,
    "dataset_num_proc": 1,
    "dataloader_num_workers": 0,
}
# Micro-batch, accumulation on one GPU, settings. The first four are the users' own numbers.
PRESETS = {
    "7b": (8, 4, STANDARD),
    "8b-tight": (6, 6, STANDARD),
    "20b": (2, 16, STANDARD),
    "low-memory": (1, 32, LOW_MEMORY),
    "8b": (8, 4, STANDARD),
    "20b-moe": (1, 32, MOE),
    "cpu": (8, 4, CPU),
    "none": (1, 32, {}),
}
ALONE = {"none"}
"""Presets that inherit nothing, and that no stage changes."""
UNTRACED = {"cpu", "none"}
"""Presets that say nothing of what a GPU must hold."""
OVERLAYS = {
    "fast": ({"micro": 16}, {"attn_impl": "flash_attn", "packing": True}),
    "fast-converge": ({}, {"learning_rate": 5e-4, "logging_steps": 10}),
    "long-context": ({}, {"max_length": 4096}),
    "long-run": ({}, {"save_steps": 500, "save_total_limit": 2}),
    "save-often": ({}, {"save_steps": 100, "save_total_limit": 5}),
    "short-context": ({}, {"max_length": 2048}),
    "stable": ({}, {"learning_rate": 1e-4, "warmup_ratio": 0.15, "max_grad_norm": 0.5}),
}


def values(settings):
    return {key: setting.value for key, setting in settings.items()}


def test_every_shipped_preset_and_overlay_is_in_the_tables(library):
    assert library.names() == sorted(PRESETS)
    assert library.overlay_names() == sorted(OVERLAYS)
    assert (len(PRESETS), len(OVERLAYS)) == (8, 7)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_has_exactly_these_values(library, name):
    micro, accumulation, train = PRESETS[name]
    preset = library.load(name)
    assert values(preset.batch) == {"micro": micro, "effective": micro * accumulation}
    assert values(preset.train) == train
    assert preset.chain == ((name,) if name in ALONE else ("base", name))
    assert preset.staged == (name not in ALONE)
    assert preset.title


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_has_exactly_these_values(library, name):
    batch, train = OVERLAYS[name]
    overlay = library.load_overlay(name)
    assert (values(overlay.batch), values(overlay.train)) == (batch, train)
    assert overlay.title


@pytest.mark.parametrize("name", [*PRESETS, *(f"overlays/{name}" for name in OVERLAYS)])
def test_every_decision_of_a_shipped_file_is_explained(library, name):
    kind, _, stem = name.rpartition("/")
    preset = library.load_overlay(stem) if kind else library.load(stem)
    unexplained = [key for key, item in (preset.train | preset.batch).items() if not item.why]
    assert set(unexplained) <= {"effective"}


def test_sources_name_where_a_value_was_written(library):
    tight = library.load("8b-tight")
    assert str(tight.batch["micro"].source) == "preset 8b-tight"
    assert tight.train["max_length"].source == Source("preset", "8b-tight", "base")
    assert str(tight.train["max_length"].source) == "preset 8b-tight ← base"
    assert str(library.load_overlay("stable").train["learning_rate"].source) == "overlay stable"


def shelf(tmp_path, flags, **files):
    """A library of files that a test writes; they stand in the shipped folder of a user without own presets."""
    folder = tmp_path / "shipped"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return Library(folder, None, flags)


BASE = '[batch]\nmicro = 8\neffective = 32\n[train]\nmax_length = 3072\n[why]\nmax_length = "a reason"\n'


def test_inheritance_over_three_files(tmp_path, flags):
    found = shelf(
        tmp_path,
        flags,
        base=BASE,
        middle='extends = "base"\n[batch]\nmicro = 4\n[train]\nlora_rank = 16\n[why]\nlora_rank = "more"\n',
        top='extends = "middle"\n[train]\nmax_length = 1024\n',
    ).load("top")
    assert found.chain == ("base", "middle", "top")
    assert values(found.batch) == {"micro": 4, "effective": 32}
    assert values(found.train) == {"max_length": 1024, "lora_rank": 16}
    assert str(found.train["lora_rank"].source) == "preset top ← middle"
    assert str(found.batch["effective"].source) == "preset top ← base"
    assert found.train["lora_rank"].why == "more"
    assert not found.train["max_length"].why, "the reason was for another value"


def test_the_users_own_preset_hides_the_shipped_one(tmp_path, flags, library):
    own = tmp_path / "own"
    own.mkdir()
    (own / "7b.toml").write_text('extends = "base"\n[batch]\nmicro = 3\n', encoding="utf-8")
    (own / "mine.toml").write_text('extends = "8b-tight"\n', encoding="utf-8")
    both = Library(library.load("7b").path.parent, own, flags)
    assert both.load("7b").batch["micro"].value == 3
    assert both.load("mine").batch["effective"].value == 36
    assert set(both.names()) == {*PRESETS, "mine"}


def test_a_preset_may_be_a_file_anywhere(tmp_path, library):
    path = tmp_path / "elsewhere.toml"
    path.write_text('extends = "20b"\n[train]\nlora_rank = 64\n', encoding="utf-8")
    preset = library.load(str(path))
    assert (preset.name, preset.train["lora_rank"].value, preset.batch["micro"].value) == ("elsewhere", 64, 2)


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("8b-tigth", "there is no preset 8b-tigth", "did you mean 8b-tight"),
        ("xyz", "there is no preset xyz", "20b, 20b-moe, 7b, 8b, 8b-tight, cpu, low-memory"),
        ("./no.toml", "preset file ./no.toml does not exist", ""),
    ],
)
def test_a_preset_that_is_not_there(library, name, message, hint):
    with pytest.raises(TunekitError) as refused:
        library.load(name)
    assert refused.value.message == message
    assert hint in (refused.value.hint or "")


def test_an_overlay_that_is_not_there(library):
    with pytest.raises(TunekitError, match="there is no overlay stabel") as refused:
        library.load_overlay("stabel")
    assert "stable" in refused.value.hint


ROW = {"peak_gib": "9.5", "gpu_gb": "16", "loss_percent": "100", "liger": "false", "by": '"trace"'}
ROW_NAME = '"Qwen2.5-7B"'


def fits_file(part="", instead="peak_gib"):
    """A table of two rows, the second with `part` in the place of a key."""
    good = ", ".join(f"{key} = {value}" for key, value in ROW.items())
    rest = [f"{key} = {value}" for key, value in ROW.items() if key != instead]
    return f"[fits]\n{ROW_NAME} = [\n    {{ {good} }},\n    {{ {', '.join(filter(None, [part, *rest]))} }},\n]\n"


# What is in the file, the line and the key that the error names, and what its message or hint says besides.
BAD = {
    "typo in the top table": ('titel = "x"\n', 1, "titel", "title"),
    "typo in a table's name": ('title = "x"\n\n[trian]\nlora_rank = 8\n', 3, "trian", "train"),
    "typo in batch": ("[batch]\nmicro = 8\n\nefective = 32\n", 4, "efective", "effective"),
    "typo in auto": ("[[auto]]\nparams_b = 8\ngpu_gb = 40\n", 3, "gpu_gb", "gpu_gib"),
    "typo in train": ("[batch]\nmicro = 8\n[train]\nlora_rnak = 8\n", 4, "lora_rnak", "--lora_rank"),
    "typo in why": ('[train]\nmax_length = 9\n[why]\nmax_lenght = "x"\n', 4, "max_lenght", "max_length"),
    "why for a key that is not set": ('[train]\nlora_rank = 8\n[why]\npacking = "x"\n', 4, "packing", "set nowhere"),
    "why is not text": ("[train]\nlora_rank = 8\n[why]\nlora_rank = 5\n", 4, "lora_rank", ""),
    "accumulation under train": (
        "[train]\ngradient_accumulation_steps = 4\n",
        2,
        "gradient_accumulation_steps",
        "solved from [batch] effective",
    ),
    "micro-batch under train": (
        "[train]\nper_device_train_batch_size = 4\n",
        2,
        "per_device_train_batch_size",
        "write micro = … under [batch]",
    ),
    "effective below 32": ("[batch]\nmicro = 4\neffective = 16\n", 3, "effective", "must be 32 or more, not 16"),
    "effective is a text": ('[batch]\neffective = "32"\n', 2, "effective", "whole number"),
    "micro is a fraction": ("[batch]\nmicro = 1.5\n", 2, "micro", "whole number"),
    "micro is true": ("[batch]\nmicro = true\n", 2, "micro", "whole number"),
    "micro is 0": ("[batch]\nmicro = 0\n", 2, "micro", "whole number above 0"),
    "a number is a text": ('[train]\nlora_rank = "eight"\n', 2, "lora_rank", "takes a whole number, not eight"),
    "a number is a list": ('[train]\nlearning_rate = ["2e-4", "1e-4"]\n', 2, "learning_rate", "takes one value"),
    "a flag is a table": ("[train]\nlora_rank = {a = 1}\n", 2, "lora_rank", "must be a text, number"),
    "a flag is a date": ("[train]\nlora_rank = 2024-01-01\n", 2, "lora_rank", "must be a text, number"),
    "a word is none of the choices": (
        '[train]\ntorch_dtype = "bfloat61"\n',
        2,
        "torch_dtype",
        "did you mean bfloat16",
    ),
    "an old name": ('[train]\ntrain_type = "lora"\n', 2, "train_type", "--tuner_type since ms-swift 4.0"),
    "an old value": ('[train]\ntuner_type = "qlora"\n', 2, "tuner_type", "--quant_method bnb --quant_bits 4"),
    "no tables": ("batch = 3\n", 1, "batch", "must be a table: [batch]"),
    "train is a list of tables": ("[[train]]\nlora_rank = 8\n", 1, "train", "must be a table: [train]"),
    "title is a number": ("title = 7\n", 1, "title", "must be text"),
    "extends is a number": ("title = 'x'\nextends = 7\n", 2, "extends", "must be the name of a preset"),
    "auto with one bracket": ("[auto]\nparams_b = 8\n", 1, "auto", "[[auto]]"),
    "auto lacks a key": ("title = 'x'\n[[auto]]\nparams_b = 8\n", 2, "auto", "needs params_b and gpu_gib"),
    "auto has a text": ('[[auto]]\nparams_b = 8\ngpu_gib = "40"\n', 3, "gpu_gib", "wrong type"),
    "auto has a wrong type in its second row": (
        "[[auto]]\nparams_b = 8\ngpu_gib = 40\n[[auto]]\nparams_b = 9\ngpu_gib = true\n",
        6,
        "gpu_gib",
        "wrong type",
    ),
    "the same key in two tables": ('[why]\nmicro = "x"\n[batch]\nmicro = 0\n', 4, "micro", "above 0, not 0"),
    "fits with two brackets": ("[[fits]]\npeak_gib = 9\n", 1, "fits", "must be a table: [fits]"),
    "fits is no list": (f"[fits]\n{ROW_NAME} = {{}}\n", 2, "Qwen2.5-7B", "must be a list of tables"),
    "fits is an empty list": (f"[fits]\n{ROW_NAME} = []\n", 2, "Qwen2.5-7B", "must be a list of tables"),
    "a row of fits is a number": (f"[fits]\n\n{ROW_NAME} = [7]\n", 3, "Qwen2.5-7B", "row 1: must be a list of tables"),
    "typo in fits": (fits_file("peak_gb = 9"), 2, "Qwen2.5-7B", "row 2: peak_gb is not a key"),
    "wrong type in fits": (fits_file('peak_gib = "9"'), 2, "Qwen2.5-7B", "row 2: peak_gib has the wrong type: '9'"),
    "true is no number in fits": (fits_file("gpu_gb = true", "gpu_gb"), 2, "Qwen2.5-7B", "gpu_gb has the wrong type"),
    "a fraction of a GB in fits": (fits_file("gpu_gb = 40.5", "gpu_gb"), 2, "Qwen2.5-7B", "gpu_gb has the wrong type"),
    "fits lacks a key": (fits_file("", "liger"), 2, "Qwen2.5-7B", "row 2: liger is missing"),
    "no memory in fits": (fits_file("peak_gib = 0"), 2, "Qwen2.5-7B", "peak_gib must be more than 0"),
    "too many percent in fits": (fits_file("loss_percent = 101", "loss_percent"), 2, "Qwen2.5-7B", "must be 0 to 100"),
    "a guess in fits": (fits_file('by = "guess"', "by"), 2, "Qwen2.5-7B", "must be trace or estimate, not guess"),
    "unknown parent": ('title = "x"\nextends = "bsae"\n', 2, "bsae", "base"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_named_with_line_and_key(tmp_path, flags, case):
    text, line, key, says = BAD[case]
    library = shelf(tmp_path, flags, base=BASE, bad=text)
    with pytest.raises(TunekitError) as refused:
        library.load("bad")
    message, hint = refused.value.message, refused.value.hint or ""
    assert message.startswith(f"{tmp_path}/shipped/bad.toml line {line}: ")
    assert "\n" not in message
    assert key in message
    assert says in f"{message} {hint}"


@pytest.mark.parametrize(
    ("text", "where"),
    [("[batch]\nmicro = \n", "line 2"), ("title = 'x'\n[train\n", "line 2"), ("a = 1\na = 2\n", "line 2")],
)
def test_a_file_that_is_not_toml(tmp_path, flags, text, where):
    with pytest.raises(TunekitError) as refused:
        shelf(tmp_path, flags, bad=text).load("bad")
    assert refused.value.message.startswith(f"{tmp_path}/shipped/bad.toml: not valid TOML")
    assert where in refused.value.message
    assert "\n" not in refused.value.message


def test_a_file_that_is_not_text(tmp_path, flags):
    library = shelf(tmp_path, flags)
    (tmp_path / "shipped/bad.toml").write_bytes(b"title = '\xff\xfe'\n")
    with pytest.raises(TunekitError, match="not UTF-8"):
        library.load("bad")


def test_presets_that_extend_each_other_in_a_ring(tmp_path, flags):
    library = shelf(tmp_path, flags, a='extends = "b"\n', b='extends = "c"\n', c='extends = "a"\n')
    with pytest.raises(TunekitError, match="extends itself, by way of a → b → c"):
        library.load("a")


def test_a_preset_that_extends_itself(tmp_path, flags):
    with pytest.raises(TunekitError, match=r"a\.toml.*extends itself"):
        shelf(tmp_path, flags, a='extends = "a"\n').load("a")


def test_an_error_in_the_parent_names_the_parents_file(tmp_path, flags):
    library = shelf(tmp_path, flags, base="[batch]\nmicor = 8\n", child='extends = "base"\n')
    with pytest.raises(TunekitError, match=r"base\.toml line 2: micor .*") as refused:
        library.load("child")
    assert "micro" in refused.value.hint


def test_values_get_the_type_of_their_flag(tmp_path, flags):
    """A rule that looks at `packing is True` must see true, however the file says it."""
    text = (
        '[train]\npacking = "true"\nmax_length = "2048"\ntarget_modules = "all-linear"\nlora_rank = 8\n'
        'learning_rate = "2e-4"\nmodel_kwargs = "{}"\nquant_bits = 4\n'
    )
    assert values(shelf(tmp_path, flags, mine=text).load("mine").train) == {
        "packing": True,
        "max_length": 2048,
        "target_modules": ["all-linear"],
        "lora_rank": 8,
        "learning_rate": 2e-4,
        "model_kwargs": "{}",
        "quant_bits": "4",
    }


def test_flags_of_rlhf_may_stand_in_a_preset(tmp_path, flags):
    train = shelf(tmp_path, flags, mine="[train]\nbeta = 0.1\nnum_generations = 8\n").load("mine").train
    assert values(train) == {"beta": 0.1, "num_generations": 8}


@pytest.mark.parametrize("flag", ["swanlab_token", "hub_token", "swanlab_secret", "swanlab_webhook_url"])
def test_a_preset_holds_no_secret(tmp_path, flags, flag):
    with pytest.raises(TunekitError, match=f"line 2: {flag}") as refused:
        shelf(tmp_path, flags, mine=f'[train]\n{flag} = "s3cr3t-s3cr3t"\n').load("mine")
    assert "s3cr3t" not in f"{refused.value.message} {refused.value.hint}"


def test_every_shipped_preset_says_what_it_takes(library):
    for name in PRESETS:
        rows = library.load(name).fits
        if name in UNTRACED:
            assert not rows
            continue
        assert len({row.model for row in rows}) >= 2
        for row in rows:
            assert row.peak_gib <= row.gpu_gb * GIB_PER_GB * (1 - SPARE)
        for model in {row.model for row in rows}:
            peaks = {(row.loss_percent, row.liger): row.peak_gib for row in rows if row.model == model}
            assert set(peaks) == {(100, False), (25, False), (100, True)}
            assert peaks[25, False] <= peaks[100, False]
            assert peaks[100, True] < peaks[100, False]


def test_what_a_preset_takes_is_not_inherited(tmp_path, flags):
    library = shelf(tmp_path, flags, base=fits_file("peak_gib = 8"), child='extends = "base"\n')
    first, second = library.load("base").fits
    assert first == Fits("Qwen2.5-7B", 9.5, 16, 100, liger=False, by="trace")
    assert second.peak_gib == 8
    assert library.load("child").fits == ()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "–"),
        ([("Qwen2.5-7B", 80, 100, False)], "7B: 80"),
        ([("Qwen2.5-7B", 80, 100, False), ("Qwen2.5-7B", 40, 25, False)], "7B: 40–80"),
        ([("Qwen2.5-7B", 80, 100, False), ("Qwen2.5-7B", 40, 100, True)], "7B: 80 (40)"),
        ([("Qwen2.5-7B", 80, 100, False), ("Qwen2.5-7B", 80, 100, True)], "7B: 80"),
        ([("Qwen2.5-7B", 24, 100, True)], "7B: (24)"),
        # The most demanding model of a size counts, for each share and with Liger.
        (
            [("a-7B", 80, 100, False), ("a-7B", 24, 25, False), ("b-7B", 40, 100, False), ("b-7B", 32, 25, False)],
            "7B: 32–80",
        ),
        (
            [("a-7B", 24, 100, False), ("a-14B", 48, 100, False), ("strange", 80, 100, False)],
            "7B: 24 · 14B: 48 · strange: 80",
        ),
    ],
)
def test_the_smallest_gpu_in_short(rows, said):
    assert in_short(Fits(model, 1.0, gpu, percent, liger, "trace") for model, gpu, percent, liger in rows) == said


BLOCK = f"{MARKS[0]} for x\n[fits]\n{MARKS[1]}\n"


@pytest.mark.parametrize("rest", ["[why]\nmicro = 'x'\n", "# a comment\n\n\n[why]\n", ""])
def test_only_the_table_is_replaced(rest):
    text = f"title = 'x'\n\n{BLOCK}{rest}"
    other = BLOCK.replace("for x", r"for \1 y")
    assert with_fits(text, other) == f"title = 'x'\n\n{other}{rest}"
    assert MARKS[0] not in without_fits(text)
    assert without_fits(text).endswith(rest)
    assert with_fits(with_fits("title = 'x'\n", BLOCK), BLOCK) == f"title = 'x'\n\n{BLOCK}"
    assert without_fits(with_fits("title = 'x'\n", BLOCK)) == "title = 'x'\n"
    assert without_fits("\ntitle = 'x'") == "\ntitle = 'x'"


def test_presets_are_listed_and_shown_with_what_they_take(tunekit, library):
    listed = tunekit("presets", "list")
    line = next(line for line in listed.out.splitlines() if line.startswith("8b-tight"))
    assert in_short(library.load("8b-tight").fits) in line
    assert "smallest GPU" in listed.out
    (tight,) = [row for row in tunekit("presets", "list", "--json").json["presets"] if row["name"] == "8b-tight"]
    assert [Fits(**row) for row in tight["fits"]] == list(library.load("8b-tight").fits)
    shown = tunekit("presets", "show", "8b-tight").out.splitlines()
    for row in library.load("8b-tight").fits:
        words = [row.model, f"{row.loss_percent} %", f"{row.peak_gib:.1f} GiB", f"{row.gpu_gb} GB", row.by]
        assert any(all(word in line for word in words) and ("yes" in line) == row.liger for line in shown)
    assert "takes of a GPU" not in tunekit("presets", "show", "cpu").out


def test_a_copy_says_nothing_of_what_the_original_took(tunekit, tmp_path, library):
    assert tunekit("presets", "copy", "8b-tight", "mine.toml").code == 0
    assert library.load(str(tmp_path / "mine.toml")).fits == ()
    original = library.load("8b-tight").path.read_text(encoding="utf-8")
    copy = (tmp_path / "mine.toml").read_text(encoding="utf-8")
    assert original.startswith(copy.partition("\n# Flags of ms-swift")[0].rstrip())


def test_a_copy_has_a_place_for_settings(tunekit, tmp_path, library):
    assert tunekit("presets", "copy", "8b-tight", "mine.toml").code == 0
    path = tmp_path / "mine.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("# learning_rate", "learning_rate"), encoding="utf-8")
    assert library.load(str(path)).train["learning_rate"].value == 1e-4
    assert tunekit("presets", "copy", "low-memory", "other.toml").code == 0
    assert (tmp_path / "other.toml").read_text(encoding="utf-8").count("[train]") == 1


def test_a_broken_preset_of_the_users_stops_nothing_else(tunekit, isolated):
    folder = isolated / "config/presets"
    folder.mkdir(parents=True)
    (folder / "own.toml").write_text('title = "x"\nsettings = 1\n', encoding="utf-8")
    listed = tunekit("presets", "list")
    assert listed.code == 0
    assert "left out: " in listed.err
    assert "own.toml line 2: settings is not a key" in listed.err
    assert "8b-tight" in listed.out
    assert tunekit("sft", "--model", "Qwen3-8B", "--gpus", "80GB", "--dataset", "d.jsonl", "--dry-run").code == 0
    assert tunekit("sft", "--model", "Qwen3-8B", "--preset", "own", "--dataset", "d.jsonl", "--dry-run").code == 2


@pytest.fixture(scope="session")
def script():
    """scripts/trace_presets.py as a module."""
    path = Path(__file__).parents[3] / "scripts/trace_presets.py"
    loader = importlib.util.spec_from_file_location("trace_presets", path)
    module = importlib.util.module_from_spec(loader)
    loader.loader.exec_module(module)
    return module


def test_a_table_is_made_for_every_preset_that_says_what_a_gpu_computes(script):
    assert set(script.PRESETS) == set(PRESETS) - UNTRACED
    assert all(model in script.PRESETS[preset] for preset, model in script.TRACED)


@pytest.mark.parametrize(
    ("preset", "old", "new", "says"),
    [
        ("7b", "", "", ""),
        ("20b-moe", "", "", ""),
        ("low-memory", "", "", ""),
        ("7b", "micro = 8", "micro = 4", "its table is not written by scripts/trace-presets for micro-batch 4"),
        ("7b", "[why]", "[train]\nmax_length = 2048\n[why]", "for micro-batch 8 × 2048"),
        ("7b", "[why]", "[train]\nlora_rank = 16\n[why]", "r16"),
        ("7b", "[why]", "[train]\ngradient_checkpointing = false\n[why]", "the estimate is"),
        ("7b", '"Mistral-7B"', '"Mistral-8B"', "other rows"),
        ("7b", "gpu_gb = 80", "gpu_gb = 48", "80 GB hold that"),
    ],
)
def test_a_table_that_is_out_of_date_is_seen(script, library, flags, tmp_path, monkeypatch, preset, old, new, says):
    """Nothing is traced here: the estimate judges all rows."""
    monkeypatch.setattr(script, "TRACED", ())
    shutil.copytree(library.load("7b").path.parent, tmp_path / "presets")
    path = tmp_path / "presets" / f"{preset}.toml"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    found = script.problems(Library(tmp_path / "presets", None, flags), preset, None)
    assert bool(found) == bool(says)
    assert not says or says in found[0]
