"""Cards are known by the names that drivers give them, and none is taken for another."""

import pytest

from tunekit.hardware import CARDS
from tunekit.speed.cards import RATES, Untold, rates_of


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB PCIe"),
        ("NVIDIA A100-PCIE-40GB", "A100-40GB PCIe"),
        ("NVIDIA A800-SXM4-80GB", "A800"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H20", "H20"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090 D", "RTX 4090 D"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("NVIDIA RTX A6000", "RTX A6000"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000"),
        ("NVIDIA GeForce RTX 4060 Ti", "RTX 4060 Ti"),
        ("Tesla V100-SXM2-32GB", "V100"),
        ("Tesla P100-PCIE-16GB", "P100"),
        ("Tesla T4", "T4"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA L40S", "L40S"),
        ("A100-80", "A100-80GB"),
        ("H100-SXM", "H100"),
    ],
)
def test_the_names_of_drivers(driver, name):
    assert rates_of(driver).name == name


@pytest.mark.parametrize("rates", RATES, ids=lambda rates: rates.name)
def test_a_card_is_found_by_its_own_name(rates):
    assert rates_of(rates.name) is rates
    assert 0 < rates.sustained <= 1.1 * rates.peak
    assert rates.source in ("measured", "assumed")


@pytest.mark.parametrize(
    "name", ["", "24 GB GPU", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA H100 NVL", "NVIDIA A100X", "L40", "MI300X"]
)
def test_another_card_is_not_known(name):
    with pytest.raises(Untold, match="is not known"):
        rates_of(name)


def test_most_of_the_cards_that_can_be_described_are_known():
    described = {name for name, _, _ in CARDS.values()}
    known = set()
    for name in described:
        try:
            known.add(rates_of(name).name)
        except Untold:
            continue
    assert len(known) >= 24
