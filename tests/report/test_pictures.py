import itertools
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipfit.report.pictures import Point, front, front_points, ticks
from chipfit.run.problem import Problem
from chipfit.run.summary import Summary


def point(latency_ms: float, accuracy: float, role: str = "final", error: float = 0.0, label: str = "") -> Point:
    return Point(role, label, f"{label} at {latency_ms} ms", latency_ms * 1e-3, error * 1e-3, accuracy, error / 100)


def styled(picture: str, style: str) -> list[ElementTree.Element]:
    return [item for item in ElementTree.fromstring(picture).iter() if style in item.get("class", "").split()]


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4), st.integers(2, 9))
def test_ticks_are_few_even_and_inside(low: float, length: float, most: int) -> None:
    found = ticks(low, low + length, most)
    slack = 1e-6 * (abs(low) + length)
    assert 1 <= len(found) <= most
    assert all(low - slack <= value <= low + length + slack for value in found)
    steps = [b - a for a, b in itertools.pairwise(found)]
    assert not steps or max(steps) - min(steps) <= slack


def test_every_trained_network_is_drawn_and_says_what_it_changes(finished: Summary, problem: Problem) -> None:
    points = front_points(finished, problem.space.decisions)
    trained = [trial for trial in finished.trials if trial.status != "failed" and trial.stage != "baseline"]
    assert len(points) == len(trained)
    assert sorted(point.label for point in points if point.label) == [
        "V1 multiplier ✗",
        "V2 fusion",
        "V3 both",
        "baseline",
    ]
    picture = front(points, 760, 420)
    assert len(styled(picture, "searched")) == sum(point.role == "search" for point in points)
    assert len(styled(picture, "dot")) == 4
    titles = [item.text or "" for item in ElementTree.fromstring(picture).iter("title")]
    (both,) = (title for title in titles if title.startswith("V3 both: "))
    assert "stage1.block1.fuse: separate → fused" in both
    assert "depth_multiplier: 1.0 → 0.9" in both


def test_networks_that_cannot_be_told_apart_are_joined_and_none_of_them_is_faint() -> None:
    near = [point(1.0, 0.90, error=0.5, label="a"), point(1.1, 0.899, error=0.5, label="b")]
    picture = front([*near, point(5.0, 0.5, error=0.1)], 760, 420)
    (band,) = styled(picture, "tie")
    assert "a and b cannot be told apart" in (band.find("title").text or "")  # type: ignore[union-attr]
    assert len(styled(picture, "best")) == 2
    assert len(styled(picture, "beaten")) == 1
    assert not styled(front([point(1.0, 0.9), point(1.1, 0.899)], 760, 420), "tie")


def test_error_bars_are_drawn_to_scale() -> None:
    picture = front([point(1.0, 0.9, error=0.1), point(2.0, 0.8, error=0.2)], 760, 420)
    across = [line for line in styled(picture, "error") if line.get("y1") == line.get("y2")]
    lengths = [float(line.get("x2", 0)) - float(line.get("x1", 0)) for line in across]
    assert lengths[1] == pytest.approx(2 * lengths[0], abs=0.3)


def test_a_failed_training_does_not_squeeze_the_picture() -> None:
    good = [point(1 + i / 10, 0.9 + i / 100, "search") for i in range(6)]
    picture = front([*good, point(1.5, 0.02, "search")], 760, 420)
    shapes = styled(picture, "searched")
    heights = [float(shape.get("cy", 0)) for shape in shapes if shape.tag == "circle"]
    assert len(heights) == 6
    assert max(heights) - min(heights) > 80
    assert [shape.tag for shape in shapes].count("path") == 1


@pytest.mark.parametrize("size", [(760, 420), (360, 340)])
def test_all_labels_lie_inside_and_apart(size: tuple[int, int]) -> None:
    points = [point(1 + i / 100, 0.9 + i / 1000, error=0.01, label=f"V{i} name") for i in range(4)]
    labels = styled(front([*points, point(3, 0.5)], *size), "label")
    assert len(labels) == 4
    places = [(float(label.get("x", 0)), float(label.get("y", 0))) for label in labels]
    assert all(0 < x < size[0] and 0 < y < size[1] for x, y in places)
    assert len(set(places)) == 4


def test_one_network_alone_and_hostile_names_can_be_drawn() -> None:
    picture = front([point(1.0, 0.9, "baseline", label="<script>&\"'\x00")], 760, 420)
    assert "<script" not in picture
    assert styled(picture, "label")[0].text == "<script>&\"'\N{REPLACEMENT CHARACTER}"
