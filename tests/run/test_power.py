"""Power by CodeCarbon's tables and counters: known processors, unknown ones, counters that run over, nothing said."""

import logging
import time
from pathlib import Path

import pytest

from chipfit.errors import InvalidInput
from chipfit.run.power import WORLD, Draw, Meter, draw, place

MACHINE = Draw("a processor", 4, 80.0, 10.0, "made up")


@pytest.mark.parametrize(
    ("name", "watts"),
    [
        ("Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz", 270),
        ("AMD EPYC 7763 64-Core Processor", 280),
        ("12th Gen Intel(R) Core(TM) i7-12700K", 190),
    ],
)
def test_processors_are_known_by_the_names_that_systems_give(name: str, watts: float) -> None:
    found = draw(name)
    assert found.processor_w == watts
    assert f"{watts}" in found.detail
    assert "thermal design power" in found.detail
    assert found.memory_w > 0


def test_an_unknown_processor_counts_by_its_cores_and_says_so() -> None:
    found = draw("Abacus 3000")
    assert found.processor_w == 4 * found.cores
    assert "Abacus 3000 is in no table" in found.detail


def test_this_machine_is_looked_up_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    level = logging.getLogger("codecarbon").level
    found = draw()
    Meter(found, 1).read()
    place(None)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert found.cores >= 1
    assert logging.getLogger("codecarbon").level == level


def test_cores_at_work_take_their_share_and_never_more_than_all() -> None:
    assert MACHINE.watts(1) == 30
    assert MACHINE.watts(4) == MACHINE.watts(9) == 90


def test_countries_differ_and_one_without_a_figure_is_refused() -> None:
    assert place(None).name == WORLD
    assert place("fra").g_per_kwh < place("DEU").g_per_kwh < place("POL").g_per_kwh
    with pytest.raises(InvalidInput, match=r"ledger\.country = 'XXX'.*three letters"):
        place("XXX")


def test_without_a_counter_energy_is_watts_times_seconds(tmp_path: Path) -> None:
    meter = Meter(MACHINE, 2, rapl=tmp_path / "none")
    time.sleep(0.05)
    before = meter.seconds
    spent = meter.read()
    assert 50 * before <= spent.energy_j <= 50 * meter.seconds
    assert spent.source == "modelled"
    assert "2 of 4 cores" in spent.detail


def test_a_gpu_without_a_counter_is_named(tmp_path: Path) -> None:
    spent = Meter(MACHINE, 1, gpu=97, rapl=tmp_path / "none").read()
    assert spent.source == "modelled"
    assert spent.detail.startswith("without the GPU")


def counter(directory: Path, energy_uj: int, largest_uj: int = 262_143_328_850) -> Path:
    """A processor's counter as Linux shows it; gives the file that counts."""
    domain = directory / "intel-rapl" / "intel-rapl:0"
    domain.mkdir(parents=True, exist_ok=True)
    for name, text in (("name", "package-0"), ("energy_uj", energy_uj), ("max_energy_range_uj", largest_uj)):
        (domain / name).write_text(f"{text}\n")
    return domain / "energy_uj"


def test_a_counter_is_read_as_it_goes_on_and_runs_over(tmp_path: Path) -> None:
    largest = 1_000_000_000
    file = counter(tmp_path, 900_000_000, largest)
    meter = Meter(Draw("p", 4, 80.0, 0.0, "made up"), 2, rapl=tmp_path)
    file.write_text("950000000\n")
    first = meter.read()
    assert first.energy_j == pytest.approx(50, rel=1e-3)
    assert first.source == "measured"
    assert "RAPL" in first.detail
    file.write_text("30000000\n")  # over the end: 50 J up to it and 30 J after
    assert meter.read().energy_j == pytest.approx(130, rel=1e-3)
    assert meter.read().energy_j == pytest.approx(130, rel=1e-3)
