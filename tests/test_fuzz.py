"""Whatever is typed, or stands in a file: a result or a TunekitError comes of it. Thousands of bad inputs, seeded."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from running import a_plan, make_checkpoint

from tunekit.cli.words import ENDINGS
from tunekit.data.files import local_file
from tunekit.data.functions.find import REWARD, find_function
from tunekit.data.sound import read_all
from tunekit.engine.command import build_command
from tunekit.engine.failures import classify
from tunekit.engine.logs import read_lost_rows, read_progress, read_summary
from tunekit.errors import TunekitError
from tunekit.files import path_of, read_object, read_toml
from tunekit.hardware import choose_hardware
from tunekit.memory.estimate import estimate
from tunekit.memory.geometry import Geometry
from tunekit.memory.spec import Spec
from tunekit.plan.models.config import config_of
from tunekit.plan.models.find import resolve
from tunekit.plan.pasted import in_todays_names
from tunekit.plan.planner import Facts, make_plan
from tunekit.plan.predict import peak_of
from tunekit.plan.presets.shelf import Library
from tunekit.plan.request import read_request
from tunekit.plan.said import Said, Words, gather_words
from tunekit.plan.settings import COMMAND_LINE
from tunekit.plan.settings_file import read_settings, with_file
from tunekit.plan.user_words import user_words
from tunekit.recipes.reader import read_recipe
from tunekit.runs.checkpoints import complete, newest, whole
from tunekit.runs.folder import RunFolder, RunState
from tunekit.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tunekit.plan.flags import FlagTable

LONG = "9" * 5000
WORDS = (
    *(
        "",
        " ",
        "0",
        "-1",
        "1",
        "8",
        "None",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "1e300",
        LONG,
        "1" * 400,
        "²",
        "１２",
        "1_0",
    ),
    *(
        "--deepspeed",
        "--gradient_accumulation_steps",
        "-h",
        "a" * 300,
        "~nouser/x",
        "a\0b",
        "\udce9",
        "\ud800",
        "\x1b[2J",
    ),
    *("..", ".", "/", "/dev/zero", "true", "false", "float8", "4", "lora", "full", "all-linear", "a/b", "{}", "[]"),
    *(
        "2x24GB",
        "9999999x24GB",
        "0x24GB",
        "24gb",
        "1e9GB",
        "cpu",
        "auto",
        "7b",
        "cpu.toml",
        "x" * 70 + "\n",
        "💥",
        "1000000007",
    ),
)
JSON_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 10**400, 0.5, float("nan"), float("inf"), -0.0, "", "x", "\ud800", "None"),
    *([], [1], [None], [{}], {}, {"a": 1}, {"a": {"a": []}}, ["x"], "4", [8, 0], 1e308, 64),
)
CONFIG: dict[str, Any] = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "intermediate_size": 64,
    "dtype": "float32",
    "text_config": None,
    "vision_config": None,
    "num_experts": 4,
    "decoder_sparse_step": 1,
    "head_dim": 32,
    "mlp_only_layers": [],
    "tie_word_embeddings": False,
    "quantization_config": None,
    "hidden_act": "silu",
}
FLAGS = [
    "lora_rank",
    "learning_rate",
    "num_train_epochs",
    "max_length",
    "quant_bits",
    "quant_method",
    "target_modules",
    "modules_to_save",
    "deepspeed",
    "packing",
    "tuner_type",
    "warmup_ratio",
    "max_steps",
    "eval_steps",
    "save_steps",
    "freeze_parameters_ratio",
    "vit_lr",
    "report_to",
    "attn_impl",
    "sequence_parallel_size",
    "torch_dtype",
    "max_pixels",
    "effective_batch",
    "per_device_train_batch_size",
    "gpus",
    "preset",
    "with",
    "name",
    "max_attempts",
    "tuning_strategy",
    "trainable_layers",
    "num_generations",
    "lora_alpha",
    "dataloader_num_workers",
    "output_dir",
    "oom_retry",
    "system",
]
NAMES = [
    "tuner",
    "quant_bits",
    "lora_rank",
    "micro_batch",
    "seq_len",
    "loss_share",
    "optimizer",
    "precision",
    "gpus",
    "lengths",
    "cap_gib",
    "zero_stage",
    "sharding",
    "capability",
]


def dice() -> random.Random:
    """The same every time: what fails on one machine fails on all."""
    return random.Random(9)  # noqa: S311 - nothing here is a secret


def ends(call: Callable[..., Any], *args: Any) -> Any:
    """What a call gives, or None where it refuses; anything else it may raise is what this looks for."""
    refused = ""
    try:
        return call(*args)
    except TunekitError as error:
        refused = error.message
    assert 0 < len(refused) < 20_000
    return None


def mangled(chance: random.Random, text: bytes) -> bytes:
    """A text of which a part is missing, doubled or something else."""
    at, to = sorted(chance.randrange(len(text) + 1) for _ in range(2))
    junk = (
        b"",
        b"\xff\xfe",
        b"[" * 3000,
        b"{" * 3000,
        LONG.encode(),
        b"\0",
        b'"',
        b"\n",
        b"nan",
        b"\xed\xa0\x80",
        text[at:to],
    )
    return text[:at] + chance.choice(junk) + text[chance.choice((at, to)) :]


def replaced(chance: random.Random, document: dict[str, Any]) -> dict[str, Any]:
    """A document in which one to three values are of another kind, or gone."""
    found = dict(document)
    for name in chance.sample(sorted(found), chance.randint(1, 3)):
        found[name] = chance.choice(JSON_VALUES)
        if chance.random() < 0.1:
            del found[name]
    return found


def test_readers(tmp_path: Path) -> None:
    chance = dice()
    path, table = tmp_path / "x.jsonl", tmp_path / "x.csv"
    rows = b'{"messages": [{"role": "user", "content": "a"}]}\n{"query": "b", "response": 1}\n'
    for number in range(700):
        path.write_bytes(mangled(chance, rows if number % 2 else b"[" + rows.replace(b"\n", b",") + b"{}]"))
        ends(list, ends(lambda: read_all(path, 20)) or ())
        table.write_bytes(mangled(chance, b"query,response\na,b\n"))
        ends(lambda: list(read_all(table, 20)))
        assert isinstance(read_object(path), dict)
        path.write_bytes(mangled(chance, b'title = "x"\n[train]\nlora_rank = 8\nlist = ["a", "b"]\n'))
        ends(read_toml, path)


@pytest.mark.filterwarnings("ignore")
def test_functions(tmp_path: Path) -> None:
    chance = dice()
    text = b"import os\ndef f(prompts, responses, **columns):\n    return [1.0 for _ in responses]\n"
    for _ in range(300):
        (tmp_path / "r.py").write_bytes(mangled(chance, text))
        ends(find_function, f"{tmp_path}/r.py:{chance.choice(('f', 'g', ''))}", REWARD)
    for junk in (b"x = " + b"-" * 20_000 + b"1", b"(" * 5000, b"x = " + b"a." * 90_000 + b"a"):
        (tmp_path / "r.py").write_bytes(junk)
        ends(find_function, f"{tmp_path}/r.py:f", REWARD)


def test_words(tmp_path: Path, library: Library) -> None:
    for word in WORDS:
        for call in (path_of, resolve, local_file, choose_hardware, library.load, library.load_overlay):
            ends(call, word)
        ends(find_function, f"{word}:f", REWARD)
        ends(resolve, f"{tmp_path}/{word}")


def test_configurations(tmp_path: Path) -> None:
    chance = dice()
    for number in range(1500):
        config = replaced(chance, CONFIG)
        ends(Geometry.from_config, config)
        spec = replaced(chance, {"config": config, "target_modules": ["q_proj"], **dict.fromkeys(NAMES)})
        found = ends(Spec.from_json, spec)
        if found:
            ends(estimate, found)
        if number % 3 == 0:
            (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
            (tmp_path / "args.json").write_text(
                json.dumps(replaced(chance, {"model_type": "x", "template": "y"} | CONFIG))
            )
            model = ends(resolve, str(tmp_path))
            if model:
                ends(config_of, model)


def test_plans(flags: FlagTable, library: Library) -> None:
    """What is typed, said in a configuration or the environment: a plan whose command holds no flag too many."""
    chance = dice()
    model = resolve("Qwen2.5-7B")
    made = 0
    for _ in range(1500):
        said = {name: chance.choice(WORDS) for name in chance.sample(FLAGS, chance.randint(1, 3))}
        stage = STAGES[chance.choice(("sft", "pt", "dpo", "grpo"))]

        def plan(said: dict[str, str] = said, stage: Any = stage) -> Any:
            every = {"dataset": "a/b", "model": "Qwen2.5-7B", **said}
            words = gather_words(COMMAND_LINE, [Said(name, (word,)) for name, word in every.items()])
            request = read_request(stage, in_todays_names(words, flags), (), flags)
            hardware = choose_hardware(request.gpus or "2x24GB")
            facts = Facts(flags=flags, shelf=library, environ={}, hardware=hardware, packages=frozenset(), model=model)
            return make_plan(request, facts)

        found = ends(plan)
        if found:
            made += 1
            peak_of(found)
            command = ends(build_command, found, path_of("out"))
            assert command
            named = [word for word in command.argv if word.startswith("--")]
            assert len(named) == len(found.settings) + 2
            assert found.batch.effective >= 32
    assert made > 100, "too few were planned for this to look at anything"


def test_files_of_settings(tmp_path: Path, flags: FlagTable) -> None:
    """Whatever a file holds, it is refused by a line, or its words can be read."""
    chance = dice()
    yaml = b"model: m\ntrain_type: qlora\ndataset: [a, 'b#5']\nlr: 1e-4\nENV:\n  MAX_PIXELS: 5\n"
    endless = yaml + b"x: &a {k: *a}\n"
    read = 0
    for _ in range(900):
        path = tmp_path / f"c{chance.choice(ENDINGS)}"
        path.write_bytes(mangled(chance, chance.choice((yaml, yaml, endless))))
        found = ends(read_settings, path)
        if found:
            read += 1
            words = ends(with_file, Words(), found, {})
            ends(in_todays_names, words, flags)
    assert read > 20, "too few were read for this to look at anything"


def test_presets_and_variables(tmp_path: Path, flags: FlagTable) -> None:
    chance = dice()
    library = Library(tmp_path / "none", tmp_path, flags)
    for number in range(1200):
        name, word = chance.choice(FLAGS), chance.choice(WORDS)
        value = chance.choice(
            (json.dumps(word), json.dumps([word, "a"]), LONG, "nan", "[[1]]", "{a = 1}", "1979-05-27")
        )
        path = tmp_path / f"p{number}.toml"
        path.write_text(f'title = "x"\n[train]\n{name} = {value}\n', encoding="utf-8", errors="replace")
        found = ends(library.load, path.stem)
        for setting in found.train.values() if found else ():
            assert not any(word.startswith("--") for word in setting.render())
        path.unlink()
        ends(user_words, flags, {f"TUNEKIT_{name.upper()}": word}, tmp_path / "config.toml")


def test_folders_of_runs(tmp_path: Path) -> None:
    """What a machine leaves that died, or another program wrote: each piece is whole, or is not taken."""
    chance, folder = dice(), RunFolder(tmp_path / "run")
    folder.output.mkdir(parents=True)
    folder.save(RunState("try", "failed", a_plan(), "neutral", 5, created="2026-11-21T09:30:00Z", cwd="/tmp"))
    state, known = (folder.path / "run.json").read_bytes(), make_checkpoint(folder.output / "checkpoint-4")
    kept = {file: file.read_bytes() for file in known.iterdir()}
    loaded = 0
    for _ in range(700):
        (folder.path / "run.json").write_bytes(mangled(chance, state))
        loaded += ends(folder.load) is not None
        file = chance.choice(sorted(kept))
        file.write_bytes(mangled(chance, kept[file]))
        assert whole(file) in (True, False)
        assert (newest(folder.output) == known) is complete(known)
        file.write_bytes(kept[file])
    assert complete(known)
    assert loaded < 700


def test_logs(tmp_path: Path) -> None:
    chance, file = dice(), tmp_path / "logging.jsonl"
    entry = b'{"loss": 1.5, "grad_norm": 0.1, "epoch": 1, "global_step/max_steps": "3/9", "elapsed_time": "1s"}\n'
    log = b"Dataset filtered, origin length: 9, filtered dataset length: 3\nTraceback (most recent call last):\n"
    log += b'  File "x.py", line 3, in f\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n'
    for _ in range(700):
        file.write_bytes(mangled(chance, entry * 3))
        assert read_progress(file).step >= 0
        assert isinstance(read_summary(file), dict)
        file.write_bytes(mangled(chance, log))
        read_lost_rows([file]).lines()
        assert classify(chance.choice((1, -9, 137, 3)), file.read_text(encoding="utf-8", errors="replace")).evidence


def test_recipes(tmp_path: Path, flags: FlagTable) -> None:
    chance, file = dice(), tmp_path / "two.toml"
    text = b'[defaults]\nmodel = "m"\n[[stage]]\ntype = "sft"\ndataset = "a.jsonl"\n'
    text += b'[[stage]]\ntype = "dpo"\nfrom = "sft"\n'
    read = 0
    for _ in range(500):
        file.write_bytes(mangled(chance, text))
        read += ends(read_recipe, file, flags, {}) is not None
    assert 0 < read < 500
