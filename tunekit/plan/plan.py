"""A plan: every setting decided, each with its source and its reason."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tunekit.data.functions.find import Function
from tunekit.hardware import Gpu, Hardware
from tunekit.plan.batch import Batch
from tunekit.plan.beside import vllm_share
from tunekit.plan.configuration import BATCH_FLAGS, Configuration
from tunekit.plan.models.model import Model
from tunekit.plan.predict import Peak, peak_of, weights_gib
from tunekit.plan.settings import Setting, Source, Value, text
from tunekit.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST = (
    *("rlhf_type", "model", "model_type", "template", "use_hf", "tuner_type", "dataset", "val_dataset", "torch_dtype"),
    *("quant_method", "quant_bits", "attn_impl", "max_length", "packing", "lora_rank", "lora_alpha", "target_modules"),
    *(*BATCH_FLAGS, "gradient_checkpointing", "learning_rate", "num_train_epochs"),
)
"""Flags in the order in which people read them; the others follow in the order in which they were set."""


@dataclass(frozen=True)
class Change:
    """What a rule or a retry changed.

    Attributes:
        before: None where the flag was not set.
        after: None where it was dropped.
        quiet: not worth a line in the plan; ``--explain`` shows it.
    """

    flag: str
    before: Value | None
    after: Value | None
    why: str
    by: Source
    quiet: bool = False

    def line(self) -> str:
        """For people: ``attn_impl flash_attn → sdpa``."""
        before = "" if self.before is None else f" {text(self.before)}"
        after = "dropped" if self.after is None else text(self.after)
        return f"{self.flag}{before} → {after}"


@dataclass(frozen=True, kw_only=True)
class Plan(Configuration):
    """All that a run needs to know. The dry run, the real run and the retry are made from the same plan.

    Attributes:
        preset: the name of the preset, and `preset_reason` why it was taken (empty when the user named it).
        secrets: names of variables that hold secrets and are passed on.
        engine: version of ms-swift whose flags were checked.
        engine_installed: False where that was the shipped snapshot.
        rewards: functions of the user's that score responses.
        row_format: the function of the user's that makes rows of ms-swift out of the dataset's.
    """

    preset: str
    preset_reason: str = ""
    overlays: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    engine: str
    engine_installed: bool
    rewards: tuple[Function, ...] = ()
    row_format: Function | None = None

    @cached_property
    def peak(self) -> Peak | None:
        """What it takes of one of its GPUs; None without a GPU, or where it is not known."""
        return peak_of(self)

    @property
    def weights_gib(self) -> float | None:
        """GiB of one GPU that the model's weights alone take; None where the size of the model is not known."""
        return weights_gib(self)

    @property
    def vllm_share(self) -> float:
        """Share of each GPU, 0 to 1, that vLLM takes beside the training."""
        return vllm_share(self)

    @property
    def tokens_per_step(self) -> int | None:
        """The most tokens that one optimizer step can see; None where no length is set."""
        length = self.whole("packing_length") or self.whole("max_length")
        return self.batch.effective * length if length else None

    def changed(
        self,
        changes: Mapping[str, Value | None],
        by: Source,
        why: str,
        batch: Batch | None = None,
        *,
        quiet: bool = False,
    ) -> Plan:
        """This plan with some flags changed (None drops one) and possibly another batch, each change recorded."""
        settings = dict(self.settings)
        recorded = list(self.changes)
        for flag, value in {**changes, **(batch_values(batch) if batch else {})}.items():
            old = settings.get(flag)
            recorded.append(Change(flag, old.value if old else None, value, why, by, quiet))
            if value is None:
                settings.pop(flag, None)
            else:
                settings[flag] = Setting(value, by, why)
        return replace(self, settings=in_order(settings), changes=tuple(recorded), batch=batch or self.batch)

    def with_settings(self, settings: Mapping[str, Setting]) -> Plan:
        """This plan with settings added or replaced, which is no change of what was asked for."""
        return replace(self, settings={**self.settings, **settings})

    def with_batch(self, batch: Batch, source: Source, why: str) -> Plan:
        """This plan with another batch; `source` and `why` are of the micro-batch, which nobody asked for."""
        share = f"{batch.effective} ÷ {batch.micro} ÷ {batch.data_parallel} {self.hardware.device}"
        decided = Setting(batch.micro, source, why), Setting(batch.accumulation, Source("batch"), share)
        return replace(self.with_settings(dict(zip(BATCH_FLAGS, decided, strict=True))), batch=batch)

    def changed_lines(self) -> list[str]:
        """What rules and retries changed and why, one line each, for people."""
        loud = [change for change in self.changes if not change.quiet]
        by_rule = itertools.groupby(loud, key=lambda change: (change.by, change.why))
        return [f"{', '.join(change.line() for change in group)}: {why}" for (_, why), group in by_rule]

    def to_json(self) -> dict[str, Any]:
        """The whole plan as plain data, for ``run.json``."""
        return {**asdict(self), "stage": self.stage.name}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Plan:
        """The plan that `to_json` wrote. Raises KeyError or TypeError where another version of tunekit wrote it."""
        data = dict(document)
        gpus = tuple(Gpu(**{**gpu, "capability": _pair(gpu["capability"])}) for gpu in data["hardware"]["gpus"])
        undecided = tuple((flag, reason) for flag, reason in data["model"]["undecided"])
        settings = {
            flag: Setting(**{**setting, "source": Source(**setting["source"])})
            for flag, setting in data["settings"].items()
        }
        return Plan(
            **{
                **data,
                **{name: tuple(data[name]) for name in ("overlays", "secrets", "warnings")},
                "stage": STAGES[data["stage"]],
                "model": Model(**{**data["model"], "undecided": undecided}),
                "hardware": Hardware(**{**data["hardware"], "gpus": gpus}),
                "batch": Batch(**data["batch"]),
                "settings": settings,
                "packages": None if data["packages"] is None else tuple(data["packages"]),
                "changes": tuple(Change(**{**change, "by": Source(**change["by"])}) for change in data["changes"]),
                "rewards": tuple(Function(**reward) for reward in data["rewards"]),
                "row_format": Function(**data["row_format"]) if data["row_format"] else None,
            }
        )


def batch_values(batch: Batch) -> dict[str, Value]:
    """The flags of a batch."""
    return dict(zip(BATCH_FLAGS, (batch.micro, batch.accumulation), strict=True))


def in_order(settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """`settings` in the order in which people read them."""
    first = [flag for flag in FIRST if flag in settings]
    return {flag: settings[flag] for flag in [*first, *(flag for flag in settings if flag not in FIRST)]}


def _pair(numbers: list[int] | None) -> tuple[int, int] | None:
    return (numbers[0], numbers[1]) if numbers else None
