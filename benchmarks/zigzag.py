"""How far the simulator agrees with a peer: ZigZag (KU Leuven, MIT licence), which searches for the best loop order.

    python -m venv build/zigzag && build/zigzag/bin/pip install zigzag-dse==3.9.1 six
    CHIPFIT_ZIGZAG=build/zigzag/bin/python python benchmarks/zigzag.py

ZigZag lives in an environment of its own, so that its libraries cannot disturb others, and is called as a process;
without it the benchmark says so and stops. Each of its designs becomes a target by what its files say: unrolled loops
are lanes, widths of ports are bandwidths, sizes are sizes. No figure is fitted to its results.

Both are asked the same question: one layer inside a network, its activations on chip, its weights in DRAM. ZigZag's
files put the activations of a single layer into DRAM as well; that is the one change to them. All layers here fit.
Patches of pixels become as many pixels of one row, which is all that a target can say; what that makes in steps is told
apart.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VERSION = "3.9.1"
DESIGNS = {"tpu_like": "tpu_like", "edge_tpu_like": "edge_tpu_like", "tesla_npu_like": "tesla_npu_like"}
"""Hardware and mapping files of ZigZag."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution: `size` is the side of its output, `groups` its input channels for a depthwise one."""

    channels: int
    out: int
    size: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1


Block = tuple[list[Layer], list[Layer]]
"""An inverted bottleneck, and the same with its first two convolutions fused into one."""


def block(size: int, channels: int, stride: int) -> Block:
    """Expansion 4, 3×3; `size` is the side of its input."""
    wide, after = 4 * channels, size // stride
    project = Layer(wide, channels, after)
    separate = [Layer(channels, wide, size), Layer(wide, wide, after, 3, stride, wide), project]
    return separate, [Layer(channels, wide, after, 3, stride), project]


BLOCKS = {
    (size, channels, stride): block(size, channels, stride)
    for size, channels in ((56, 24), (28, 40), (14, 80), (7, 160))
    for stride in (1, 2)
    if size % stride == 0
}
STEPS_OUT = (31, 32, 33, 40, 41, 64, 65)
STEPS_IN = (31, 32, 33, 40, 41, 64, 65)
RESNET = (
    Layer(3, 64, 112, 7, 2), Layer(64, 64, 56, 3), Layer(64, 128, 28, 3, 2), Layer(64, 128, 28, 1, 2),
    Layer(128, 128, 28, 3), Layer(256, 256, 14, 3), Layer(512, 512, 7, 3),
)  # fmt: skip
MOBILENET = (Layer(3, 32, 112, 3, 2), Layer(16, 96, 56), Layer(320, 1280, 7), Layer(32, 16, 56))


def layers() -> list[Layer]:
    """All that is compared, each once."""
    blocks = [layer for pair in BLOCKS.values() for part in pair for layer in part]
    steps = [Layer(32, out, 28, 3) for out in STEPS_OUT] + [Layer(channels, 32, 28, 3) for channels in STEPS_IN]
    return list(dict.fromkeys([*RESNET, *MOBILENET, *blocks, *steps]))


def peer(design: str, wanted: list[Layer]) -> list[float]:
    """Cycles by ZigZag, in its own environment. Prints nothing else on standard output than the answer of that one."""
    python = os.environ["CHIPFIT_ZIGZAG"]
    # -P: or else `import zigzag` would find this file.
    done = subprocess.run(
        [python, "-P", __file__, "--peer", design],
        input=json.dumps([asdict(layer) for layer in wanted]),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"ZigZag failed on {design}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def described(design: str) -> dict[str, Any]:
    """The hardware and the mapping of a ZigZag design, as its files say."""
    python = os.environ["CHIPFIT_ZIGZAG"]
    done = subprocess.run([python, "-P", __file__, "--describe", design], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def serve(verb: str, design: str) -> None:
    """The other side: runs where ZigZag is installed, and imports nothing of chipfit."""
    import yaml

    files = _files(design)
    hardware, mapping = (yaml.safe_load(file.read_text()) for file in files)
    if verb == "--describe":
        print(json.dumps({"hardware": hardware, "mapping": mapping[0]["spatial_mapping"]}))
        return
    print(json.dumps(_simulated(hardware, files[1], json.loads(sys.stdin.read()))))


def _files(design: str) -> tuple[Path, Path]:
    from importlib.resources import files

    inputs = Path(str(files("zigzag"))) / "inputs"
    return inputs / "hardware" / f"{design}.yaml", inputs / "mapping" / f"{DESIGNS[design]}.yaml"


def _simulated(hardware: dict[str, Any], mapping: Path, wanted: list[dict[str, int]]) -> list[float]:
    import logging

    import yaml
    from zigzag.api import get_hardware_performance_zigzag

    logging.disable(logging.CRITICAL)
    dram = hardware["memories"]["dram"]
    dram["operands"] = ["I2"]
    for port in dram["ports"]:
        port["allocation"] = [each for each in port["allocation"] if str(each).startswith("I2")]
    found: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        changed = Path(place) / "hardware.yaml"
        changed.write_text(yaml.safe_dump(hardware, sort_keys=False))
        for layer in wanted:
            _, cycles, _ = get_hardware_performance_zigzag(
                [_layer(**layer)], str(changed), str(mapping), dump_folder=place, loma_show_progress_bar=False
            )
            found.append(float(cycles))
    return found


def _layer(channels: int, out: int, size: int, kernel: int, stride: int, groups: int) -> dict[str, Any]:
    """A convolution as ZigZag reads it."""
    group, g = ("[g]", ["G"]) if groups > 1 else ("", [])
    return {
        "id": 0,
        "name": "conv",
        "operator_type": "Conv",
        "equation": f"O[b]{group}[k][oy][ox]+=W{group}[k][c][fy][fx]*I[b]{group}[c][iy][ix]",
        "dimension_relations": [f"ix={stride}*ox+1*fx", f"iy={stride}*oy+1*fy"],
        "loop_dims": ["B", *g, "K", "C", "OY", "OX", "FY", "FX"],
        "loop_sizes": [1, *([groups] if g else []), out // groups, channels // groups, size, size, kernel, kernel],
        "operand_precision": {"W": 8, "I": 8, "O": 16, "O_final": 8},
        "operand_source": {"I": 0, "W": 0},
    }


def target_of(design: str, data: dict[str, Any]) -> Any:
    """A ZigZag design as a target.

    Loops K, C and OX·OY that its mapping unrolls are output channels, input channels and pixels. No loop over groups is
    unrolled, so a depthwise convolution runs one channel at a time. On-chip memories are those of at least 32 KB; the
    one of weights only (where there is none, the registers in the array) is the weight buffer. Widths are in bits per
    cycle. Overheads are zero: ZigZag counts none but filling and draining, which it derives.
    """
    from chipfit.targets import load_target, variant

    lanes = unrolled(data)
    memories = {name: item for name, item in data["hardware"]["memories"].items() if name != "dram"}
    large = {name: item for name, item in memories.items() if item["size"] >= 8 * 32_000}
    of_weights = [item for item in large.values() if item["operands"] == ["I2"]]
    registers = next(item for item in memories.values() if item["operands"] == ["I2"])["size"] // 8
    array = lanes["K"] * lanes["C"] * lanes["OX"] * lanes["OY"]
    buffer = max((item["size"] // 8 for item in of_weights), default=registers * array)
    activations = sum(item["size"] // 8 for item in large.values() if "O" in item["operands"])
    width = sum(port["bandwidth_max"] for item in large.values() for port in item["ports"]) / 8
    clock_hz = 1e9  # any: ZigZag counts cycles
    return variant(
        load_target("neural-engine"),
        {
            "name": design.replace("_", "-"),
            "clock_hz": clock_hz,
            "lanes.output_channels": lanes["K"],
            "lanes.input_channels": lanes["C"],
            "lanes.pixels": lanes["OX"] * lanes["OY"],
            "depthwise.channels": 1,
            "depthwise.taps": 1,
            "depthwise.efficiency": 1.0,
            "memory.on_chip_bytes": activations + buffer,
            "memory.weight_buffer_bytes": buffer,
            "memory.on_chip_bytes_per_cycle": width,
            "memory.dram_bytes_per_s": data["hardware"]["memories"]["dram"]["ports"][0]["bandwidth_max"] / 8 * clock_hz,
            "overhead.layer_cycles": 0.0,
            "overhead.fill_cycles": 0.0,
        },
    )


def unrolled(data: dict[str, Any]) -> dict[str, int]:
    """How often the mapping of a design has each loop side by side."""
    pairs = [_pair(each) for entries in data["mapping"].values() for each in entries]
    return {"K": 1, "C": 1, "OX": 1, "OY": 1} | dict(pairs)


def patches(layer: Layer, lanes: dict[str, int]) -> float:
    """Steps that rows of pixels take by those that ZigZag's patches of as many pixels take."""
    rows = layer.size * -(-layer.size // (lanes["OX"] * lanes["OY"]))
    return rows / (-(-layer.size // lanes["OX"]) * -(-layer.size // lanes["OY"]))


def _pair(text: Any) -> tuple[str, int]:
    loop, size = (part.strip() for part in text.split(",")) if isinstance(text, str) else text
    return str(loop), int(size)


def own(target: Any, wanted: list[Layer]) -> list[float]:
    """Cycles by chipfit's simulator, without bias, as ZigZag has none."""
    from chipfit.graph.workload import Workload
    from chipfit.measure.simulator import simulate

    loads: list[Workload] = []
    for item in wanted:
        side, taps = item.size * item.stride, item.kernel**2
        per_output = item.channels // item.groups * taps
        load = Workload(
            "depthwise" if item.groups > 1 else "conv",
            in_height=side, in_width=side, in_channels=item.channels,
            out_height=item.size, out_width=item.size, out_channels=item.out,
            kernel_height=item.kernel, kernel_width=item.kernel,
            stride_height=item.stride, stride_width=item.stride,
            groups=item.groups, macs=per_output * item.out * item.size**2, parameters=per_output * item.out,
            in_elements=side**2 * item.channels, out_elements=item.size**2 * item.out,
        )  # fmt: skip
        loads.append(load)
    return [float(each.cycles or 0) for each in simulate(target, loads)]


def rank_correlation(a: list[float], b: list[float]) -> float:
    """Spearman's, with ties at their mean rank."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def compare(design: str, wanted: list[Layer]) -> None:
    import numpy as np

    data = described(design)
    target = target_of(design, data)
    theirs, ours = peer(design, wanted), own(target, wanted)
    ratio = np.array(ours) / np.array(theirs)
    lanes = target.lanes
    print(
        f"{design}: {lanes.output_channels} outputs × {lanes.input_channels} inputs × {lanes.pixels} pixels, "
        f"weights {target.dram_bytes_per_cycle:g} B/cycle, on chip {target.memory.on_chip_bytes_per_cycle:g} B/cycle"
    )
    groups = {
        "all layers": [True] * len(wanted),
        "1×1": [item.kernel == 1 for item in wanted],
        "full, larger kernel": [item.kernel > 1 and item.groups == 1 for item in wanted],
        "depthwise": [item.groups > 1 for item in wanted],
    }
    for name, chosen in groups.items():
        part = ratio[np.array(chosen)]
        ranks = rank_correlation(*([c for c, on in zip(each, chosen, strict=True) if on] for each in (ours, theirs)))
        within = float(np.mean(np.abs(part - 1) <= 0.05))
        print(
            f"  {name:20s} {len(part):3d} layers: Spearman {ranks:.4f}, chipfit / ZigZag median {np.median(part):.3f}, "
            f"from {part.min():.3f} to {part.max():.3f}, within 5 % {within:.0%}"
        )
    if lanes.pixels > 1:
        shaped = ratio / np.array([patches(item, unrolled(data)) for item in wanted])
        within = float(np.mean(np.abs(shaped - 1) <= 0.05))
        print(
            f"  without the steps that rows take more or less than patches: median {np.median(shaped):.3f}, "
            f"from {shaped.min():.3f} to {shaped.max():.3f}, within 5 % {within:.0%}"
        )
    far = sorted(range(len(wanted)), key=lambda i: -abs(np.log(ratio[i])))[:3]
    for i in far:
        print(f"  furthest apart: {wanted[i]}: {ours[i]:,.0f} against {theirs[i]:,.0f} cycles")
    _steps(dict(zip(wanted, ours, strict=True)), dict(zip(wanted, theirs, strict=True)))
    _fusion(dict(zip(wanted, ours, strict=True)), dict(zip(wanted, theirs, strict=True)))


def _steps(ours: dict[Layer, float], theirs: dict[Layer, float]) -> None:
    """Whether latency jumps at the same channel counts: from one channel count to the next, by over 2 %."""
    for title, counts, made in (
        ("output", STEPS_OUT, lambda n: Layer(32, n, 28, 3)),
        ("input", STEPS_IN, lambda n: Layer(n, 32, 28, 3)),
    ):
        pairs = [(a, b) for a, b in itertools.pairwise(counts) if b == a + 1]
        rises = [[cost[made(b)] / cost[made(a)] - 1 for a, b in pairs] for cost in (ours, theirs)]
        texts = [f"{a}→{b}: {x:+.0%} / {y:+.0%}" for (a, b), x, y in zip(pairs, *rises, strict=True)]
        alike = sum((x > 0.02) == (y > 0.02) for x, y in zip(*rises, strict=True))
        print(f"  steps in {title} channels (chipfit / ZigZag): {', '.join(texts)}; alike {alike} of {len(pairs)}")


def _fusion(ours: dict[Layer, float], theirs: dict[Layer, float]) -> None:
    """Whether both say the same about which of a block and its fused form is faster."""
    alike, texts = 0, []
    for (size, channels, stride), (separate, fused) in BLOCKS.items():
        share = [sum(c[x] for x in fused) / sum(c[x] for x in separate) for c in (ours, theirs)]
        alike += (share[0] < 1) == (share[1] < 1)
        texts.append(f"{size}², {channels} ch, stride {stride}: {share[0]:.2f} / {share[1]:.2f}")
    print(f"  fused by separate (chipfit / ZigZag): {'; '.join(texts)}; same order in {alike} of {len(BLOCKS)}")


def main() -> None:
    python = os.environ.get("CHIPFIT_ZIGZAG", "")
    probe = "import importlib.metadata, zigzag.api; print(importlib.metadata.version('zigzag-dse'))"
    if not python or not Path(python).exists():
        print("skipped: set CHIPFIT_ZIGZAG to the Python of an environment with zigzag-dse (see the head of this file)")
        return
    found = subprocess.run([python, "-P", "-c", probe], capture_output=True, text=True, check=False)
    if found.returncode:
        print(f"skipped: {python} cannot import zigzag: {(found.stderr.strip().splitlines() or [''])[-1]}")
        return
    wanted = layers()
    print(f"{len(wanted)} convolutions, chipfit's simulator and ZigZag {found.stdout.strip()} (written for {VERSION})")
    for design in DESIGNS:
        start = time.perf_counter()
        compare(design, wanted)
        print(f"  took {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        serve(*sys.argv[1:])
    else:
        main()
