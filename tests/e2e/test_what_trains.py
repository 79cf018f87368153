"""Which parameters really train: every tuning strategy, as tunekit plans it, in the real ms-swift on tiny models."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import vision

from tunekit.plan.strategies import STRATEGIES

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.e2e, pytest.mark.engine]

LAYERS, BLOCKS = 4, 2
"""Of the tiny vision model (make_tiny_vl.py)."""

LINEARS = (
    *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    *("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
)
VIT_LINEARS = ("attn.qkv", "attn.proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")

LLM_ADAPTERS = [f"model.language_model.layers.{layer}.{name}" for layer in range(LAYERS) for name in LINEARS]
VIT_ADAPTERS = [f"model.visual.blocks.{block}.{name}" for block in range(BLOCKS) for name in VIT_LINEARS]
ALIGNER_ADAPTERS = ["model.visual.merger.mlp.0", "model.visual.merger.mlp.2"]
TEXT_ADAPTERS = [f"model.layers.{layer}.{name}" for layer in range(2) for name in LINEARS]

IN_FULL = {
    "full": lambda name: True,
    "freeze": lambda name: layer_of(name) == LAYERS - 1,
    "lora_llm_full_vit": lambda name: part_of(name) != "llm",
    "partial_llm_full_vit": lambda name: (
        part_of(name) != "llm" or (layer_of(name) in (3, None) and "embed" not in name)
    ),
    "llm_only": lambda name: part_of(name) == "llm",
    "vit_only": lambda name: part_of(name) != "llm",
    "vit_frozen_aligner": lambda name: part_of(name) == "vit",
    "aligner_only": lambda name: part_of(name) == "aligner",
}
"""Strategy → which of the model's own parameters train; the others train none of them."""

ADAPTERS = {
    "lora": LLM_ADAPTERS,
    "qlora": LLM_ADAPTERS,
    "lora_all": LLM_ADAPTERS + VIT_ADAPTERS + ALIGNER_ADAPTERS,
    "lora_llm_full_vit": LLM_ADAPTERS,
}
"""Strategy → the layers beside which adapters train."""

NEEDS = {"freeze": ("--trainable-layers", "1"), "partial_llm_full_vit": ("--llm-frozen-layers", "3")}
RATES = {
    "full": {"llm": 2e-5, "vit": 1e-4, "aligner": 1e-4},
    "lora_llm_full_vit": {"llm": 1e-4, "vit": 2e-4, "aligner": 2e-4},
    "partial_llm_full_vit": {"llm": 2e-5, "vit": 1e-4, "aligner": 1e-4},
    "vit_only": {"vit": 1e-4, "aligner": 1e-4},
}


def part_of(name):
    if name.startswith("model.visual.merger."):
        return "aligner"
    return "vit" if name.startswith("model.visual.") else "llm"


def layer_of(name):
    """The number of the language model's layer that a parameter belongs to."""
    parts = name.split(".")
    return int(parts[parts.index("layers") + 1]) if "layers" in parts else None


def plain(model, data, model_type, template):
    """A command of ms-swift that tunekit has not seen."""
    return [
        *("swift", "sft", "--model", str(model), "--model_type", model_type, "--template", template),
        *("--dataset", str(data), "--check_model", "false", "--report_to", "none", "--max_length", "256"),
        *("--torch_dtype", "float32", "--use_cpu", "true", "--fp16", "false", "--bf16", "false", "--max_steps", "1"),
    ]


def adapters(layers):
    return {f"{layer}.lora_{side}.default.weight" for layer in layers for side in "AB"}


@pytest.fixture
def run(swift_cases, tmp_path):
    """Plan with tunekit as a user would, run what it planned, and tell what trained."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("TUNEKIT_", "NPROC"))}
    paths = [str(path) for path in (ROOT, vision.folder()) if path]
    environ |= {"TUNEKIT_CONFIG": str(tmp_path / "config"), "PYTHONPATH": os.pathsep.join(paths)}

    def run(model, data, *words, more=()):
        same = ("--gpus", "cpu", "--max_steps", "1", "--report-to", "none", "--max-length", "256", "--json")
        command = [sys.executable, "-m", "tunekit", "sft", "--model", model, "--dataset", data, *same, *words]
        planned = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert planned.returncode == 0, planned.stderr
        plan = json.loads(planned.stdout)
        ended = swift_cases.run([*plan["argv"], *more], tmp_path, env=plan["env"], watch=True)
        assert ended.code == 0, ended.log[-3000:]
        return ended

    return run


def test_every_strategy_is_tested():
    assert IN_FULL.keys() | ADAPTERS.keys() == STRATEGIES.keys()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_trains_of_a_vision_model(strategy, run, tiny_vl):
    ended = run(tiny_vl, tiny_vl / "data.jsonl", "--tuning-strategy", strategy, *NEEDS.get(strategy, ()))
    chosen = IN_FULL.get(strategy, lambda name: False)
    own = {name for name in ended.parameters if ".lora_" not in name}
    wanted = {name for name in own if chosen(name)} | adapters(ADAPTERS.get(strategy, ()))
    assert len(own) == 80
    assert ended.trains == wanted
    assert {name for group in ended.groups for name in group.names} == wanted
    assert ended.modules.get("bitsandbytes.Linear4bit", 0) == (len(LLM_ADAPTERS) if strategy == "qlora" else 0)
    rates = {part_of(name): group.learning_rate for group in ended.groups for name in group.names}
    if strategy in RATES:
        assert rates == RATES[strategy]
    else:
        assert len(set(rates.values())) == 1


@pytest.mark.parametrize("strategy", ["full", "lora_llm_full_vit"])
def test_each_part_learns_at_its_own_rate(strategy, run, tiny_vl):
    given = {"llm": 3e-5, "vit": 4e-5, "aligner": 5e-5}
    words = [word for part, rate in given.items() for word in (f"--learning-rate-{part}", str(rate))]
    ended = run(tiny_vl, tiny_vl / "data.jsonl", "--tuning-strategy", strategy, *words)
    seen = {(part_of(name), group.learning_rate) for group in ended.groups for name in group.names}
    assert seen == set(given.items())


def test_the_rates_hold_after_a_resume(run, tiny_vl, tmp_path):
    words = ("--tuning-strategy", "lora_llm_full_vit", "--learning-rate-vit", "3e-4", "--save_steps", "1")
    first = run(tiny_vl, tiny_vl / "data.jsonl", *words)
    (checkpoint,) = tmp_path.glob("**/checkpoint-1")
    assert (checkpoint / "vit.safetensors").is_file()
    more = ("--resume_from_checkpoint", str(checkpoint), "--max_steps", "2")
    again = run(tiny_vl, tiny_vl / "data.jsonl", *words, more=more)
    assert again.trains == first.trains
    assert again.groups == first.groups
    assert "checkpoint-2" in again.log


@pytest.mark.parametrize(("words", "patches"), [((), 36), (("--max-pixels", "3136"), 16)])
def test_max_pixels_bounds_what_the_vit_sees(words, patches, run, tiny_vl):
    """The pictures are 84 × 84: 36 patches of 14 × 14, and 4 of them make a token."""
    ended = run(tiny_vl, tiny_vl / "data.jsonl", "--tuning-strategy", "lora", "--micro-batch", "4", *words)
    assert ended.pixels[0] == 4 * patches


@pytest.mark.parametrize(
    ("words", "quantized"),
    [
        (("--tuning-strategy", "lora"), None),
        (("--tuning-strategy", "qlora"), "Linear4bit"),
        (("--tuning-strategy", "qlora", "--quant_bits", "8"), "Linear8bitLt"),
        (("--tuning-strategy", "lora", "--use_dora", "true", "--use_rslora", "true", "--init_weights", "pissa"), None),
    ],
)
def test_adapters_of_a_text_model(words, quantized, run, tiny_model):
    ended = run(tiny_model, ROOT / "examples/identity.jsonl", *words)
    dora = {f"{layer}.lora_magnitude_vector.default.weight" for layer in TEXT_ADAPTERS if "--use_dora" in words}
    assert ended.trains == adapters(TEXT_ADAPTERS) | dora
    found = {name: ended.modules.get(f"bitsandbytes.{name}", 0) for name in ("Linear4bit", "Linear8bitLt")}
    assert found == {name: len(TEXT_ADAPTERS) if name == quantized else 0 for name in found}


def test_all_of_a_text_model(run, tiny_model):
    ended = run(tiny_model, ROOT / "examples/identity.jsonl", "--tuning-strategy", "full")
    assert ended.trains == ended.parameters
    assert {group.learning_rate for group in ended.groups} == {2e-5}


def test_the_last_layers_of_a_text_model(run, tiny_model):
    words = ("--tuning-strategy", "freeze", "--trainable-layers", "1")
    ended = run(tiny_model, ROOT / "examples/identity.jsonl", *words)
    assert ended.trains == {name for name in ended.parameters if name.startswith("model.layers.1.")}
    assert len(ended.trains) == 9


@pytest.mark.parametrize(
    ("model", "words", "told"),
    [
        ("vl", ("--tuner_type", "full", "--freeze_llm", "true"), "IndexError"),
        ("vl", ("--tuner_type", "lora", "--freeze_llm", "true"), "AssertionError: modules: []"),
        ("text", ("--tuner_type", "lora_llm"), "has no attribute 'language_model'"),
        ("text", ("--vit_lr", "1e-4"), "has no attribute 'vision_tower'"),
        ("text", ("--init_weights", "loftq"), "`loftq_config` must be specified"),
        ("text", ("--init_weights", "pisa"), "Unknown initialization"),
        ("text", ("--init_weights", "pissa", "--quant_method", "bnb", "--quant_bits", "4"), "initialize PiSSA under"),
        ("text", ("--target_modules", "all"), "Target modules {'all'} not found"),
    ],
)
def test_what_tunekit_refuses_fails_in_ms_swift(model, words, told, swift_cases, tiny_model, tiny_vl, tmp_path):
    data = tiny_vl / "data.jsonl" if model == "vl" else ROOT / "examples/identity.jsonl"
    kind = ("qwen2_5_vl", "qwen2_5_vl") if model == "vl" else ("llama", "chatml")
    argv = plain(tiny_vl if model == "vl" else tiny_model, data, *kind)
    ended = swift_cases.run([*argv, "--output_dir", str(tmp_path / "out"), *words], tmp_path)
    assert ended.code == 1
    assert told in ended.log


def test_a_run_that_takes_too_long_is_killed(swift_cases, tiny_model, tmp_path):
    argv = plain(tiny_model, ROOT / "examples/identity.jsonl", "llama", "chatml")
    ended = swift_cases.run(argv, tmp_path, limit=0.2)
    assert ended.code is None
    assert swift_cases.run(["swift", "sft", "--lora_rnak", "8"], tmp_path).code not in (0, None), "the next one runs"
