"""A study is read as written, or refused in one line that says file, key, value and what to do."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipfit.errors import InvalidInput
from chipfit.run.settings import COSTS, Bound, parse_bound
from chipfit.run.study import Study, load_study, make_study

GOOD = {"name": "demo", "model": "resnet8", "target": "neural-engine"}

WHOLE = """
name = "demo"
model = "resnet8"
target = "neural-engine"
seed = 3

[task]
data = "rooms"
train = 100

[search]
algorithm = "aging"
objectives = ["latency", "accuracy"]
trials = 6

[limits]
accuracy_drop = 0.02
latency = "60 %"
peak_memory = "400 KiB"

[space]
fuse = false
width = [1.0, 0.5]
depth_multiplier = true

[variants]
V2 = ["width"]
V1 = ["depth_multiplier"]
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(text)
    return path


def test_a_whole_study_is_read(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, WHOLE))
    assert (study.name, study.seed, study.search.trials, study.task.train) == ("demo", 3, 6, 100)
    assert study.limits.costs == {"latency": Bound(value=0.6, relative=True), "peak_memory": Bound(value=400 * 1024.0)}
    assert list(study.opened) == ["width", "depth_multiplier"]
    assert list(study.rows.items()) == [("V2", ("width",)), ("V1", ("depth_multiplier",))]
    assert study.training.recipe(5).epochs == 5


def test_without_variants_one_uses_all_edits() -> None:
    assert make_study(GOOD | {"space": {"width": True, "fuse": True}}).rows == {"found": ("width", "fuse")}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"speed": 3}, ["'speed' is unknown", "known are", "target"]),
        ({"task": {"sise": 3}}, ["'task.sise' is unknown", "known are", "size"]),
        ({"training": {"epochs": 3}}, ["'training.epochs' is unknown", "baseline_epochs"]),
        ({"search": {"trial": 3}}, ["'search.trial' is unknown", "trials"]),
        ({"limits": {"speed": "3 ms"}}, ["limit 'speed'", "known are accuracy, latency"]),
        ({"space": {"widths": True}}, ["space.widths", "no such edit", "width"]),
        ({"space": {"fuse": False}}, ["space: opens no decision", "fuse = true"]),
        ({"space": {}}, ["space: opens no decision"]),
        ({"seed": -1}, ["seed = -1", "greater than or equal to 0"]),
        ({"search": {"trials": 0}}, ["search.trials = 0"]),
        ({"search": {"trials": "many"}}, ["search.trials = 'many'", "integer"]),
        ({"search": {"objectives": []}}, ["search: objectives"]),
        ({"search": {"objectives": ["latency", "latency"]}}, ["different names"]),
        ({"search": {"objectives": ["accuracy"]}}, ["add latency"]),
        ({"search": {"objectives": ["speed"]}}, ["search.objectives.0 = 'speed'", "'latency'"]),
        ({"search": {"stop_below": 1.0}}, ["search.stop_below = 1.0", "less than 1"]),
        ({"training": {"learning_rate": float("inf")}}, ["training.learning_rate = inf", "finite"]),
        ({"training": {"learning_rate": float("nan")}}, ["training.learning_rate = nan"]),
        ({"training": {"batch_size": 1}}, ["training.batch_size = 1", "greater than or equal to 2"]),
        ({"training": {"start": "warm"}}, ["training.start = 'warm'", "'scratch' or 'given'"]),
        ({"limits": {"accuracy_drop": 2}}, ["limits.accuracy_drop = 2"]),
        ({"limits": {"latency": "fast"}}, ["limit latency = 'fast'", "s or ms"]),
        ({"limits": {"latency": 3}}, ["limit latency = 3", "s or ms"]),
        ({"limits": {"latency": "3 KiB"}}, ["limit latency = '3 KiB'", "s or ms"]),
        ({"limits": {"latency": "-3 ms"}}, ["limit latency = '-3 ms'"]),
        ({"limits": {"latency": "0 ms"}}, ["limit latency = '0 ms'", "above 0"]),
        ({"limits": {"latency": "1.2.3 ms"}}, ["'1.2.3' is not a number"]),
        ({"limits": {"latency": "1e999 s"}}, ["limit latency = '1e999 s'", "finite"]),
        ({"limits": {"latency": {"value": -1}}}, ["limits.costs.latency.value = -1"]),
        ({"limits": 3}, ["limits = 3"]),
        ({"task": "rooms"}, ["task = 'rooms'"]),
        ({"name": "a/b"}, ["name = 'a/b'"]),
        ({"model": 3}, ["model = 3", "string"]),
        ({"variants": {"V1": ["fuse", "width"]}}, ["variants.V1: 'width' is not opened", "opened are fuse"]),
        ({"variants": {"V1": []}}, ["variants.V1 = []", "one or more"]),
        ({"variants": {"baseline": ["fuse"]}}, ["variants.baseline"]),
        ({"variants": {"7": ["fuse"]}}, ["variants.7"]),
        ({"variants": {"V1": "fuse"}}, ["variants.V1 = 'fuse'"]),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(change: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_study(GOOD | change, "my/study.toml")
    message = str(caught.value)
    assert message.startswith("my/study.toml: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("key", GOOD)
def test_what_must_be_given_is_named(key: str) -> None:
    with pytest.raises(InvalidInput, match=f"^study: {key}: Field required$"):
        make_study({name: value for name, value in GOOD.items() if name != key})


def test_several_faults_are_counted() -> None:
    with pytest.raises(InvalidInput, match=r"seed = -1: .* \(1 more\)$"):
        make_study(GOOD | {"seed": -1, "workers": 0})


def test_files_that_are_no_study_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"absent\.toml: No such file or directory; give the path of a study file"):
        load_study(tmp_path / "absent.toml")
    with pytest.raises(InvalidInput, match=r"Is a directory; give the path of a study file"):
        load_study(tmp_path)
    with pytest.raises(InvalidInput, match=r"study\.toml: not a readable TOML file \(.*line 1"):
        load_study(written(tmp_path, "this is = not = TOML"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match=r"binary\.toml: not a readable TOML file"):
        load_study(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("cost", "text", "value", "relative"),
    [
        ("latency", "2.4 ms", 2.4e-3, False),
        ("latency", "2.4ms", 2.4e-3, False),
        ("latency", " 2.4e-3 s ", 2.4e-3, False),
        ("latency", "1E-3s", 1e-3, False),
        ("latency", "900 µs", 900e-6, False),
        ("latency", "900 \u03bcs", 900e-6, False),
        ("latency", "900 us", 900e-6, False),
        ("latency", "60 %", 0.6, True),
        ("latency", "60%", 0.6, True),
        ("energy", "1.5 mJ", 1.5e-3, False),
        ("weights", "400 KiB", 400 * 1024, False),
        ("weights", "1.5 MB", 1.5e6, False),
        ("peak_memory", "1 MiB", 1024 * 1024, False),
        ("parameters", "100000", 1e5, False),
        ("parameters", 100000, 1e5, False),
        ("macs", "2e6", 2e6, False),
        ("macs", "120 %", 1.2, True),
    ],
)
def test_bounds(cost: str, text: object, value: float, relative: bool) -> None:
    bound = parse_bound(cost, text)
    assert bound.value == pytest.approx(value, rel=1e-12)
    assert bound.relative == relative


@given(st.sampled_from(COSTS), st.text(max_size=12))
def test_any_text_is_a_bound_or_refused(cost: str, text: str) -> None:
    try:
        bound = parse_bound(cost, text)
    except InvalidInput:
        return
    assert 0 < bound.value < float("inf")


def test_identity_and_digest_leave_out_the_workers_and_the_ledger_and_nothing_else() -> None:
    study = make_study(GOOD | {"workers": 1})
    assert make_study(GOOD | {"workers": 7}).digest == study.digest
    assert "workers" not in study.identity
    assert set(study.identity) == set(Study.model_fields) - {"workers", "ledger"}
    changes: list[dict[str, object]] = [{"seed": 1}, {"search": {"trials": 9}}, {"limits": {"latency": "50 %"}}]
    assert len({make_study(GOOD | change).digest for change in changes} | {study.digest}) == 4


def test_only_the_order_of_variants_makes_another_study() -> None:
    space = {"fuse": True, "width": True}
    variants = {"A": ["fuse"], "B": ["width"]}
    study = make_study(GOOD | {"space": space, "variants": variants})
    assert make_study(GOOD | {"space": dict(reversed(space.items())), "variants": variants}).digest == study.digest
    assert make_study(GOOD | {"space": space, "variants": dict(reversed(variants.items()))}).digest != study.digest


def test_an_identity_is_a_study_again(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, WHOLE))
    again = make_study(json.loads(json.dumps(study.identity)))
    assert again.digest == study.digest
    assert again.limits == study.limits
    assert list(again.rows) == list(study.rows)


def test_overrides_go_by_dotted_key(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    overrides = {"search.trials": 9, "limits.latency": "1 ms", "workers": "1", "training.final_epochs": 0}
    study = load_study(path, overrides)
    assert (study.search.trials, study.workers, study.training.final_epochs) == (9, 1, 0)
    assert study.limits.costs["latency"] == Bound(value=1e-3)
    with pytest.raises(InvalidInput, match=r"study\.toml: search\.trials = -1"):
        load_study(path, {"search.trials": -1})
    with pytest.raises(InvalidInput, match=r"study\.toml: model\.name: 'model' is no section"):
        load_study(path, {"model.name": "x"})
    with pytest.raises(InvalidInput, match=r"key 'nothing' is unknown"):
        load_study(path, {"nothing.there": 1})


def test_paths_are_those_beside_the_study_where_they_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.onnx").touch()
    (tmp_path / "chip.toml").touch()
    (tmp_path / "images").mkdir()
    text = 'name = "a"\nmodel = "net.onnx"\ntarget = "chip.toml"\n[task]\ndata = "folder:images"\n'
    path = written(tmp_path, text)
    study = load_study(path)
    assert (study.model, study.target) == (str(tmp_path / "net.onnx"), str(tmp_path / "chip.toml"))
    assert study.task.data == f"folder:{tmp_path / 'images'}"
    monkeypatch.chdir(tmp_path)
    assert load_study(Path("study.toml")).digest == study.digest
    path.write_text(text.replace("net.onnx", "absent.onnx"))
    assert load_study(path).model == "absent.onnx"


def test_curation_is_a_key_of_the_space_and_no_edit(tmp_path: Path) -> None:
    space = {"depth_multiplier": True}
    plain = make_study({**GOOD, "space": space})
    assert plain.curation is None
    for curate in (False, True, {"most": 3}):
        study = make_study({**GOOD, "space": {**space, "curate": curate}})
        assert list(study.opened) == list(study.rows["found"]) == ["depth_multiplier"]
        assert (study.curation is None) == (curate is False)
    assert study.curation is not None
    assert study.curation.most == 3
    assert study.digest != plain.digest
    assert make_study(study.identity).curation == study.curation


@pytest.mark.parametrize(
    ("curate", "named"), [("yes", "write true"), ({"most": 1}, "most"), ({"least": 3}, "least"), (3, "write true")]
)
def test_a_curation_that_does_not_fit_is_named(curate: object, named: str) -> None:
    with pytest.raises(InvalidInput, match=named) as caught:
        make_study({**GOOD, "space": {"fuse": True, "curate": curate}})
    assert "\n" not in str(caught.value)
    with pytest.raises(InvalidInput, match="opens no decision"):
        make_study({**GOOD, "space": {"curate": True}})


@pytest.mark.parametrize("budget", [None, "30 min"])
def test_a_quick_study_trains_less_and_is_another_run(tiny: Any, budget: str | None) -> None:
    search = {"trials": 7, "epochs": 4, "finalists": 3}
    if budget is not None:
        search |= {"algorithm": "combined", "budget": budget}
    study = tiny(search=search, training={"baseline_epochs": 20, "final_epochs": 1})
    quick = study.quick
    assert (quick.search.trials, quick.search.epochs, quick.search.finalists) == (4, 1, 1)
    assert (quick.training.baseline_epochs, quick.training.final_epochs) == (4, 1)
    assert quick.search.budget == (None if budget is None else 300.0)
    assert quick.name == "tiny-quick"
    assert quick.digest != study.digest
    assert quick.space == study.space
    assert quick.variants == study.variants
