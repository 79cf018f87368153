"""What a card does in a second: datasheet, what a large matmul really reaches, memory, link to its neighbours."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tunekit.errors import TunekitError


class Untold(TunekitError):  # noqa: N818 - it is an answer: this is not known
    """The time of this configuration cannot be told before it runs; the message says why."""


@dataclass(frozen=True)
class Rates:
    """One kind of card.

    Attributes:
        name: for people.
        pattern: of its name as the driver or ``--gpus`` gives it, in small letters and digits alone.
        peak: dense bf16 (before Ampere fp16) TFLOP/s with fp32 accumulation, of the datasheet.
        sustained: TFLOP/s that a large matmul reaches.
        bandwidth: of its memory, GB/s, of the datasheet.
        link: GB/s one way to another card of the machine: NVLink where cards of this kind have it, else PCIe.
        measured: whether `sustained` was measured; else it is assumed by cards of its generation and power.
        flash: flash attention 2 here, against cards that it was written for.
        cached: 1 where activations partly stay in a cache of 48 MB and more; it then is a share of the traffic.
        host: how much longer the usual host of such a card takes to launch a kernel.
    """

    name: str
    pattern: str
    peak: float
    sustained: float
    bandwidth: float
    link: float
    measured: bool = False
    flash: float = 1.0
    cached: bool = False
    host: float = 1.0

    @property
    def source(self) -> str:
        """Whether its sustained rate was measured."""
        return "measured" if self.measured else "assumed"


TWO_CORES = 2.2
"""T4 and P100 are rented with two slow cores: their launches took so much longer (fitcheck-llm's T4 rows, by eye)."""
HOPPER, BLACKWELL = 0.62, 0.45
"""Flash attention 2 does not use what these cards added (published attention benchmarks, by eye)."""

# fmt: off
RATES = (
    Rates("P100", "p100(pcie)?(16gb)?", 18.7, 15, 732, 12, host=TWO_CORES),
    Rates("V100", "v100(sxm[23]?|pcie)?(16gb|32gb)?", 125, 89, 900, 120, measured=True),
    Rates("T4", "t4", 65, 24, 320, 10, host=TWO_CORES),
    Rates("RTX 2080 Ti", "2080ti", 53.8, 44.9, 616, 10, measured=True),
    Rates("RTX 3060", "3060", 25.4, 24, 360, 12),
    Rates("RTX 3090", "3090", 71, 76, 936, 4, measured=True),
    Rates("RTX A5000", "a5000", 111, 80, 768, 14),
    Rates("RTX A6000", "a6000", 154.8, 110, 768, 14),
    Rates("A10", "a10", 125, 70, 600, 14),
    Rates("A10G", "a10g", 70, 60, 600, 12),
    Rates("A40", "a40", 149.7, 105, 696, 14),
    Rates("A100-40GB", "a100(sxm4)?40(gb?)?|a100sxm4", 312, 247, 1555, 200, measured=True),
    Rates("A100-40GB PCIe", "a100pcie40gb|a10040gbpcie", 312, 247, 1555, 18),
    Rates("A100-80GB", "a100|a100(sxm4)?80(gb?)?", 312, 265, 2039, 200, measured=True),
    Rates("A100-80GB PCIe", "a100(80gb)?pcie|a100pcie80gb", 312, 256, 1935, 18, measured=True),
    Rates("A800", "a800(sxm4?)?(80gb?)?", 312, 266, 2039, 140, measured=True),
    Rates("L4", "l4", 121, 60, 300, 14, cached=True),
    Rates("L40S", "l40s", 362, 235, 864, 14, cached=True),
    Rates("RTX 4060 Ti", "4060ti(16gb)?", 44, 42, 288, 10),
    Rates("RTX 4070 Super", "4070s(uper)?", 71, 76, 504, 12, measured=True, cached=True),
    Rates("RTX 4090", "4090(24gb|48gb)?", 165.2, 165, 1008, 12, measured=True, cached=True),
    Rates("RTX 4090 D", "4090d", 147, 149, 1008, 12, measured=True, cached=True),
    Rates("RTX 6000 Ada", "a?6000ada", 364, 240, 960, 14, cached=True),
    Rates("RTX 5080", "5080", 113, 110, 960, 20, cached=True),
    Rates("RTX 5090", "5090", 209.5, 230, 1792, 25, measured=True, cached=True),
    Rates("RTX PRO 6000", "pro6000(blackwell)?((server|workstation)(edition)?)?", 503, 330, 1792, 25, cached=True),
    Rates("H20", "h20", 148, 142, 4000, 350, measured=True),
    Rates("H100 PCIe", "h100(80gb)?pcie(80gb)?", 756, 520, 2039, 40, flash=HOPPER),
    Rates("H100", "h100((80gb)?(sxm5?)?(80gb)?)?(hbm3)?", 989, 790, 3350, 350, measured=True, flash=HOPPER),
    Rates("H200", "h200(sxm5?)?", 989, 795, 4800, 350, measured=True, flash=HOPPER),
    Rates("B200", "b200", 2250, 1700, 8000, 700, measured=True, flash=BLACKWELL),
)
# fmt: on
"""Datasheets of the makers; measured rates of the public matmul tables of stas00/ml-engineering (MAMF) and of a
community table of 30 cards. What is assumed is 0.4 to 0.95 of the datasheet, less where the power limit is low."""

AROUND = re.compile(r"nvidia|geforce|tesla|quadro|rtx|generation|graphicsdevice|gpu|[^a-z0-9]")
"""Words in a card's name that say nothing of its speed; ``Laptop`` does, and such a card is not known."""


def rates_of(card: str) -> Rates:
    """The rates of a card by its name: the driver's, or one that ``--gpus`` takes. Raises Untold for one not known."""
    bare = AROUND.sub("", card.lower())
    size = re.fullmatch(r"(.+?)(?:hbm[23]e?)?([0-9]{2,3}gb)(?:hbm[23]e?)?", bare)
    tried = [
        bare,
        *([size[1]] if size and not bare.startswith("a100") else []),
    ]  # an A100's memory says which one it is
    found = next((rates for word in tried for rates in RATES if re.fullmatch(rates.pattern, word)), None)
    if found is None:
        raise Untold(f"the speed of {card[:60] or 'a card without a name'} is not known")
    return found
