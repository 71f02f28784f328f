"""The applications: studies of `examples/` on several chips and seeds, with the tables and pictures of docs/results.md.

    python benchmarks/applications.py detection [--targets T ...] [--seeds S ...] [--quick] [--out DIR] [--pictures DIR]

Applications: detection, blood-cells, classification, cifar10, segmentation, camvid, speech, keywords. Those on data of
others look for it in the directory that CHIPFIT_TEST_DATA names, or in ../shared/data. Each seed draws its own images
(or splits, where the images are given), initial weights and search; runs are kept in DIR (runs/applications), and the
same command goes on. --quick trains a sixth: it shows that all works, its accuracies say little. A row is the median
over seeds of what the chosen networks gain, with the least and the most in brackets where there are several; accuracies
are those of the int8 files on the test split, as the difference to the baseline's of the same seed.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chipfit.report.figures import write_figures
from chipfit.report.findings import counted, int8_accuracy
from chipfit.run.launch import launch
from chipfit.run.problem import reopen
from chipfit.run.stages import Stage
from chipfit.run.study import load_study
from chipfit.run.summary import Row, Summary, summarise

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("CHIPFIT_TEST_DATA") or HERE.parents[1] / "shared" / "data")
EXAMPLES: Mapping[str, str] = {
    "detection": "detection",
    "blood-cells": "detection",
    "classification": "classification",
    "cifar10": "cifar10",
    "segmentation": "segmentation",
    "camvid": "segmentation",
    "speech": "speech",
    "keywords": "keywords",
}
TARGETS = ("neural-engine", "ethos-u85-1024")
SEEDS = (11, 12, 13)
"""No study was settled on images of these seeds."""
COLUMNS = ("latency", "compiled", "weights", "peak_memory", "int8", "float")


def blood_cells(folder: Path) -> str:
    """The images of BCCD with their boxes as a COCO file."""
    file = folder / "bccd.json"
    if not file.exists():
        with tarfile.open(_there(DATA / "bccd" / "bccd_320x240.tar")) as archive:
            archive.extractall(folder, filter="data")
        with (folder / "boxes.csv").open() as rows:
            boxes = list(csv.DictReader(rows))
        names = sorted({row["image"] for row in boxes})
        kinds = sorted({row["label"] for row in boxes})
        whole = {
            "images": [{"id": i, "file_name": name, "width": 320, "height": 240} for i, name in enumerate(names)],
            "categories": [{"id": i, "name": kind} for i, kind in enumerate(kinds)],
            "annotations": [
                {
                    "id": i,
                    "image_id": names.index(row["image"]),
                    "category_id": kinds.index(row["label"]),
                    "bbox": [
                        x0 := float(row["xmin"]),
                        y0 := float(row["ymin"]),
                        float(row["xmax"]) - x0,
                        float(row["ymax"]) - y0,
                    ],
                    "iscrowd": 0,
                    "area": (float(row["xmax"]) - x0) * (float(row["ymax"]) - y0),
                }
                for i, row in enumerate(boxes)
            ],
        }
        file.write_text(json.dumps(whole))
    return f"coco:{file},{folder / 'images'}"


def camvid(folder: Path) -> str:
    """The street scenes, whose validation images are split into validation and test by nobody: the tasks do it."""
    if not (folder / "train").is_dir():
        with tarfile.open(_there(DATA / "camvid" / "camvid_240x180.tar")) as archive:
            archive.extractall(folder, filter="data")
    return f"masks:{folder}"


def overrides(application: str, folder: Path) -> dict[str, Any]:
    """What an application sets beside what its example says."""
    folder.mkdir(parents=True, exist_ok=True)
    if application == "blood-cells":
        counts = {"task.train": None, "task.validation": None, "task.test": None}
        return {
            "task.data": blood_cells(folder),
            "task.size": 160,
            "classes": 3,
            "model": "ibn_detector-0.5-160",
        } | counts
    if application == "camvid":
        return {"task.data": camvid(folder), "classes": 12}
    if application == "cifar10":
        return {"task.data": f"npz:{_there(DATA / 'cifar10' / 'cifar10_jpeg_train.npz')}"}
    if application in ("speech", "keywords"):
        kind = "digits" if application == "speech" else "keywords"
        return {"task.data": f"{kind}:{_there(DATA / 'fsdd' / 'fsdd_8k.npz')}"}
    return {}


def _there(path: Path) -> Path:
    if not path.exists():
        raise SystemExit(f"no {path}: set CHIPFIT_TEST_DATA to a folder that has it")
    return path


def run(application: str, target: str, seed: int, out: Path, quick: bool) -> Summary:
    """One study, from where it was left."""
    name = f"{application}-{target}-{seed}"
    settings = overrides(application, out / "data" / application) | {
        "seed": seed,
        "task.seed": seed,
        "target": target,
        "name": name,
    }
    study = load_study(HERE.parent / "examples" / f"{EXAMPLES[application]}.toml", settings)
    study = study.quick if quick else study
    for event in launch(study, out / study.name):
        if isinstance(event, Stage):
            print(f"  {study.name}: {event.name} {event.variant}", flush=True)
    return summarise(out / study.name)


def figures(summary: Summary, row: Row) -> dict[str, float]:
    """What a row gains against the baseline of its run: shares of costs, differences of accuracies in points."""
    baseline = summary.rows[0].trial
    if row.trial is None or baseline is None:
        return {}
    costs, before = counted(summary, row.trial), counted(summary, baseline)
    found = {name: costs[name] / before[name] - 1 for name in ("latency", "weights", "peak_memory")}
    mine, given = summary.int8.get(row.trial.number), summary.int8.get(baseline.number)
    if mine is not None and given is not None and mine.compiled_s and given.compiled_s:
        found["compiled"] = mine.compiled_s / given.compiled_s - 1
    new, old = int8_accuracy(summary, row.trial), int8_accuracy(summary, baseline)
    if new is not None and old is not None:
        found["int8"] = new.value - old.value
    found["float"] = row.trial.metrics["test_accuracy"] - baseline.metrics["test_accuracy"]
    return found


def told(values: Sequence[float], unit: str) -> str:
    """The median in % or points, with the least and the most."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return "–"
    ends = f" ({min(known) * 100:+.1f} to {max(known) * 100:+.1f})" if len(known) > 1 else ""
    return f"{np.median(known) * 100:+.1f}{unit}{ends}".replace("-", "−")


def table(application: str, target: str, runs: Sequence[Summary]) -> None:
    """Markdown: what the baseline is, and a row for each variant."""
    seeds = len(runs)
    trials = [run.rows[0].trial for run in runs]
    print(f"\n{application} on {target}, {seeds} seed{'s' if seeds > 1 else ''}; baselines:")
    for one, trial in zip(runs, trials, strict=True):
        assert trial is not None
        costs, int8 = counted(one, trial), one.int8.get(trial.number)
        compiled = f", compiled {int8.compiled_s * 1e3:.3f} ms" if int8 is not None and int8.compiled_s else ""
        told_of = [
            f"{costs['latency'] * 1e3:.3f} ms{compiled}",
            f"weights {costs['weights'] / 1024:.0f} KiB",
            f"peak {costs['peak_memory'] / 1024:.0f} KiB",
            f"int8 {int8_accuracy(one, trial)}",
            f"float {trial.metrics['test_accuracy'] * 100:.1f} %",
            f"{one.seconds / 60:.0f} worker minutes",
        ]
        print(f"- {one.directory.name}: {', '.join(told_of)}")
    print("\n| | latency | compiled | weights | peak memory | int8, points | float, points | holds the limits |")
    print("|---|---|---|---|---|---|---|---|")
    for place, row in enumerate(runs[0].rows[1:], start=1):
        found = [figures(one, one.rows[place]) for one in runs]
        cells = [
            told([each.get(name, math.nan) for each in found], "" if name in ("int8", "float") else " %")
            for name in COLUMNS
        ]
        holds = sum(one.rows[place].holds for one in runs)
        print(f"| {row.name} | {' | '.join(cells)} | {holds} of {seeds} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("application", choices=EXAMPLES)
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/applications"))
    parser.add_argument("--pictures", type=Path, help="where pictures of the first seed go, a folder for each target")
    options = parser.parse_args()
    for target in options.targets:
        runs = [run(options.application, target, seed, options.out, options.quick) for seed in options.seeds]
        table(options.application, target, runs)
        if options.pictures is not None:
            write_figures(runs[0], reopen(runs[0]), options.pictures / f"{options.application}-{target}")


if __name__ == "__main__":
    main()
