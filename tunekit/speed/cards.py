"""What a card does in a second: datasheet, what a large matmul really reaches, memory, link to its neighbours."""

from __future__ import annotations

from typing import NamedTuple

from tunekit.errors import TunekitError


class Untold(TunekitError):  # noqa: N818 - it is an answer: this is not known
    """The time of this configuration cannot be told before it runs; the message says why."""


class Rates(NamedTuple):
    """One kind of card.

    Attributes:
        name: for people.
        names: as the driver or ``--gpus`` gives them: small letters and digits, without the size of the memory.
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
    names: str
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

PRO = "pro6000 pro6000blackwell pro6000blackwellserveredition pro6000blackwellworkstationedition"

# fmt: off
RATES = (
    Rates("P100", "p100 p100pcie", 18.7, 15, 732, 12, host=TWO_CORES),
    Rates("V100", "v100 v100sxm2 v100sxm3 v100pcie", 125, 89, 900, 120, measured=True),
    Rates("T4", "t4", 65, 24, 320, 10, host=TWO_CORES),
    Rates("RTX 2080 Ti", "2080ti", 53.8, 44.9, 616, 10, measured=True),
    Rates("RTX 3060", "3060", 25.4, 24, 360, 12),
    Rates("RTX 3090", "3090", 71, 76, 936, 4, measured=True),
    Rates("RTX A5000", "a5000", 111, 80, 768, 14),
    Rates("RTX A6000", "a6000", 154.8, 110, 768, 14),
    Rates("A10", "a10", 125, 70, 600, 14),
    Rates("A10G", "a10g", 70, 60, 600, 12),
    Rates("A40", "a40", 149.7, 105, 696, 14),
    Rates("A100-40GB", "a10040 a10040gb a100sxm440gb", 312, 247, 1555, 200, measured=True),
    Rates("A100-40GB PCIe", "a100pcie40gb a10040gbpcie", 312, 247, 1555, 18),
    Rates("A100-80GB", "a100 a10080 a100sxm480gb", 312, 265, 2039, 200, measured=True),
    Rates("A100-80GB PCIe", "a100pcie a10080gbpcie", 312, 256, 1935, 18, measured=True),
    Rates("A800", "a800 a800sxm a800sxm4", 312, 266, 2039, 140, measured=True),
    Rates("L4", "l4", 121, 60, 300, 14, cached=True),
    Rates("L40S", "l40s", 362, 235, 864, 14, cached=True),
    Rates("RTX 4060 Ti", "4060ti", 44, 42, 288, 10),
    Rates("RTX 4070 Super", "4070s 4070super", 71, 76, 504, 12, measured=True, cached=True),
    Rates("RTX 4090", "4090", 165.2, 165, 1008, 12, measured=True, cached=True),
    Rates("RTX 4090 D", "4090d", 147, 149, 1008, 12, measured=True, cached=True),
    Rates("RTX 6000 Ada", "6000ada a6000ada", 364, 240, 960, 14, cached=True),
    Rates("RTX 5080", "5080", 113, 110, 960, 20, cached=True),
    Rates("RTX 5090", "5090", 209.5, 230, 1792, 25, measured=True, cached=True),
    Rates("RTX PRO 6000", PRO, 503, 330, 1792, 25, cached=True),
    Rates("H20", "h20", 148, 142, 4000, 350, measured=True),
    Rates("H100 PCIe", "h100pcie h10080gbpcie", 756, 520, 2039, 40, flash=HOPPER),
    Rates("H100", "h100 h100sxm h100sxm5", 989, 790, 3350, 350, measured=True, flash=HOPPER),
    Rates("H200", "h200 h200sxm h200sxm5", 989, 795, 4800, 350, measured=True, flash=HOPPER),
    Rates("B200", "b200", 2250, 1700, 8000, 700, measured=True, flash=BLACKWELL),
)
# fmt: on
"""Datasheets of the makers; measured rates of the public matmul tables of stas00/ml-engineering (MAMF) and of a
community table of 30 cards. What is assumed is 0.4 to 0.95 of the datasheet, less where the power limit is low."""

AROUND = ("nvidia", "geforce", "tesla", "quadro", "rtx", "generation", "gpu")
"""Words in a card's name that say nothing of its speed; ``Laptop`` does, and such a card is not known."""
MEMORY = ("", "11gb", "12gb", "16gb", "24gb", "32gb", "48gb", "80gb", "80gbhbm3", "96gb", "141gb")
"""What may follow a name."""


def rates_of(card: str) -> Rates:
    """The rates of a card by its name: the driver's, or one that ``--gpus`` takes. Raises Untold for one not known."""
    bare = "".join(filter(str.isalnum, card.lower()))
    for word in AROUND:
        bare = bare.replace(word, "")
    for rates in RATES:
        for name in rates.names.split():
            if bare.startswith(name) and bare[len(name) :] in MEMORY:
                return rates
    raise Untold(f"the speed of {card[:60] or 'a card without a name'} is not known")
