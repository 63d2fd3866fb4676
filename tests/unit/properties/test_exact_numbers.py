from fractions import Fraction

import pytest

from sidecar.properties.rationals import MAX_BITS, MAX_MAGNITUDE, bounded, decimal, rational
from sidecar.properties.source import Complaint


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", Fraction(1, 10)),
        ("-0.5", Fraction(-1, 2)),
        ("+3", Fraction(3)),
        (".25", Fraction(1, 4)),
        ("2.", Fraction(2)),
        ("1e3", Fraction(1000)),
        ("1.5E-2", Fraction(3, 200)),
        ("6.28318530718", Fraction(628318530718, 10**11)),
        ("4.9406564584124654e-324", Fraction(49406564584124654, 10**340)),
    ],
)
def test_decimals_are_read_exactly(text: str, value: Fraction) -> None:
    assert decimal(text) == value
    assert rational(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1/150", Fraction(1, 150)),
        ("-19791.091/60261", Fraction(-19791091, 60261000)),
        ("1 / 3", Fraction(1, 3)),
        ("1e-1/1e1", Fraction(1, 100)),
    ],
)
def test_quotients_are_read_exactly(text: str, value: Fraction) -> None:
    assert rational(text) == value


@pytest.mark.parametrize("text", ["", " 1", "1 ", "1_0", "0x1", "1e", "e1", "--1", "1.2.3", "inf", "nan", "١", "1/2"])
def test_anything_else_is_no_decimal(text: str) -> None:
    with pytest.raises(Complaint, match="expected a number"):
        decimal(text)


@pytest.mark.parametrize("text", ["1/", "/2", "1/2/3", "1/-2", "1//2", "x/2", "1" * 2001])
def test_anything_else_is_no_rational(text: str) -> None:
    with pytest.raises(Complaint, match=r"expected a number such as 0\.5, -3e2 or 1/150"):
        rational(text)


def test_every_float64_written_out_in_full_is_read() -> None:
    smallest = 2.0**-1074
    # 2**-1074 has more digits after the point than the limit allows, but its shortest form is short.
    assert decimal(repr(smallest)) > 0
    assert decimal(f"{2.0**-500:.600f}") == Fraction(2.0**-500)


def test_numbers_at_the_limits_pass_and_beyond_them_do_not() -> None:
    assert bounded(MAX_MAGNITUDE) == MAX_MAGNITUDE
    assert bounded(-MAX_MAGNITUDE) == -MAX_MAGNITUDE
    fine = Fraction(1, 2 ** (MAX_BITS - 1))
    assert bounded(fine) == fine
    with pytest.raises(Complaint, match="magnitude"):
        bounded(-MAX_MAGNITUDE - 1)
    with pytest.raises(Complaint, match="bits"):
        bounded(fine / 2)
