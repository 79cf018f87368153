"""What is trained, on what, with which settings: what rules and predictions look at, and typed answers about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, overload

from tunekit.plan.deepspeed import zero_stage_of
from tunekit.plan.options import ACCUMULATION, MICRO
from tunekit.plan.settings import UNSET, whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.hardware import Hardware
    from tunekit.plan.batch import Batch
    from tunekit.plan.models.model import Model
    from tunekit.plan.settings import Setting, Value
    from tunekit.stages import Stage


@dataclass(frozen=True)
class FlashPackage:
    """A generation of flash attention.

    Attributes:
        distribution: as pip names it.
        module: as Python imports it.
        install: how to get one.
        since: the compute capability that it needs; `before`: the first that it is not for.
    """

    distribution: str
    module: str
    install: str
    since: tuple[int, int]
    before: tuple[int, int] = (99, 0)

    def runs_on(self, capability: tuple[int, int] | None) -> bool:
        """Whether a GPU can compute it; one whose capability is not known is taken to."""
        return capability is None or self.since <= capability < self.before


BUILD_3 = "built from the folder hopper/ of https://github.com/Dao-AILab/flash-attention"
FLASH_PACKAGES = {
    "flash_attn": FlashPackage(
        *("flash-attn", "flash_attn", 'pip install --no-build-isolation "tunekit[flash]"'), since=(8, 0)
    ),
    "flash_attn_3": FlashPackage("flash-attn-3", "flash_attn_interface", BUILD_3, since=(9, 0), before=(10, 0)),
    # All its versions but a withdrawn one are pre-releases, which pip installs only where one is named.
    "flash_attn_4": FlashPackage(
        *("flash-attn-4", "flash_attn.cute", 'pip install "flash-attn-4>=4.0.0b4"'), since=(9, 0)
    ),
}
"""By the names that plans know them by. Two share the import name ``flash_attn``: only distributions tell them apart
(transformers import_utils.py, is_flash_attn_4_available). https://github.com/Dao-AILab/flash-attention says for which
GPUs each one is."""

FLASH = {
    "flash_attn": "flash_attn",
    "flash_attention_2": "flash_attn",
    "flash_attention_3": "flash_attn_3",
    "flash_attention_4": "flash_attn_4",
}
"""Attention implementations that ms-swift accepts for packing (sft_args.py, _check_padding_free), and what each needs
of `FLASH_PACKAGES`."""

BATCH_FLAGS = (MICRO, ACCUMULATION)


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What one run computes.

    Attributes:
        settings: ms-swift's flags, in the order in which they are written.
        env: environment variables to set.
        packages: import names of what is installed where it runs; None where that machine cannot be seen.
        memory_correction: measured ÷ predicted memory of earlier runs on this machine; 1 where there were none.
        loss_share: of the tokens, those that carry loss, measured on the data; None where it was not looked at.
        row_tokens: of the longest row, or of a pack, likewise.
    """

    stage: Stage
    model: Model
    hardware: Hardware
    batch: Batch
    settings: Mapping[str, Setting]
    env: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] | None = None
    memory_correction: float = 1.0
    loss_share: float | None = None
    row_tokens: int | None = None

    @overload
    def get(self, flag: str) -> Value | None: ...
    @overload
    def get(self, flag: str, default: Value) -> Value: ...
    def get(self, flag: str, default: Value | None = None) -> Value | None:
        """The value of a flag, or `default` where it is left to ms-swift."""
        setting = self.settings.get(flag)
        return default if setting is None or setting.value == UNSET else setting.value

    @overload
    def whole(self, flag: str) -> int | None: ...
    @overload
    def whole(self, flag: str, default: int) -> int: ...
    def whole(self, flag: str, default: int | None = None) -> int | None:
        """The whole number that a flag is set to, or `default`."""
        value = self.get(flag)
        return default if value is None else whole_number(value)

    def number(self, flag: str, default: float) -> float:
        """The number that a flag is set to, or `default`."""
        value = self.get(flag, default)
        if isinstance(value, list):
            raise TypeError(f"--{flag} is no number")
        return float(value)

    def flag(self, flag: str, *, default: bool = False) -> bool:
        """Whether a flag is switched on; `default` where it is not set."""
        return self.get(flag, default) is True

    def text(self, flag: str, default: str = "") -> str:
        """The word that a flag is set to, or `default`."""
        return str(self.get(flag, default))

    def words(self, flag: str) -> list[str]:
        """The words of a flag that takes several; none where it is not set."""
        value = self.get(flag)
        return value if isinstance(value, list) else [] if value is None else [str(value)]

    def typed(self, flag: str) -> bool:
        """Whether the user said the flag for this run."""
        return flag in self.settings and self.settings[flag].explicit

    @property
    def full(self) -> bool:
        """Whether weights of the model itself are trained, and no adapter."""
        return self.get("tuner_type") == "full"

    @property
    def flash(self) -> bool:
        """Whether attention is a flash implementation."""
        return self.get("attn_impl") in FLASH

    @property
    def flash_runs(self) -> bool:
        """Whether that is installed, as far as it is known, and made for these GPUs."""
        return self._flash_runs(self.text("attn_impl"))

    def other_flash(self) -> str | None:
        """Another flash attention that is installed and made for these GPUs; None where there is none."""
        names = ("flash_attention_2", "flash_attention_4", "flash_attention_3")
        return next((name for name in names if self.packages is not None and self._flash_runs(name)), None)

    def _flash_runs(self, name: str) -> bool:
        package = FLASH.get(name)
        if package is None or self.missing(package):
            return False
        return FLASH_PACKAGES[package].runs_on(self.hardware.capability)

    @property
    def packed(self) -> bool:
        """Whether a row holds several samples."""
        return self.flag("packing")

    @property
    def quantized(self) -> bool:
        """Whether bitsandbytes quantizes the frozen weights as they are loaded."""
        return self.get("quant_method") == "bnb"

    @property
    def quantizes(self) -> bool:
        """Whether the weights are quantized as they are loaded, by whatever means."""
        return self.get("quant_method") is not None

    @property
    def quant_bits(self) -> int | None:
        """Bits of those weights; None where they are not quantized, or ms-swift's default counts."""
        word = self.text("quant_bits").replace("float8", "8")  # a choice of words
        return int(word) if self.quantizes and word.isdigit() else None

    @property
    def zero_stage(self) -> int:
        """The stage of DeepSpeed ZeRO, offloaded or not, also of a configuration of the user's; 0 without it."""
        return zero_stage_of(self.text("deepspeed"))

    @property
    def sharded(self) -> int:
        """The stage of ZeRO that says what the GPUs share: FSDP shares what stage 3 does."""
        return 3 if self.get("fsdp") is not None else self.zero_stage

    @property
    def validated(self) -> bool:
        """Whether there is something to evaluate on (ms-swift's data_args.py, _init_val_dataset_exists)."""
        named = any(self.words(flag) for flag in ("val_dataset", "cached_val_dataset", "eval_dataset"))
        return named or (self.number("split_dataset_ratio", 0) > 0 and not self.flag("streaming"))

    @property
    def evaluates(self) -> bool:
        """Whether the training stops to evaluate."""
        return self.validated and self.text("eval_strategy", self.text("save_strategy", "steps")) != "no"

    @property
    def rank(self) -> int:
        """Of the adapter; 8 where nothing sets it (ms-swift's tuner_args.py)."""
        return self.whole("lora_rank", 8)

    @property
    def trackers(self) -> list[str]:
        """What ``--report_to`` names."""
        return self.words("report_to")

    def missing(self, package: str) -> bool:
        """Whether a package is known to be absent."""
        return self.packages is not None and package not in self.packages

    def weaker_than(self, capability: tuple[int, int]) -> bool:
        """Whether a GPU's compute capability is known to be below `capability`."""
        return self.hardware.capability is not None and self.hardware.capability < capability
