"""How near one converging run lands to the latency asked for: three targets, three seeds, CIFAR-10, 23 decisions.

    python benchmarks/converge.py [--quick] [--method policy] [--chip neural-engine] [--images 2000] [--epochs 6]

The space is that of benchmarks/supernet.py. Targets are the 10th, 50th and 90th percentile of the latency of 10,000
networks drawn uniformly (seed 20261129). Every run starts from fresh weights. "expected" is the latency that the
distribution expects in the end, "landed" that of the network that is handed over, both relative to the target. Half an
hour on one core; --quick takes 256 images and one seed.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from supernet import IMAGES, cifar10, mobilenet_space

from chipfit.accuracy.converge import Converging, converge
from chipfit.accuracy.recipe import Recipe
from chipfit.accuracy.supernet import Supernet
from chipfit.estimate import default_estimator
from chipfit.targets import load_target

SEED = 20_261_129
SHARES = (0.1, 0.5, 0.9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--method", choices=("policy", "gradient"), default="policy")
    parser.add_argument("--chip", default="neural-engine")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=6)
    given = parser.parse_args()
    if not IMAGES.exists():
        print(f"no images at {IMAGES}; set CHIPFIT_TEST_DATA to a directory that holds cifar10/")
        return
    task, space = cifar10(256 if given.quick else given.images), mobilenet_space()
    costs = default_estimator(load_target(given.chip)).prepare(space)
    drawn = np.random.default_rng(SEED).integers(0, space.cardinalities, (10_000, len(space.decisions)))
    latency_s = costs.latency_s(drawn)
    print(f"{given.method} on {given.chip}: networks take {latency_s.min():.3g} to {latency_s.max():.3g} s")
    landed: list[float] = []
    for share in SHARES:
        target_s = float(np.quantile(latency_s, share))
        for seed in range(1 if given.quick else 3):
            begin = time.process_time()
            *_, last = converge(
                Supernet(space, seed), task, Recipe(given.epochs), costs, target_s,
                seed=seed, device="cpu", how=Converging(given.method),
            )  # fmt: skip
            landed.append(last.latency_s / target_s - 1)
            print(
                f"  target {target_s:.3g} s, seed {seed}: expected {last.expected_latency_s / target_s - 1:+.1%}, "
                f"landed {landed[-1]:+.1%}, entropy left {last.entropy:.0%}, accuracy {last.metrics['accuracy']:.1%}, "
                f"{time.process_time() - begin:.0f} s",
                flush=True,
            )
    print(f"largest landing error {max(map(abs, landed)):.1%} over {len(landed)} runs (3 % asked for)")


if __name__ == "__main__":
    main()
