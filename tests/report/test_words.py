import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipfit.report.words import (
    change,
    count,
    duration,
    electricity,
    latency,
    listed,
    mass,
    plain,
    plural,
    share,
    small_share,
)

amounts = st.floats(1e-7, 1e3)


@given(st.text())
def test_plain_text_is_one_line_of_printable_letters(text: str) -> None:
    assert plain(text).isprintable()
    assert len(plain(text)) == len(text)
    assert not text.isprintable() or plain(text) == text


@given(amounts, amounts)
def test_a_change_has_the_sign_of_the_difference(new: float, old: float) -> None:
    text = change(new, old)
    assert text.endswith(" %")
    assert not text.startswith("−") or new < old
    assert not text.startswith("+") or new > old
    assert "-" not in text


def test_changes_read_as_people_write_them() -> None:
    assert [change(47, 100), change(104.2, 100), change(100, 100), change(99.999, 100), change(5, 0)] == [
        "−53 %", "+4.2 %", "0 %", "0 %", "new",
    ]  # fmt: skip


@given(amounts, st.floats(1e-4, 0.5))
def test_a_spread_has_the_unit_of_its_latency(value_s: float, relative: float) -> None:
    text = latency(value_s, relative * value_s)
    figure, unit, _, spread, *percent = text.split()
    if percent:
        assert relative < 1e-3
    else:
        scale = {"ms": 1e-3, "µs": 1e-6}[unit]
        assert math.isclose(float(spread) * scale, relative * value_s, rel_tol=0.06)
        assert math.isclose(float(figure) * scale, value_s, rel_tol=0.006)


def test_an_unknown_spread_is_left_out() -> None:
    assert latency(4.21e-3, math.nan) == "4.21 ms"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.2, "under 1 s"),
        (42, "42 s"),
        (5280, "88 min"),
        (7500, "2 h 05 min"),
        (300_000, "3 days"),
        (3.2e8, "10 years"),
        (3.2e16, "1.0 × 10^9 years"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_energy_and_masses_have_units_that_fit() -> None:
    joules = (36, 3600, 3.6e5, 3.6e6, 3.6e8, 3.6e9, 3.6e15)
    assert [electricity(each) for each in joules] == [
        "0.01 Wh", "1 Wh", "0.1 kWh", "1 kWh", "0.1 MWh", "1 MWh", "1,000 GWh",
    ]  # fmt: skip
    assert [mass(each) for each in (0.043, 39, 120.4, 1200, 3.4e6)] == ["0.043 g", "39 g", "120 g", "1.2 kg", "3.4 t"]


def test_small_numbers_never_round_to_nothing_and_large_ones_stay_readable() -> None:
    assert (share(0.612), small_share(3e-6), small_share(0.0)) == ("61.2 %", "<0.1 %", "0.0 %")
    assert (count(1840), count(4.1e17), plural(1, "network"), plural(1200, "network")) == (
        "1,840", "4.1 × 10^17", "1 network", "1,200 networks",
    )  # fmt: skip
    assert listed(["a", "b", "c"], 2) == "a, b and 1 more"
