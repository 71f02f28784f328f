"""Kills a search at random moments, takes it up again, and compares with one that was never interrupted.

Run as `python benchmarks/kill_and_resume.py [STUDY.toml] [--kills 10] [--seed 0] [--set KEY=VALUE] [--out DIR]`.
Without a study it takes a small one that trains for seconds. Each kill is SIGKILL to the search alone: its workers must
end by themselves. A search that ends before its kill comes is compared, and the next one begins in a fresh directory.
All that a run found must be equal bit by bit: trials (codes, costs, metrics, histories), weights, what was chosen.
Exit status: 0 equal, 1 not.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from chipfit.errors import InvalidInput
from chipfit.run.summary import summarise

SMALL = """
name = "small"
model = "ibn_classifier-32"
target = "neural-engine"
device = "cpu"
workers = 2
task = {data = "rooms", size = 32, train = 96, validation = 48, test = 48}
space = {fuse = true, depth_multiplier = [1.0, 0.75, 0.5]}
search = {objectives = ["latency", "accuracy"], trials = 6, epochs = 2, batch = 3}
limits = {accuracy_drop = 0.5}
training = {baseline_epochs = 2, final_epochs = 2, batch_size = 16}
"""

SURVIVAL_S = 10.0
"""So long a worker may take to notice that the search is gone."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", nargs="?", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, help="where the run directories are kept (default: a temporary directory)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        study = given.study or Path(scratch) / "small.toml"
        if given.study is None:
            study.write_text(SMALL)
        command = [sys.executable, "-m", "chipfit.cli.main", "search", str(study)]
        command += [part for item in given.set for part in ("--set", item)]
        return compare(command, given.out or Path(scratch), given.kills, random.Random(given.seed))


def compare(command: list[str], directory: Path, kills: int, dice: random.Random) -> int:
    begin = time.monotonic()
    first_epoch = finish(command, directory / "whole")
    whole_s = time.monotonic() - begin
    wanted = contents(directory / "whole")
    print(
        f"uninterrupted: {len(wanted['trials'])} trials in {whole_s:.1f} s, the first epoch after {first_epoch:.1f} s"
    )

    killed, round_number, differences, survivors = 0, 0, [], 0
    while killed < kills or round_number == 0:
        round_number += 1
        out = directory / f"broken{round_number}"
        while killed < kills:
            rest_s = whole_s - first_epoch
            moment = dice.uniform(0.5, 1.2) * first_epoch + dice.uniform(0.0, 1.6) * rest_s / kills
            ended, alive = kill_after(command, out, moment)
            if ended:
                break
            killed += 1
            survivors += alive
            print(f"kill {killed}: after {moment:.2f} s, {stage_of(out)}, {alive} workers survived", flush=True)
        finish(command, out)
        differences += [f"{out.name}: {text}" for text in differing(wanted, contents(out))]
    for text in differences:
        print(f"DIFFERENT {text}")
    if survivors:
        print(f"FAILED: {survivors} workers outlived a killed search by {SURVIVAL_S:.0f} s")
    elif not differences:
        print(f"EQUAL: {killed} kills in {round_number} runs changed nothing")
    return 1 if differences or survivors else 0


def finish(command: list[str], out: Path) -> float:
    """Runs to the end; seconds until the first epoch was finished: what comes back after a kill."""
    begin, first = time.monotonic(), 0.0
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=said)
        while process.poll() is None:
            time.sleep(0.02)
            if not first and any(out.glob("checkpoints/*.safetensors")):
                first = time.monotonic() - begin
        if process.returncode not in (0, 1):  # 1: nothing was found within the limits, which is a result
            said.seek(0)
            raise SystemExit(f"the search ended with {process.returncode}: {said.read().decode()[-2000:]}")
    return first


def kill_after(command: list[str], out: Path, moment: float) -> tuple[bool, int]:
    """Whether the search ended before it was killed, and how many of its workers outlived it."""
    with subprocess.Popen(
        [*command, "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            deadline = time.monotonic() + SURVIVAL_S
            while (alive := living(process.pid)) and time.monotonic() < deadline:
                time.sleep(0.1)
            for pid in alive:
                os.kill(pid, signal.SIGKILL)
            return False, len(alive)
    return True, 0


def living(session: int) -> list[int]:
    """Processes of a session that still run."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def stage_of(out: Path) -> str:
    """How far a run had come."""
    try:
        summary = summarise(out)
    except InvalidInput:
        return "before the run had said what it is"
    stages = Counter(trial.stage for trial in summary.trials)
    stages.update({f"{stage} (scores)": len(found) for stage, found in summary.scores.items() if found})
    under_way = [path.stem for path in out.glob("checkpoints/*.safetensors")]
    said = ", ".join(f"{count} {stage}" for stage, count in stages.items()) or "nothing finished"
    return said + (f", in the middle of {', '.join(under_way)}" if under_way else "")


def contents(out: Path) -> dict[str, Any]:
    """All that a run found, without how long it took."""
    summary = summarise(out)
    return {
        "trials": [replace(trial, seconds=0.0) for trial in summary.trials],
        "rows": [(row.name, row.trial and row.trial.number, row.holds, row.note) for row in summary.rows],
        "scores": {
            stage: {code: (each.value, each.why) for code, each in found.items()}
            for stage, found in summary.scores.items()
        },
        "combined": summary.notes.get("combined"),
        "members": {name: dict(stages) for name, stages in summary.members.items()},
        "weights": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.glob("weights/*"))},
        "leftovers": [path.name for path in sorted(out.glob("checkpoints/*"))],
    }


def differing(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    texts: list[str] = []
    for before, now in zip(wanted["trials"], found["trials"], strict=False):
        for field in fields(before):
            one, other = getattr(before, field.name), getattr(now, field.name)
            if one != other:
                texts.append(f"trial {before.number}: {field.name} {one} -> {other}")
    if len(wanted["trials"]) != len(found["trials"]):
        texts.append(f"{len(wanted['trials'])} trials -> {len(found['trials'])}")
    texts += [
        f"{key}: {wanted[key]} -> {found[key]}" for key in wanted if key != "trials" and wanted[key] != found[key]
    ]
    return texts


if __name__ == "__main__":
    sys.exit(main())
