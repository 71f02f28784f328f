import importlib
import json

import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.estimate.rows import Rows
from chipfit.estimate.sampling import SAMPLED_KINDS, sample
from chipfit.estimate.store import default_estimator, load_estimator, save_estimator, shipped_name
from chipfit.measure.simulator import simulate_columns, workload_columns
from chipfit.targets import shipped_targets, variant


@pytest.fixture
def rows(target, generator):
    drawn = [item for kind in SAMPLED_KINDS for item in sample(kind, 30, generator, target.fuses)]
    return Rows.of_workloads([item.workload(target.fuses) for item in drawn])


@pytest.fixture
def file(corrected, tmp_path):
    path = tmp_path / "chip.json"
    save_estimator(path, corrected)
    return path


SIMULATED = [target for target in shipped_targets() if target.tool is None]


def test_a_loaded_estimator_is_the_saved_one(corrected, file, rows):
    found = load_estimator(file)
    before, after = corrected.predict(rows), found.predict(rows)
    for name in ("latency_s", "spread_s", "energy_j", "bound", "in_range"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert found.provenance == corrected.provenance
    assert (found.target, found.precision_name) == (corrected.target, corrected.precision_name)
    assert found.systematic == corrected.systematic
    again = file.with_name("again.json")
    save_estimator(again, found)
    assert again.read_bytes() == file.read_bytes()


def test_files_are_small(file):
    assert file.stat().st_size < 1_000_000


def _changed(file, change):
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def test_a_damaged_or_foreign_file_is_refused(file):
    whole = file.read_bytes()
    for damaged, message in (
        (whole[: len(whole) // 2], "cut short"),
        (b"\x00\xff" + whole, "cut short"),
        (b"[1, 2]", "not an estimator"),
        (b'{"format": "other"}', "not an estimator"),
        (whole.replace(b'"systematic": 0', b'"systematic": 1'), "damaged"),
    ):
        file.write_bytes(damaged)
        with pytest.raises(InvalidInput, match=message):
            load_estimator(file)
    with pytest.raises(InvalidInput, match=r"none\.json: cannot be read"):
        load_estimator(file.with_name("none.json"))


def test_another_version_is_refused(file):
    _changed(file, lambda data: data.update(version=99))
    with pytest.raises(InvalidInput, match="another version"):
        load_estimator(file)


@pytest.mark.parametrize("place", ["regression", "target", "provenance", "precision"])
def test_a_file_with_a_part_missing_is_refused_even_if_its_digest_fits(file, place, monkeypatch):
    from chipfit.estimate import store

    _changed(file, lambda data: data["content"].pop(place))
    monkeypatch.setattr(store, "_digest", lambda content: json.loads(file.read_text())["digest"])
    with pytest.raises(InvalidInput, match="damaged"):
        load_estimator(file)


def test_a_target_of_ones_own_is_fitted_once_and_cached(target, tmp_path, monkeypatch):
    fits = []
    fitting = importlib.import_module("chipfit.estimate.fit")
    small = fitting.fit

    def counted(*arguments, **options):
        fits.append(arguments)
        return small(*arguments, budget=400, **options)

    monkeypatch.setattr(fitting, "fit", counted)
    monkeypatch.setenv("CHIPFIT_CACHE", str(tmp_path))
    own = variant(target, {"lanes.pixels": 2})
    first, second = default_estimator(own), default_estimator(own)
    assert len(fits) == 1
    assert first.provenance == second.provenance
    assert second.target == own
    (cached,) = tmp_path.iterdir()
    cached.write_bytes(cached.read_bytes()[:100])
    assert default_estimator(own).provenance == first.provenance
    assert len(fits) == 2
    assert default_estimator(own, "int16").precision_name == "int16"
    with pytest.raises(InvalidInput, match="no precision"):
        default_estimator(own, "int3")


@pytest.mark.parametrize("target", SIMULATED, ids=lambda target: target.name)
def test_shipped_estimators_say_what_the_simulator_says_today(target, tmp_path, monkeypatch):
    """Where this fails, targets or simulator have changed: run `python -m chipfit.estimate.ship`."""
    monkeypatch.setenv("CHIPFIT_CACHE", str(tmp_path))
    found = default_estimator(target)
    assert not list(tmp_path.iterdir()), f"{shipped_name(target, target.default_precision)} does not fit the target"
    generator = np.random.default_rng(31)
    specimens = [item for kind in SAMPLED_KINDS for item in sample(kind, 40, generator, target.fuses)]
    loads = [item.workload(target.fuses) for item in specimens]
    truth = simulate_columns(target, workload_columns(loads)).latency_s
    off = np.abs(found.predict(Rows.of_workloads(loads)).latency_s / truth - 1)
    assert np.median(off) < 0.001
    assert np.quantile(off, 0.99) < 0.05
