"""The options of commands that ask a teacher."""

from __future__ import annotations

import pytest

from nexa.cli.main import main
from nexa.cli.teaching import PriceType
from tests.support.project import Finished

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize("price", ["1", "a,b", "-1,2", "1,nan", "1,2,3"])
def test_a_price_is_two_numbers(project: Finished, capsys: Captured, price: str) -> None:
    words = ["data", "augment", "elements", "--teacher", "wise", "--price", price]
    assert main(words) == 2
    assert "--price" in capsys.readouterr().err


def test_a_price_may_be_written_with_a_comma_or_a_slash() -> None:
    price = PriceType()
    assert price.convert("2.5,10", None, None) == price.convert("2.5/10", None, None) == (2.5, 10)
    assert price.convert((1.0, 2.0), None, None) == (1.0, 2.0)
