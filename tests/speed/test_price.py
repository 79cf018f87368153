"""Prices as the user says them."""

import pytest

from tunekit.errors import TunekitError
from tunekit.speed.price import price_for, read_prices


def test_one_price_is_for_all_cards():
    assert price_for(read_prices("1.40"), "NVIDIA H100 80GB HBM3") == 1.4
    assert price_for(read_prices("1.40"), "a card of tomorrow") == 1.4


def test_a_price_a_card():
    prices = read_prices("H100=2.49, RTX 4090=0.4")
    assert price_for(prices, "NVIDIA H100 80GB HBM3") == 2.49
    assert price_for(prices, "4090") == 0.4
    assert price_for(prices, "A100") == price_for(prices, "unknown") == 0


@pytest.mark.parametrize("text", ["cheap", "-1", "0", "nan", "inf", "H100=", "H100=2,", "1e99"])
def test_what_is_no_price_is_refused(text):
    with pytest.raises(TunekitError, match=r"as in 1\.40"):
        read_prices(text)


def test_a_card_that_is_not_known_is_refused():
    with pytest.raises(TunekitError, match="speed of foo"):
        read_prices("foo=2")
