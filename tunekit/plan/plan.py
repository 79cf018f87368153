"""A plan: every setting decided, each with its source and its reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from tunekit.data.functions.find import Function
from tunekit.hardware import Gpu, Hardware
from tunekit.plan.batch import Batch
from tunekit.plan.draft import Change
from tunekit.plan.models.find import Model
from tunekit.plan.settings import Setting, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

BATCH_FLAGS = ("per_device_train_batch_size", "gradient_accumulation_steps")

FIRST = (
    "rlhf_type",
    "model",
    "model_type",
    "template",
    "use_hf",
    "tuner_type",
    "dataset",
    "val_dataset",
    "torch_dtype",
    "quant_method",
    "quant_bits",
    "attn_impl",
    "max_length",
    "packing",
    "lora_rank",
    "lora_alpha",
    "target_modules",
    *BATCH_FLAGS,
    "gradient_checkpointing",
    "learning_rate",
    "num_train_epochs",
)
"""Flags in the order in which people read them; the others follow in the order in which they were set."""


@dataclass(frozen=True)
class Plan:
    """All that a run needs to know. The dry run, the real run and the retry are made from the same plan.

    Attributes:
        command: ``sft``, ``pt`` or ``rlhf``.
        preset: the name of the preset, and `preset_reason` why it was taken (empty when the user named it).
        batch: micro-batch, accumulation, data parallel size.
        settings: ms-swift's flags, in the order in which they are written.
        env: environment variables to set.
        secrets: names of variables that hold secrets and are passed on.
        changes: what rules and retries changed.
        warnings: what the user should know.
        engine: version of ms-swift whose flags were checked.
        engine_installed: False where that was the shipped snapshot.
        memory_correction: measured ÷ predicted memory of earlier runs on this machine; 1 where there were none.
        loss_share: of the tokens, those that carry loss, measured on the data; None where it was not looked at.
        row_tokens: of the longest row, or of a pack, likewise.
        rewards: functions of the user's that score responses.
        row_format: the function of the user's that makes rows of ms-swift out of the dataset's.
    """

    command: str
    model: Model
    hardware: Hardware
    preset: str
    preset_reason: str
    overlays: tuple[str, ...]
    batch: Batch
    settings: Mapping[str, Setting]
    env: Mapping[str, str]
    secrets: tuple[str, ...]
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]
    engine: str
    engine_installed: bool
    memory_correction: float = 1.0
    loss_share: float | None = None
    row_tokens: int | None = None
    rewards: tuple[Function, ...] = ()
    row_format: Function | None = None

    def get(self, flag: str, default: Value | None = None) -> Value | None:
        """The value of a flag, or `default` where the plan leaves it to ms-swift."""
        setting = self.settings.get(flag)
        return default if setting is None else setting.value

    @property
    def loss(self) -> str:
        """What is trained: the RLHF type, or the command."""
        return str(self.get("rlhf_type") or self.command)

    @property
    def packed(self) -> bool:
        """Whether a row holds several samples."""
        return self.get("packing") is True

    @property
    def tokens_per_step(self) -> int | None:
        """The most tokens that one optimizer step can see; None where no length is set."""
        length = self.get("packing_length") or self.get("max_length")
        return self.batch.effective * int(str(length)) if length else None

    def changed(self, changes: Mapping[str, Value | None], by: str, why: str, batch: Batch | None = None) -> Plan:
        """This plan with some flags changed (None drops one) and possibly another batch, each change recorded."""
        settings = dict(self.settings)
        recorded = list(self.changes)
        new_batch = batch or self.batch
        wanted = dict(changes)
        if batch:
            wanted |= batch_values(batch)
        for flag, value in wanted.items():
            before = settings[flag].value if flag in settings else None
            if value is None:
                settings.pop(flag, None)
            else:
                settings[flag] = Setting(value, by, why)
            recorded.append(Change(flag, before, value, why, by))
        return replace(self, settings=in_order(settings), changes=tuple(recorded), batch=new_batch)

    def to_json(self) -> dict[str, Any]:
        """The whole plan as plain data, for ``run.json``."""
        return asdict(self)

    @staticmethod
    def from_json(document: dict[str, Any]) -> Plan:
        """The plan that `to_json` wrote.

        Raises:
            KeyError, TypeError: it was written by another version of tunekit.
        """
        data = dict(document)
        model = data["model"]
        hardware = data["hardware"]
        gpus = tuple(Gpu(**{**gpu, "capability": _pair(gpu["capability"])}) for gpu in hardware["gpus"])
        undecided = tuple((flag, reason) for flag, reason in model["undecided"])
        return Plan(
            **{
                **data,
                "model": Model(**{**model, "undecided": undecided}),
                "hardware": Hardware(**{**hardware, "gpus": gpus}),
                "overlays": tuple(data["overlays"]),
                "batch": Batch(**data["batch"]),
                "settings": {flag: Setting(**setting) for flag, setting in data["settings"].items()},
                "secrets": tuple(data["secrets"]),
                "changes": tuple(Change(**change) for change in data["changes"]),
                "warnings": tuple(data["warnings"]),
                "rewards": tuple(Function(**reward) for reward in data.get("rewards", ())),
                "row_format": Function(**data["row_format"]) if data.get("row_format") else None,
            }
        )


def batch_values(batch: Batch) -> dict[str, Value]:
    """The flags that say a batch."""
    return dict(zip(BATCH_FLAGS, (batch.micro, batch.accumulation), strict=True))


def in_order(settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """`settings` in the order in which people read them."""
    first = [flag for flag in FIRST if flag in settings]
    return {flag: settings[flag] for flag in [*first, *(flag for flag in settings if flag not in FIRST)]}


def _pair(numbers: list[int] | None) -> tuple[int, int] | None:
    return (numbers[0], numbers[1]) if numbers else None
