"""Costs as people read them."""

from __future__ import annotations


def amount(cost: str, value: float) -> str:
    """A cost as people read it."""
    if cost == "latency":
        return f"{value * 1e3:.3g} ms" if value >= 1e-4 else f"{value * 1e6:.3g} µs"
    if cost == "energy":
        return f"{value * 1e3:.3g} mJ" if value >= 1e-4 else f"{value * 1e6:.3g} µJ"
    if cost in ("weights", "peak_memory"):
        return f"{value / 1024:.4g} KiB" if value < 1 << 20 else f"{value / (1 << 20):.3g} MiB"
    return f"{value / 1e6:.3g} M" if value >= 1e6 else f"{value / 1e3:.3g} k" if value >= 1e3 else f"{value:.0f}"
