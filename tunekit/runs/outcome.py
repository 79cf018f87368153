"""What came of a training, by its numbers: that ms-swift ended with exit status 0 says nothing of what was learned."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from tunekit.engine.logs import read_lost_rows
from tunekit.errors import counted
from tunekit.stages import METRICS

if TYPE_CHECKING:
    from pathlib import Path

    from tunekit.engine.logs import Progress, Rows
    from tunekit.plan.plan import Plan
    from tunekit.stages import Stage


class Ending(Enum):
    """What came out. The value is the word for it."""

    LEARNED = "Done"
    UNKNOWN = "Ended"
    NOTHING = "Ended without learning"
    DIVERGED = "Diverged"


@dataclass(frozen=True)
class Verdict:
    """What came of a training, why that is said, and what helps; both are empty where all is well."""

    ending: Ending
    why: str = ""
    hint: str = ""

    @property
    def failed(self) -> bool:
        """Whether what came out is worse than what went in: the command ends as where the training failed."""
        return self.ending is Ending.DIVERGED


CALMER = (
    "a lower learning rate ({rate}), a longer warm-up (--warmup_ratio 0.15), clipping at 0.5 "
    "(--max_grad_norm 0.5): --with stable sets these"
)
"""The guides' remedies; the overlay `stable` holds them."""
NO_LOSS = (
    "every token may be masked: look at the answers (empty, behind max_length, or marked with loss false) "
    "and at --loss_scale"
)
SAME_REWARD = (
    "look at what the reward function returns for the answers, make the task easier or finer to score, "
    "raise --num_generations or --temperature"
)
FROZEN = "look at what is trained (--tuner_type, --target_modules, --freeze_parameters), and at the learning rate"

RISE, RISE_BY = 1.25, 0.5
"""A loss at the end that is so many times the one at the beginning, and higher by so much, has run away: losses of
batches differ by less."""
END_SHARE = 10
"""The beginning and the end are the mean of one in so many steps."""


def judge(plan: Plan, progress: Progress, rows: Rows) -> Verdict:
    """What a training that went to its end has come to."""
    if not _steps(plan, progress):
        return _unlogged(progress.train_loss, plan)
    found = next((found for check in CHECKS if (found := check(plan, progress, rows))), None)
    if found:
        return found
    wrong = _wrong_steps(progress)
    some = f"the gradient was not a number at {counted(len(wrong), 'step')}, and came back" if wrong else ""
    return Verdict(Ending.LEARNED, some, calmer(plan) if some else "")


def calmer(plan: Plan) -> str:
    """What helps where a loss runs away."""
    rate = plan.get("learning_rate")
    return CALMER.format(rate=f"{rate / 3:.2g}" if isinstance(rate, (int, float)) else "a third")


def _unlogged(mean: float | None, plan: Plan) -> Verdict:
    """Of a training so short that no step of it was logged, but its mean loss may have been."""
    if mean is None:
        return Verdict(Ending.UNKNOWN, "no step was logged, so what was learned is not known", "--logging_steps 1")
    if math.isfinite(mean):
        return Verdict(Ending.LEARNED) if mean else Verdict(Ending.NOTHING, "the loss was 0 throughout", NO_LOSS)
    return Verdict(Ending.DIVERGED, f"the mean loss is {mean}", calmer(plan))


def _steps(plan: Plan, progress: Progress) -> list[int]:
    keys = ("loss", "grad_norm", *plan.stage.shows)
    return sorted({step for key in keys for step in progress.series(key)})


def _wrong_steps(progress: Progress) -> list[int]:
    both = (progress.losses, progress.grad_norms)
    return sorted({step for series in both for step, value in series.items() if not math.isfinite(value)})


def _no_loss(plan: Plan, progress: Progress, rows: Rows) -> Verdict | None:
    """No token had loss: the loss is 0, and its gradient 0 or not a number."""
    if _wrong_steps(progress) != _steps(plan, progress) or (any(progress.losses.values()) and not rows.unlearned):
        return None
    return Verdict(Ending.NOTHING, "the loss was 0 and its gradient not a number in every step", NO_LOSS)


def _not_a_number(plan: Plan, progress: Progress, _rows: Rows) -> Verdict | None:
    steps, wrong = _steps(plan, progress), _wrong_steps(progress)
    if not wrong or wrong[-1] != steps[-1]:
        return None
    right = [step for step in steps if step not in set(wrong)]
    first = next(step for step in steps if not right or step > right[-1])
    return Verdict(Ending.DIVERGED, f"the loss or its gradient is not a number since step {first}", calmer(plan))


def _same_reward(plan: Plan, progress: Progress, _rows: Rows) -> Verdict | None:
    spread = progress.series(plan.stage.spread)
    if not spread or any(spread.values()):
        return None
    every = "every answer to a prompt got the same reward, in every step: nothing tells a better one"
    return Verdict(Ending.NOTHING, every, SAME_REWARD)


def _flat(plan: Plan, progress: Progress, rows: Rows) -> Verdict | None:
    """Nothing pulled at the weights in any step."""
    pulls = progress.grad_norms or (progress.losses if plan.stage.shows[0] == "loss" else {})
    if not pulls or any(pulls.values()):
        return None
    what = "gradient" if progress.grad_norms else "loss"
    masked = rows.unlearned or not any(progress.losses.values())
    return Verdict(Ending.NOTHING, f"the {what} was 0 in every step", NO_LOSS if masked else FROZEN)


def _fell_to_nothing(plan: Plan, progress: Progress, _rows: Rows) -> Verdict | None:
    """A loss that is not a number is logged as 0; without the gradient's norm that is all there is to see."""
    losses = progress.losses
    if progress.grad_norms or not losses or losses[max(losses)] or plan.stage.shows[0] != "loss":
        return None
    return Verdict(Ending.DIVERGED, f"the loss is exactly 0 at step {max(losses)}", calmer(plan))


def _ran_up(plan: Plan, progress: Progress, _rows: Rows) -> Verdict | None:
    rise = _rise(progress) if plan.stage.shows[0] == "loss" else ""
    return Verdict(Ending.DIVERGED, rise, calmer(plan)) if rise else None


CHECKS = (_no_loss, _not_a_number, _same_reward, _flat, _fell_to_nothing, _ran_up)
"""What can be wrong, the surest first."""


def _rise(progress: Progress) -> str:
    """How a loss went up; empty where it did not, by much."""
    losses = [progress.losses[step] for step in progress.whole_steps("loss")]
    losses = [loss for loss in losses if math.isfinite(loss)]
    share = max(1, len(losses) // END_SHARE)
    if len(losses) < 2:
        return ""
    begin, end = sum(losses[:share]) / share, sum(losses[-share:]) / share
    return f"the loss rose from {begin:.4g} to {end:.4g}" if end > max(RISE * begin, begin + RISE_BY) else ""


def results(stage: Stage, progress: Progress) -> list[str]:
    """The numbers of a stage from its first to its last whole step, for people: ``reward 0.12 → 0.56``.

    Steps without a gradient that is a number are left out: what is logged as their loss is none.
    """
    told = [(METRICS[key], key) for key in stage.shows] + [("evaluation loss", "eval_loss")]
    found, wrong = [], set(_wrong_steps(progress))
    for title, key in told:
        series = progress.series(key)
        steps = sorted(series) if key == "eval_loss" else progress.whole_steps(key)
        values = [in_digits(series[step]) for step in steps if step not in wrong]
        if values:
            found.append(f"{title} {values[0]}" + (f" → {values[-1]}" if len(values) > 1 else ""))
    return found


def in_digits(value: float) -> str:
    """A number for people: what is 0 but for the rounding of floats is 0."""
    return f"{round(value, 6) + 0.0:.4g}" if math.isfinite(value) else "not a number"


HALF = ("float16",)
"""With these numbers a gradient is not a number now and then, and the step is passed over (torch's GradScaler)."""


@dataclass
class Watch:
    """Says while an attempt goes on what will not come right by itself, each thing once."""

    plan: Plan
    _rows: Rows | None = None
    _seen: int = 0
    _said: set[str] = field(default_factory=set)

    def look(self, progress: Progress, log: Path) -> list[str]:
        """What is new and wrong, now that a step was logged; `log` is the output of ms-swift."""
        step = progress.step
        if step == self._seen or not progress.epochs:
            return []
        self._seen = step
        found = []
        if self._rows is None:
            self._rows = read_lost_rows([log])
            found = [f"Warning: {line}" for line in self._rows.lines()]
        wrong = self._wrong(progress, step, self._rows)
        return found + [line for kind, line in wrong if not self._known(kind)]

    def _known(self, kind: str) -> bool:
        known = kind in self._said
        self._said.add(kind)
        return known

    def _wrong(self, progress: Progress, step: int, rows: Rows) -> list[tuple[str, str]]:
        grad, loss = progress.grad_norms.get(step), progress.losses.get(step)
        spread = progress.series(self.plan.stage.spread).get(step)
        at = f"Warning: at step {step} "
        if _odd(loss) or _odd(grad):
            return self._ran_away(progress, at, rows)
        if spread == 0:
            return [("same", f"{at}every answer to a prompt got the same reward: nothing is learned; {SAME_REWARD}")]
        if grad == 0 or (grad is None and loss == 0 and self.plan.stage.shows[0] == "loss"):
            what = "the gradient is 0" if grad == 0 else "the loss is 0"
            return [("flat", f"{at}{what}: nothing is learned; {NO_LOSS if not loss else FROZEN}")]
        return []

    def _ran_away(self, progress: Progress, at: str, rows: Rows) -> list[tuple[str, str]]:
        odd = sum(not math.isfinite(norm) for norm in progress.grad_norms.values())
        if self.plan.get("torch_dtype") in HALF and odd < 3:
            return []
        if rows.unlearned or not any(progress.losses.values()):
            return [("odd", f"{at}no token has loss: nothing is learned; {NO_LOSS}")]
        return [("odd", f"{at}the gradient is not a number: the training diverges. What helps: {calmer(self.plan)}")]


def _odd(value: float | None) -> bool:
    return value is not None and not math.isfinite(value)
