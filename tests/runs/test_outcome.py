"""What came of a training is told by its numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from running import a_plan

from tunekit.engine.logs import Progress, Rows
from tunekit.runs.outcome import Ending, Watch, in_digits, judge, results
from tunekit.stages import METRICS, STAGES

if TYPE_CHECKING:
    from pathlib import Path

NAN = math.nan


def trained(*steps: dict[str, Any]) -> Progress:
    """What a training logged, a step each."""
    progress = Progress()
    for number, entry in enumerate(steps, start=1):
        progress.take({"epoch": number / 10, "global_step/max_steps": f"{number}/{len(steps)}", **entry})
    return progress


def said(losses: list[float], grads: list[float] | None = None) -> Progress:
    if grads is None:
        return trained(*({"loss": loss} for loss in losses))
    return trained(*({"loss": loss, "grad_norm": grad} for loss, grad in zip(losses, grads, strict=True)))


# As ms-swift 4.6 logs them, by the stage.
@pytest.mark.parametrize(
    ("stage", "progress", "ending"),
    [
        ("sft", said([2.0, 1.0], [1.5, 0.5]), Ending.LEARNED),
        ("sft", said([2.0, 1.0]), Ending.LEARNED),
        ("sft", said([10.8, 10.8, 0.0], [5.2, 0.0, NAN]), Ending.DIVERGED),
        ("sft", said([2.0, NAN]), Ending.DIVERGED),
        ("sft", said([2.0, 1.0, 0.0]), Ending.DIVERGED),
        ("sft", said([2.0, 3.5], [1.0, 9.0]), Ending.DIVERGED),
        ("sft", said([2.0, 2.1], [1.0, 1.0]), Ending.LEARNED),
        ("sft", said([2.0, 0.0, 1.0], [1.0, NAN, 1.0]), Ending.LEARNED),
        ("sft", said([0.0, 0.0], [0.0, 0.0]), Ending.NOTHING),
        ("sft", said([0.0, 0.0], [NAN, NAN]), Ending.NOTHING),
        ("sft", said([2.0, 2.0], [0.0, 0.0]), Ending.NOTHING),
        ("sft", said([0.0, 0.0]), Ending.NOTHING),
        ("sft", said([2.0, 0.0], [NAN, NAN]), Ending.DIVERGED),
        ("sft", Progress(), Ending.UNKNOWN),
        ("sft", Progress(train_loss=1.5), Ending.LEARNED),
        ("sft", Progress(train_loss=0.0), Ending.NOTHING),
        ("sft", Progress(train_loss=NAN), Ending.DIVERGED),
        ("dpo", said([0.69, 0.69], [0.6, 0.6]), Ending.LEARNED),
        ("grpo", trained({"loss": 0.0, "grad_norm": 0.4, "reward": 0.1, "reward_std": 0.2}), Ending.LEARNED),
        ("grpo", trained(*[{"loss": 0.0, "grad_norm": 0.0, "reward": 0.0, "reward_std": 0.0}] * 3), Ending.NOTHING),
        (
            "grpo",
            trained({"loss": 0.1, "grad_norm": 1.0, "reward_std": 0.1}, {"loss": 9.0, "grad_norm": 1.0}),
            Ending.LEARNED,
        ),
        ("ppo", trained({"objective/scores": 0.1, "objective/kl": 0.0}), Ending.LEARNED),
    ],
)
def test_what_came_of_it(stage: str, progress: Progress, ending: Ending) -> None:
    verdict = judge(a_plan(stage=stage), progress, Rows())
    assert verdict.ending is ending
    assert bool(verdict.hint) >= (ending is not Ending.LEARNED), "what is wrong comes with what helps"


def test_a_diverged_run_names_the_step_and_the_remedies() -> None:
    plan = a_plan(learning_rate=2e-4)
    verdict = judge(plan, said([6.1, 5.0, 0.0, 0.0], [1.0, 9.0, NAN, NAN]), Rows())
    assert verdict.why == "the loss or its gradient is not a number since step 3"
    assert all(word in verdict.hint for word in ("6.7e-05", "warm-up", "0.5", "--with stable"))


def test_where_no_token_has_loss_a_loss_that_is_not_a_number_is_none() -> None:
    progress = said([NAN, NAN], [NAN, NAN])
    assert judge(a_plan(), progress, Rows()).ending is Ending.DIVERGED
    assert judge(a_plan(), progress, Rows(unlearned=True)).ending is Ending.NOTHING


def test_a_step_of_fewer_rows_is_not_the_result() -> None:
    """DPO's loss of the last step of 16 rows, where others have 32, is logged as half of what it is."""
    steps = [
        {"loss": 0.6931, "grad_norm": 0.6, "rewards/margins": 0.0, "rewards/accuracies": 0.0, "epoch": 0.4},
        {"loss": 0.69, "grad_norm": 0.6, "rewards/margins": 0.01, "rewards/accuracies": 0.75, "epoch": 0.8},
        {"loss": 0.3465, "grad_norm": 0.3, "rewards/margins": 0.02, "rewards/accuracies": 1.0, "epoch": 1.0},
    ]
    told = results(STAGES["dpo"], trained(*steps))
    assert told == ["loss 0.6931 → 0.69", "margin 0 → 0.01", "accuracy 0 → 0.75"]


def test_grpo_is_told_by_its_reward_and_not_by_its_loss() -> None:
    step = {"loss": 2e-8, "reward": 0.25, "reward_std": 0.1, "kl": 1e-4, "completions/mean_length": 120.0}
    last = {"loss": -1e-9, "reward": 0.5, "reward_std": 0.2, "kl": 2e-3, "completions/mean_length": 90.0}
    assert results(STAGES["grpo"], trained(step, last)) == [
        "reward 0.25 → 0.5",
        "spread 0.1 → 0.2",
        "KL 0.0001 → 0.002",
        "length 120 → 90",
    ]


def test_a_loss_that_is_none_is_not_the_result() -> None:
    assert results(STAGES["sft"], said([6.152, 5.0, 0.0], [1.0, 9.0, NAN])) == ["loss 6.152 → 5"]


def test_the_evaluation_is_told() -> None:
    progress = said([2.0, 1.0])
    progress.take({"eval_loss": 1.9, "global_step/max_steps": "1/2"})
    progress.take({"eval_loss": 1.7, "global_step/max_steps": "2/2"})
    assert results(STAGES["sft"], progress) == ["loss 2 → 1", "evaluation loss 1.9 → 1.7"]


@pytest.mark.parametrize(("value", "text"), [(-1e-9, "0"), (2e-8, "0"), (0.12345, "0.1235"), (NAN, "not a number")])
def test_numbers_for_people(value: float, text: str) -> None:
    assert in_digits(value) == text


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
def test_every_stage_shows_numbers_that_have_a_word(stage: Any) -> None:
    assert set(stage.shows) <= METRICS.keys()
    assert stage.shows
    assert not stage.spread or stage.spread in stage.shows


def lines(watch: Watch, log: Path, *steps: dict[str, Any]) -> list[str]:
    """What is said over some steps."""
    progress, found = Progress(), []
    for number, entry in enumerate(steps, start=1):
        progress.take({"epoch": number / 10, "global_step/max_steps": f"{number}/9", **entry})
        found += watch.look(progress, log)
        assert watch.look(progress, log) == [], "nothing is new"
    return found


def test_a_gradient_that_is_not_a_number_is_said_at_once_and_once(tmp_path: Path) -> None:
    steps = [{"loss": 6.1, "grad_norm": 1.0}, {"loss": 0.0, "grad_norm": NAN}, {"loss": 0.0, "grad_norm": NAN}]
    (line,) = lines(Watch(a_plan()), tmp_path / "none", *steps)
    assert line.startswith("Warning: at step 2 the gradient is not a number: the training diverges.")
    assert "--with stable" in line


def test_half_precision_passes_a_step_over_now_and_then(tmp_path: Path) -> None:
    plan = a_plan(torch_dtype="float16")
    steps = [{"loss": 6.1, "grad_norm": NAN}] * 3
    assert lines(Watch(plan), tmp_path / "none", *steps[:2]) == []
    assert len(lines(Watch(plan), tmp_path / "none", *steps)) == 1


@pytest.mark.parametrize(
    ("stage", "entry", "words"),
    [
        ("sft", {"loss": 0.0, "grad_norm": 0.0}, "the gradient is 0"),
        ("sft", {"loss": 0.0, "grad_norm": NAN}, "no token has loss"),
        ("sft", {"loss": 0.0}, "the loss is 0"),
        ("sft", {"loss": 2.0, "grad_norm": 0.0}, "--tuner_type"),
        ("grpo", {"loss": 0.0, "grad_norm": 0.0, "reward": 1.0, "reward_std": 0.0}, "same reward"),
    ],
)
def test_what_teaches_nothing_is_said_at_the_first_step(
    stage: str, entry: dict[str, Any], words: str, tmp_path: Path
) -> None:
    (line,) = lines(Watch(a_plan(stage=stage)), tmp_path / "none", entry, entry)
    assert line.startswith("Warning: at step 1 ")
    assert words in line


def test_what_goes_well_is_not_warned_of(tmp_path: Path) -> None:
    assert lines(Watch(a_plan()), tmp_path / "none", {"loss": 2.0, "grad_norm": 1.0}) == []
    fine = {"loss": 0.0, "grad_norm": 0.3, "reward_std": 0.1}
    assert lines(Watch(a_plan(stage="grpo")), tmp_path / "none", fine) == []
    assert lines(Watch(a_plan(stage="ppo")), tmp_path / "none", {"objective/scores": 0.0}) == []


def test_rows_that_are_not_used_are_said_when_training_starts(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("[INFO:swift] Dataset filtered, origin length: 96, filtered dataset length: 24\n", encoding="utf-8")
    found = lines(Watch(a_plan()), log, *[{"loss": 2.0, "grad_norm": 1.0}] * 2)
    assert [line[:40] for line in found] == ["Warning: 72 of 96 rows were not used: to"]
