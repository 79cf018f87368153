"""Request → plan: layers, the batch, the environment, the choice of a preset."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunekit.errors import TunekitError
from tunekit.hardware import Gpu, Hardware
from tunekit.memory.estimate import estimate
from tunekit.plan.auto import choose_preset
from tunekit.plan.batch import Batch
from tunekit.plan.configuration import BATCH_FLAGS
from tunekit.plan.models.find import resolve
from tunekit.plan.models.model import Model
from tunekit.plan.plan import FIRST, Plan
from tunekit.plan.planner import Facts, make_plan
from tunekit.plan.predict import SPARE
from tunekit.plan.request import Request
from tunekit.plan.savings import LIGER_MODELS
from tunekit.plan.settings import COMMAND_LINE, Setting, Source, layer_of
from tunekit.stages import STAGES

NO_COMMA = st.text(st.characters(exclude_characters=","))
CONFIG, ENVIRONMENT = Source("config", "config.toml"), Source("environment")


def typed(number):
    return Setting(number, COMMAND_LINE)


# --- layers


def test_sources_from_the_weakest_to_the_strongest(make):
    """preset < overlay < config.toml < TUNEKIT_* < command line, each taken away in turn."""
    config = layer_of(CONFIG, {"learning_rate": 3e-4})
    environment = layer_of(ENVIRONMENT, {"learning_rate": 4e-4})
    asked = {"preset": "7b", "overlays": ["stable"], "layers": [config, environment], "learning_rate": 5e-4}
    seen = []
    for drop in ("learning_rate", "environment", "config", "overlays", None):
        found = make(**asked).settings["learning_rate"]
        seen.append((found.value, str(found.source)))
        if drop == "environment":
            asked["layers"] = [config]
        elif drop == "config":
            asked["layers"] = []
        elif drop:
            del asked[drop]
    assert seen == [
        (5e-4, "command line"),
        (4e-4, "environment"),
        (3e-4, "config config.toml"),
        (1e-4, "overlay stable"),
        (2e-4, "preset 7b ← base"),
    ]


def test_a_later_overlay_wins(make):
    assert make(preset="7b", overlays=["short-context", "long-context"]).get("max_length") == 4096
    plan = make(preset="7b", overlays=["long-context", "short-context", "stable"])
    assert (plan.get("max_length"), plan.overlays) == (2048, ("long-context", "short-context", "stable"))


def test_an_overlays_micro_batch_is_stronger_than_the_presets(make):
    plan = make(preset="7b", overlays=["fast"])
    assert plan.batch == Batch(16, 2)
    assert plan.settings["per_device_train_batch_size"].source == Source("overlay", "fast")


def test_a_flag_that_was_not_set_is_left_to_ms_swift(make):
    plan = make(preset="7b")
    assert plan.get("weight_decay") is None
    assert plan.get("weight_decay", 0.1) == 0.1


def test_the_order_of_flags_is_the_readers(make):
    plan = make("dpo", preset="7b", weight_decay=0.1, lora_rank=4)
    flags = list(plan.settings)
    known = [flag for flag in flags if flag in FIRST]
    assert flags[: len(known)] == known == [flag for flag in FIRST if flag in flags]
    assert flags[0] == "rlhf_type"
    assert "weight_decay" in flags[len(known) :]


def test_an_unknown_flag_names_who_said_it(make):
    with pytest.raises(TunekitError, match=r"^--lora_rnak is not a flag"):
        make(lora_rnak=4)
    with pytest.raises(TunekitError, match=r"^environment: --lora_rnak is not a flag"):
        make(layers=[layer_of(ENVIRONMENT, {"lora_rnak": 4})])


def test_a_flag_of_rlhf_in_a_preset_is_refused_for_sft(tmp_path, make):
    (tmp_path / "mine.toml").write_text('extends = "7b"\n[train]\nbeta = 0.2\n', encoding="utf-8")
    path = str(tmp_path / "mine.toml")
    plan = make("dpo", preset=path)
    assert plan.get("beta") == 0.2  # the user's own file counts more than the stage, the shipped preset less
    assert plan.get("learning_rate") == 5e-6
    with pytest.raises(TunekitError, match=r"^preset mine: --beta is not a flag"):
        make(preset=path)


def test_datasets_and_model_stand_in_the_plan(make):
    plan = make("pt", "Qwen3-8B")
    assert (plan.get("dataset"), plan.get("model"), plan.stage) == (["data.jsonl"], "Qwen/Qwen3-8B", STAGES["pt"])
    assert make("dpo").stage.name == make("dpo").get("rlhf_type") == "dpo"


def test_a_plan_for_another_machine_says_so(make):
    assert any("planned for the GPUs of --gpus" in warning for warning in make(gpus="2x80GB").warnings)
    assert not any("planned for" in warning for warning in make(gpus="cpu").warnings)


def test_packages_of_a_described_machine_are_taken_to_be_there(make):
    assert make(gpus="1x80GB", packages=None).get("attn_impl") == "flash_attn"
    assert make(gpus="1x80GB", packages=frozenset()).get("packing") is False


# --- the batch


@pytest.mark.parametrize("preset", ["7b", "8b", "8b-tight", "20b", "20b-moe", "low-memory", "cpu"])
@pytest.mark.parametrize("gpus", [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 64])
def test_effective_batch_of_every_preset_on_any_number_of_gpus(make, preset, gpus):
    plan = make(gpus=f"{gpus}x80GB", preset=preset)
    wanted = 36 if preset == "8b-tight" else 32
    assert plan.batch.data_parallel == gpus
    assert plan.batch.effective >= wanted
    assert (plan.batch.effective == wanted) is (wanted % gpus == 0)
    assert plan.get("per_device_train_batch_size") == plan.batch.micro
    assert plan.get("gradient_accumulation_steps") == plan.batch.accumulation
    assert any(warning.startswith("effective batch") for warning in plan.warnings) is (wanted % gpus != 0)


def test_what_had_to_give_way_is_said(make):
    plan = make(gpus="8x80GB", preset="8b-tight")
    assert "effective batch 36 → 40: 36 rows cannot be shared equally among 8 GPUs" in plan.warnings
    lowered = make(gpus="4x80GB", preset="8b-tight").settings["per_device_train_batch_size"]
    assert lowered.value == 3
    assert lowered.why.endswith("; lowered from 6, which does not divide 9 rows")


def test_a_typed_micro_batch_is_kept(make):
    for micro, gpus, effective in ((4, 1, 32), (5, 1, 35), (7, 2, 42), (64, 1, 64), (64, 2, 128)):
        plan = make(gpus=f"{gpus}x80GB", preset="7b", micro=typed(micro))
        assert (plan.batch.micro, plan.batch.effective) == (micro, effective)
        assert plan.settings["per_device_train_batch_size"].source == COMMAND_LINE


def test_a_typed_micro_batch_that_does_not_divide_a_typed_effective_batch(make):
    with pytest.raises(TunekitError, match="--micro-batch 5 does not divide 32, the rows of one GPU") as refused:
        make(preset="7b", micro=typed(5), effective=typed(32))
    assert refused.value.hint == "--micro-batch 4 does, or choose another --effective-batch"
    assert make(preset="7b", micro=typed(5), effective=typed(40)).batch == Batch(5, 8)


@pytest.mark.parametrize("number", [0, -1])
def test_a_micro_batch_below_1(make, number):
    with pytest.raises(TunekitError, match=f"the micro-batch must be 1 or more, not {number}"):
        make(preset="7b", micro=typed(number))


@pytest.mark.parametrize("number", [0, -1, 31])
def test_an_effective_batch_below_32(make, number):
    with pytest.raises(TunekitError, match=f"the effective batch must be 32 or more, not {number}"):
        make(preset="7b", effective=typed(number))


def test_a_configured_micro_batch_gives_way(make):
    plan = make(preset="7b", micro=Setting(5, CONFIG))
    assert plan.batch == Batch(4, 8)
    layer = layer_of(ENVIRONMENT, {"per_device_train_batch_size": 2})
    assert make(preset="7b", layers=[layer]).batch == Batch(2, 16)


def test_sequence_parallel_makes_fewer_copies(make):
    plan = make(gpus="8x80GB", preset="7b", sequence_parallel_size=4)
    assert plan.batch == Batch(8, 2, 2)
    assert plan.env["NPROC_PER_NODE"] == "8"
    with pytest.raises(TunekitError, match="8 processes cannot be split into groups of 3"):
        make(gpus="8x80GB", preset="7b", sequence_parallel_size=3)


@pytest.mark.parametrize("generations", [1, 2, 6, 7, 8, 16, 48])
@pytest.mark.parametrize("gpus", [1, 2, 3, 8])
def test_grpo_can_divide_its_completions(make, generations, gpus):
    """ms-swift: `generation_batch_size (8) must be evenly divisible by num_generations (3)`."""
    plan = make(
        "grpo",
        gpus=f"{gpus}x80GB",
        preset="7b",
        reward_funcs=["accuracy"],
        num_generations=generations,
    )
    assert plan.batch.effective % generations == 0
    assert plan.batch.effective >= 32


def test_grpo_has_8_generations_where_nothing_is_said(make):
    plan = make("grpo", gpus="3x80GB", preset="7b", reward_funcs=["accuracy"])
    assert plan.batch.effective == 48
    assert make("dpo", gpus="3x80GB", preset="7b").batch.effective == 36
    typed_5 = make("grpo", preset="7b", reward_funcs=["accuracy"], micro=typed(5))
    assert (typed_5.batch.micro, typed_5.batch.effective) == (5, 40)


def test_grpo_with_no_generations(make):
    with pytest.raises(TunekitError, match="num_generations must be 1 or more, not 0"):
        make("grpo", preset="7b", reward_funcs=["accuracy"], num_generations=0)


def test_tokens_per_step(make):
    assert make(preset="7b").tokens_per_step == 32 * 3072
    assert make(preset="7b", packing_length=8192).tokens_per_step == 32 * 8192
    assert make(preset="7b").packed
    assert not make(preset="low-memory").packed


# --- the environment


def test_one_gpu(make):
    assert make(gpus="1x80GB").env == {
        "CUDA_VISIBLE_DEVICES": "0",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    }


def test_several_gpus_get_a_process_each(make):
    env = make(gpus="4x80GB").env
    assert (env["CUDA_VISIBLE_DEVICES"], env["NPROC_PER_NODE"]) == ("0,1,2,3", "4")


def test_cpu(make, monkeypatch):
    assert make(gpus="cpu").env == {}
    monkeypatch.setenv("NPROC_PER_NODE", "2")
    plan = make(gpus="cpu")
    assert plan.env == {"NPROC_PER_NODE": "2"}
    assert plan.get("ddp_backend") == "gloo"
    assert plan.batch == Batch(8, 2, 2)


def test_several_machines(make, monkeypatch):
    monkeypatch.setenv("NNODES", "2")
    plan = make(gpus="1x80GB", preset="7b")
    assert plan.env["NPROC_PER_NODE"] == "1"
    assert plan.batch == Batch(8, 2, 2)


def test_deepspeed_needs_a_launcher_on_one_gpu_too(make):
    assert make(gpus="1x80GB", deepspeed="zero2").env["NPROC_PER_NODE"] == "1"


def test_gpus_are_named_as_the_user_named_them(make, flags, library):
    hardware = Hardware((Gpu("a", 80, 79, (8, 0), "3"), Gpu("a", 80, 79, (8, 0), "GPU-11")))
    facts = Facts(flags, library, {}, hardware, None, resolve("Qwen2.5-7B"))
    plan = make_plan(Request(STAGES["sft"], "Qwen2.5-7B"), facts)
    assert plan.env["CUDA_VISIBLE_DEVICES"] == "3,GPU-11"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "expandable_segments:True"),
        ("max_split_size_mb:128", "max_split_size_mb:128,expandable_segments:True"),
        ("expandable_segments:False", "expandable_segments:False"),
        ("expandable_segments:True,max_split_size_mb:64", "expandable_segments:True,max_split_size_mb:64"),
    ],
)
def test_the_allocators_setting_is_merged(make, before, after):
    assert make(environ={"PYTORCH_CUDA_ALLOC_CONF": before}).env["PYTORCH_CUDA_ALLOC_CONF"] == after


# --- the choice of a preset


@pytest.mark.parametrize(
    ("model", "gpus", "preset", "micro", "bits"),
    [
        ("Qwen2.5-0.5B", "1x16GB", "7b", 16, None),
        ("Qwen2.5-7B", "1x24GB", "7b", 2, None),
        ("Qwen2.5-7B", "1x48GB", "7b", 8, None),
        ("Qwen2.5-7B", "T4", "7b", 4, "4"),
        ("Qwen2.5-7B", "8xH100", "7b", 4, None),
        ("Qwen3-8B", "1x48GB", "8b-tight", 12, None),
        ("Qwen3-8B", "1x80GB", "8b", 16, None),
        ("Qwen2.5-14B", "1x48GB", "20b", 4, None),
        ("Qwen2.5-32B", "1x80GB", "20b", 2, None),
        ("Qwen2.5-32B", "1x24GB", "low-memory", 1, "4"),
        ("gpt-oss-20b", "1x80GB", "20b-moe", 8, None),
        ("Qwen2.5-7B", "cpu", "cpu", 8, None),
    ],
)
def test_auto(make, model, gpus, preset, micro, bits):
    plan = make(model=model, gpus=gpus, liger_models=LIGER_MODELS)
    assert (plan.preset, plan.batch.micro, plan.get("quant_bits")) == (preset, micro, bits)
    assert plan.batch.effective >= 32
    peak = plan.peak
    assert peak is None or peak.verdict == "fits"


@pytest.mark.parametrize(("model", "gpus"), [("Qwen2.5-7B", "1x24GB"), ("Qwen3-8B", "1x80GB"), ("gpt-oss-20b", "H100")])
def test_auto_takes_the_largest_micro_batch(make, model, gpus):
    """With the next divisor of the rows it would not fit any more."""
    plan = make(model=model, gpus=gpus, liger_models=LIGER_MODELS)
    rows = plan.batch.micro * plan.batch.accumulation
    larger = min(number for number in range(plan.batch.micro + 1, rows + 1) if rows % number == 0)
    peak = plan.peak
    assert estimate(replace(peak.spec, micro_batch=larger)).process_gib > (1 - SPARE) * peak.card_gib
    assert plan.settings["per_device_train_batch_size"].source == Source("memory")


def test_auto_quantizes_only_where_one_row_does_not_fit(make):
    assert make(gpus="1x24GB").get("quant_method") is None
    plan = make(gpus="1x16GB", liger_models=LIGER_MODELS)
    change = next(change for change in plan.changes if change.flag == "quant_method")
    assert (change.by, change.after) == (Source("rule", "qlora-to-fit"), "bnb")
    assert "1 row would take" in change.why
    assert make(gpus="1x16GB", packages=frozenset({"flash_attn"})).get("quant_method") is None


def test_auto_switches_liger_on_where_it_is_and_says_what_it_saves(make):
    plan = make(gpus="1x80GB", liger_models=LIGER_MODELS)
    change = next(change for change in plan.changes if change.flag == "use_liger_kernel")
    assert change.by == Source("rule", "liger")
    assert re.search(r"micro-batch 16 takes 4\d\.\d instead of 5\d\.\d GiB \(of 12\d\.\d where every", change.why)
    for without in (
        make(gpus="1x80GB"),
        make(gpus="1x80GB", liger_models=LIGER_MODELS, packages=frozenset({"flash_attn"})),
        make(gpus="1x80GB", liger_models=LIGER_MODELS, use_liger_kernel=False),
        make("dpo", gpus="1x80GB", liger_models=LIGER_MODELS),
        make(gpus="1x80GB", liger_models=LIGER_MODELS, preset="7b"),
    ):
        assert without.get("use_liger_kernel") is not True


def test_auto_takes_no_more_than_the_preset_for_a_model_that_sees(make):
    """How many images a row has is not known."""
    assert make(model="Qwen2.5-7B", gpus="1x80GB").batch.micro == 16
    assert make(model="Qwen2.5-VL-7B-Instruct", gpus="1x80GB").batch.micro == 8
    assert make(model="Qwen2.5-VL-7B-Instruct", gpus="1x24GB").batch.micro == 2


def test_auto_does_not_claim_what_was_not_found(make):
    assert "not even one row fits" in make(model="Qwen2.5-72B", gpus="1x24GB").preset_reason
    unknown = make(model=Model("org/unlisted-7b", 7.0), gpus="1x80GB")
    assert "largest that fits" not in unknown.preset_reason


@pytest.mark.parametrize(("word", "near"), [("swanlabb", "swanlab"), ("tensorbord", "tensorboard")])
def test_a_tracker_that_is_not_known(make, word, near):
    with pytest.raises(TunekitError, match=f"does not know {word}") as refused:
        make(report_to=[word])
    assert near in refused.value.hint


def test_auto_keeps_a_typed_micro_batch_and_says_that_it_does_not_fit(make):
    plan = make(gpus="1x16GB", micro=Setting(32, COMMAND_LINE), packages=frozenset())
    assert plan.batch.micro == 32
    assert plan.peak.verdict == "does not fit"


def test_the_share_of_vllm_is_not_there_to_train_in(make):
    grpo = {"stage": "grpo", "gpus": "1x80GB", "reward_funcs": ["accuracy"]}
    alone = make(packages=frozenset({"flash_attn"}), **grpo)
    beside = make(packages=frozenset({"flash_attn", "vllm"}), **grpo)
    assert beside.get("vllm_gpu_memory_utilization") == 0.4
    assert beside.peak.card_gib == pytest.approx(0.6 * alone.peak.card_gib)
    assert beside.batch.micro < alone.batch.micro
    assert beside.batch.effective == alone.batch.effective


def test_full_training_shares_among_gpus_where_it_must(make):
    plan = make(model="Qwen2.5-14B", gpus="8x80GB", tuner_type="full", liger_models=LIGER_MODELS)
    assert str(plan.get("deepspeed")).startswith("zero")
    assert next(change.by for change in plan.changes if change.flag == "deepspeed") == Source("rule", "zero-to-fit")
    assert plan.peak.safe


def test_what_earlier_runs_measured_lowers_the_micro_batch(make):
    micro = [make(gpus="1x40GB", memory_correction=factor).batch.micro for factor in (0.8, 1.2)]
    assert micro[0] > micro[1]


def test_measured_loss_counts(make):
    every, none = (make(preset="7b", loss_share=share).peak.prediction for share in (1.0, 0.0))
    assert every.process_gib > none.process_gib + 5


@pytest.mark.parametrize(("gpus", "preset"), [("1x24GB", "low-memory"), ("1x40GB", "7b"), ("1x80GB", "7b")])
def test_auto_goes_by_the_tables_where_the_memory_cannot_be_predicted(make, gpus, preset):
    assert make(model=Model("org/unlisted-7b", 7.0), gpus=gpus).preset == preset


@pytest.mark.parametrize(
    ("model", "gpus", "reason"),
    [
        ("Qwen2.5-7B", "1x80GB", "it is meant for models up to 7.9B; the micro-batch is the largest that divides"),
        ("gpt-oss-20b", "1x48GB", "mixture-of-experts models up to 22B"),
        ("Qwen2.5-32B", "1x80GB", "as large as presets are made for"),
        ("Qwen2.5-7B", "cpu", "there is no GPU to train on"),
        ("phi-4", "1x80GB", "the size of the model is not known"),
    ],
)
def test_auto_says_why(make, model, gpus, reason):
    assert reason in make(model=model, gpus=gpus).preset_reason


@pytest.mark.parametrize(
    ("model", "gpus", "limit"),
    [
        ("Qwen2.5-7B", "8xH100", "32 rows ÷ 8 GPUs leave 4 for each; 29 would fit, with --effective-batch 232"),
        ("Qwen2.5-7B", "1x80GB", "divides the 32 rows of one GPU: 30 would fit, with --effective-batch 60"),
        ("Qwen2.5-VL-7B-Instruct", "1x80GB", "is the preset's: how many images a row has is not known"),
        ("Qwen2.5-7B", "1x24GB", "3 would fit, with --effective-batch 33; the preset's own 8 want a larger GPU"),
        ("Qwen2.5-7B", "1x16GB", "the micro-batch is the largest that fits; the preset's own 8 want a larger GPU"),
    ],
)
def test_auto_says_what_limits_the_micro_batch(make, model, gpus, limit):
    assert limit in make(model=model, gpus=gpus, liger_models=LIGER_MODELS).preset_reason


def test_a_saving_is_never_said_to_be_needed_by_what_fits(make):
    said = [
        change.why
        for model in ("Qwen2.5-7B", "Qwen2.5-14B", "Qwen2.5-32B", "Qwen2.5-72B")
        for gpus in ("1x16GB", "2x24GB", "2x48GB", "8x40GB", "4x80GB")
        for change in make(model=model, gpus=gpus, liger_models=LIGER_MODELS).changes
        if "1 row would take" in change.why
    ]
    assert said
    for why in said:
        takes, card = (float(number) for number in re.findall(r"\d+\.\d", why))
        assert takes > card or why.endswith("with too little to spare")


TYPED_MICRO = [
    *(("Qwen2.5-7B", "1x24GB", 1), ("Qwen2.5-7B", "1x80GB", 32), ("Qwen2.5-72B", "8x80GB", 1)),
    *(("Qwen2.5-72B", "8x80GB", 4), ("Qwen2.5-32B", "1x24GB", 1), ("Qwen2.5-7B", "1x16GB", 8)),
    *(("gpt-oss-20b", "2x80GB", 2), ("Qwen2.5-VL-7B-Instruct", "1x80GB", 4), ("Qwen2.5-7B", "cpu", 2)),
]


@pytest.mark.parametrize(("model", "gpus", "micro"), TYPED_MICRO)
def test_a_typed_micro_batch_changes_nothing_but_the_batch(make, model, gpus, micro):
    alone = make(model=model, gpus=gpus, liger_models=LIGER_MODELS)
    plan = make(model=model, gpus=gpus, liger_models=LIGER_MODELS, micro=typed(micro))
    assert (plan.preset, plan.overlays, plan.env) == (alone.preset, alone.overlays, alone.env)
    values, others = (
        {flag: setting.value for flag, setting in one.settings.items() if flag not in BATCH_FLAGS}
        for one in (plan, alone)
    )
    assert values == others
    assert [change.flag for change in plan.changes] == [change.flag for change in alone.changes]
    assert plan.batch.micro == micro
    assert "the micro-batch" not in plan.preset_reason
    assert list(plan.settings) == list(alone.settings)


def test_a_named_preset_has_no_reason(make):
    plan = make(preset="20b")
    assert (plan.preset, plan.preset_reason) == ("20b", "")


@pytest.mark.parametrize(
    "words",
    [
        ("sft", "--model", "Qwen2.5-7B", "--gpus", "80GB", "--dataset", "d.jsonl", "--dry-run"),
        (
            "sft",
            "--model",
            "Qwen2.5-32B",
            "--gpus",
            "2x24GB",
            "--dataset",
            "d.jsonl",
            "--with",
            "stable,fast",
            "--explain",
            "--force",
        ),
        ("dpo", "--model", "Qwen3-8B", "--gpus", "80GB", "--dataset", "d.jsonl", "--preset", "8b-tight", "--json"),
        ("fit", "--model", "Qwen2.5-7B", "--gpus", "16GB", "--json"),
    ],
)
def test_a_dry_run_reads_each_preset_and_computes_each_peak_once(tunekit, monkeypatch, words):
    from tunekit.memory import estimate as memory
    from tunekit.plan import plan as plans
    from tunekit.plan import predict
    from tunekit.plan.presets import shelf

    def counted(module, name):
        """What a function of a module is given first, call by call."""
        asked, function = [], getattr(module, name)

        def call(first, *more):
            asked.append(first)
            return function(first, *more)

        monkeypatch.setattr(module, name, call)
        return asked

    memory.estimate.cache_clear()
    predict._peak.cache_clear()
    read, planned, computed = counted(shelf, "read_toml"), counted(plans, "peak_of"), counted(memory, "static_bytes")
    assert tunekit(*words).code == 0
    assert len(read) == len(set(read)) > 1
    assert len(planned) == len({id(plan) for plan in planned}) > 0
    assert len(computed) == len(set(computed)) > 0


def test_auto_never_takes_a_preset_that_is_too_large(library):
    """Where nothing is predicted, the micro-batch does not grow when the model grows or the GPU shrinks."""
    sizes = [0.5, 3, 7, 8, 14, 24, 30, 70]
    cards = [8, 15, 24, 40, 47.3, 78.8, 141]
    for moe in (False, True):
        table = [
            [
                library.load(
                    choose_preset(Model("m", size, moe=moe), Hardware((Gpu("g", card),)), library, predictable=False)[0]
                )
                .batch["micro"]
                .value
                for card in cards
            ]
            for size in sizes
        ]
        for row in table:
            assert row == sorted(row)
        for column in zip(*table, strict=True):
            assert list(column) == sorted(column, reverse=True)


# --- a plan and its JSON

PLANS = {
    "sft": {},
    "cpu": {"gpus": "cpu"},
    "grpo": {"stage": "grpo", "reward_funcs": ["accuracy", "format"]},
    "rules": {"gpus": "2xT4", "overlays": ["stable", "fast"]},
    "moe": {"model": "gpt-oss-20b", "gpus": "1xH100"},
    "dropped": {"warmup_steps": 10},
    "unknown": {"model": "someone/New-3B"},
    "undecided": {
        "model": Model("folder", 1, undecided=(("template", "it is not known"),), local=True),
        "template": "chatml",
    },
}


@pytest.mark.parametrize("case", PLANS)
def test_json_round_trip(make, case):
    plan = make(**PLANS[case])
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_json_round_trip_after_retries(make):
    by, batch = Source("retry", "1"), Batch(4, 8)
    plan = make(preset="7b").changed({"use_liger_kernel": True, "packing": None}, by, "less memory", batch)
    assert plan.batch == batch
    assert plan.get("per_device_train_batch_size") == 4
    assert plan.get("packing") is None
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    by_retry = [change.line() for change in plan.changes if change.by == by]
    assert by_retry == [
        "use_liger_kernel → true",
        "packing true → dropped",
        "per_device_train_batch_size 8 → 4",
        "gradient_accumulation_steps 4 → 8",
    ]


@given(st.dictionaries(st.sampled_from(["A", "B"]), st.text()), st.text(), st.lists(NO_COMMA, max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_json_round_trip_of_any_text(make, env, word, words):
    plan = make(preset="7b", system=word, target_modules=words)
    plan = replace(plan, env=env, warnings=(word,))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_plan_of_another_version_is_told(make):
    document = make().to_json()
    with pytest.raises((KeyError, TypeError)):
        Plan.from_json({key: value for key, value in document.items() if key != "batch"})
    with pytest.raises((KeyError, TypeError)):
        Plan.from_json(document | {"colour": "blue"})


@pytest.mark.parametrize("rows", [1_000_001, 10**400])
def test_batches_that_no_step_computes(make, rows):
    with pytest.raises(TunekitError, match="--effective-batch is more than 1,000,000 rows"):
        make(preset="7b", effective=typed(rows))
    with pytest.raises(
        TunekitError,
        match=r"--micro-batch is more than 1,000,000 rows|--per_device_train_batch_size takes a whole number",
    ):
        make(micro=typed(rows))
