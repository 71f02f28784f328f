"""Numbers and names as people read them, in the terminal and on the page alike."""

from __future__ import annotations

import math

SMALLEST_SHOWN = 1e-3
_PER_SECOND = {"ms": 1e3, "µs": 1e6}


def amount(cost: str, value: float) -> str:
    """A cost with its unit, as everywhere in chipfit; `cost` is a name of `run.study.COSTS`, `value` in SI units."""
    # Imported here: a run brings torch along, which a list of targets does not need.
    from chipfit.run.amounts import amount as formatted

    return formatted(cost, value)


def latency(value_s: float, spread_s: float) -> str:
    """A latency and one standard deviation in the same unit: "4.21 ms ± 0.05"."""
    text = amount("latency", value_s)
    if not math.isfinite(spread_s):
        return text
    if spread_s < SMALLEST_SHOWN * value_s:
        return f"{text} ± {small_share(spread_s / value_s)}"
    return f"{text} ± {spread_s * _PER_SECOND[text.split()[-1]]:.2g}"


def share(fraction: float, digits: int = 1) -> str:
    """A fraction as a percentage: "61.2 %"."""
    return f"{fraction * 100:.{digits}f} %"


def small_share(fraction: float) -> str:
    """`share` of an error; what would round to nothing is "<0.1 %", unless it is nothing."""
    return "<0.1 %" if 0 < fraction < SMALLEST_SHOWN else share(fraction)


def change(new: float, old: float) -> str:
    """How much more or less, in percent: "−53 %", "+4.2 %", "0 %"; "new" where there was nothing before."""
    if old == 0:
        return "0 %" if new == 0 else "new"
    relative = 100 * (new / old - 1)
    text = f"{relative:+.1f}" if abs(relative) < 9.95 else f"{relative:+.0f}"
    return "0 %" if float(text) == 0 else f"{text} %".replace("-", "−")


def duration(seconds: float) -> str:
    """A time as people say it: "42 s", "12 min", "2 h 05 min", "12 days", "1.2 × 10^9 years"."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 1 or seconds == 0 else "under 1 s"
    minutes = round(seconds / 60)
    if minutes < 72 * 60:
        return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
    days = seconds / 86400
    return f"{days:,.0f} days" if days < 730 else f"{count(days / 365)} years"


def electricity(energy_j: float) -> str:
    """Energy as a meter counts it: "0.35 Wh", "1.2 kWh", "3.4 MWh"."""
    watt_hours = energy_j / 3600
    for size, unit in ((1e9, "GWh"), (1e6, "MWh"), (1e3, "kWh")):
        if watt_hours >= size / 10:
            return f"{watt_hours / size:.3g} {unit}" if watt_hours < 1e3 * size else f"{watt_hours / size:,.0f} {unit}"
    return f"{watt_hours:.2g} Wh"


def mass(grams: float) -> str:
    """A mass: "39 g", "1.2 kg", "3.4 t"."""
    for size, unit in ((1e6, "t"), (1e3, "kg")):
        if grams >= size:
            return f"{grams / size:.3g} {unit}" if grams < 1e3 * size else f"{grams / size:,.0f} {unit}"
    return f"{grams:.2g} g" if grams < 99.5 else f"{grams:.0f} g"


def count(number: float) -> str:
    """A whole number that may be very large: "1,840", "4.1 × 10^17"."""
    if number < 1e9:
        return f"{number:,.0f}"
    exponent = len(str(int(number))) - 1
    return f"{int(number) / 10**exponent:.1f} × 10^{exponent}"


def plural(number: int, one: str, many: str | None = None) -> str:
    """A count with its noun: "1 network", "1,200 networks"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def plain(text: object) -> str:
    """A name that came from a user's file, on one line and without characters that a terminal or browser would obey."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text))


def listed(names: tuple[str, ...] | list[str], most: int = 4) -> str:
    """Some names and how many more there are: "a, b and 3 more"."""
    more = len(names) - most
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:most])} and {more} more"
