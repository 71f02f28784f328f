import numpy as np
import pytest

from chipfit.estimate.rows import Rows
from chipfit.estimate.sampling import sample
from chipfit.estimate.tiles import Pieces, Work, tiling
from chipfit.targets import load_target

U55 = load_target("ethos-u55-256")
U85 = load_target("ethos-u85-256")


def work(count, generator):
    kernel = generator.choice([1, 3, 5, 7], count)
    stride = generator.choice([1, 2], count)
    height, width = (np.exp(generator.uniform(0, 4.5, (2, count)))).astype(int)
    channels, out = np.exp(generator.uniform(1, 6, (2, count))).astype(int)
    depthwise = generator.random(count) < 0.3
    return Work(
        height, width, channels, -(-height // stride), -(-width // stride), np.where(depthwise, channels, out),
        kernel, kernel, np.ones(count, int), stride, depthwise,
    )  # fmt: skip


def up(a, b):
    return -(-a // b) * b


@pytest.mark.parametrize("target", [U55, U85], ids=lambda target: target.name)
def test_pieces_fit_into_the_buffers_and_cover_the_output(target):
    tiles, items = target.tiles, work(300, np.random.default_rng(1))
    found = tiling(tiles, items)
    sums = np.where((items.out_height == 1) & (items.kernel_height == 1), 1, found.height)
    sums = sums * found.width * up(found.channels, 8) * 4
    if tiles.shared_bytes is None:
        assert (sums <= tiles.accumulator_bytes).all()
    else:
        assert (up(2 * up(sums, 1024), tiles.accumulator_bytes) < tiles.shared_bytes).all()
    rows, columns = -(-items.out_height // found.height), -(-items.out_width // found.width)
    assert (rows * columns == found.pixel_pieces).all()
    assert (found.channel_pieces * found.channels >= items.out_channels).all()
    assert (found.piece_cycles >= tiles.least_cycles).all()


def test_one_by_one_is_the_same_as_together():
    items = work(100, np.random.default_rng(2))
    together = tiling(U55.tiles, items)
    for place in range(0, 100, 7):
        alone = tiling(U55.tiles, items.take(slice(place, place + 1)))
        for name in together.__slots__:
            assert getattr(alone, name)[0] == getattr(together, name)[place], name


def test_no_piece_of_any_width_reads_less():
    """The naive search: all widths, for the heights and depths that are looked at."""
    items = work(40, np.random.default_rng(3))
    found, tiles = tiling(U55.tiles, items), U55.tiles
    for n in range(len(items)):
        taps = items.kernel_height[n] * items.kernel_width[n]
        shallow = items.in_channels[n] <= 8 or taps * up(items.in_channels[n], 32) > up(items.in_channels[n], 8) * up(
            taps, 4
        )
        held = up(min(items.in_channels[n], 16 if shallow else 32), 8)

        def read(h, w, d, n=n, taps=taps, held=held):
            rows, columns = (up((size - 1) * items.stride[n] + min(items.kernel_height[n], 8), 2) for size in (h, w))
            inputs = rows * columns * up(d if items.depthwise[n] else held, 8)
            flat = items.out_height[n] == 1 and items.kernel_height[n] == 1
            sums = (1 if flat else h) * w * up(d, 8) * 4
            if up(2 * up(inputs, 1024), 8192) + up(2 * up(sums, 1024), 16384) > tiles.shared_bytes:
                return np.inf
            ceil = [
                -(-size // piece) for size, piece in zip((items.out_height[n], items.out_width[n]), (h, w), strict=True)
            ]
            weights = (
                taps * items.in_channels[n] * ceil[0] * ceil[1] * (1 if items.depthwise[n] else items.out_channels[n])
            )
            again = 1 if items.depthwise[n] else -(-items.out_channels[n] // d)
            images = rows * columns * items.in_channels[n] * again
            cost = weights + images * items.out_height[n] / h * items.out_width[n] / w
            whole = items.in_height[n] * items.in_width[n] * items.in_channels[n]
            return cost / 2 if whole < rows * columns * (d if items.depthwise[n] else held) * 2 else cost

        best = read(found.height[n], found.width[n], found.channels[n])
        depths = {min(16 * k, up(min(items.out_channels[n], 128), 8)) for k in range(1, 9)}
        heights = {min(2 * k, up(min(items.out_height[n], 32), 2)) for k in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)}
        widths = range(2, up(min(items.out_width[n], 64), 2) + 1, 2)
        least = min(read(h, w, d) for d in depths for h in heights for w in widths)
        assert best <= least * (1 + 1e-6)


def test_what_is_not_worked_on_in_pieces_is_left_alone():
    generator = np.random.default_rng(4)
    drawn = [item for kind in ("conv", "softmax", "copy") for item in sample(kind, 20, generator, U55.fuses)]
    rows = Rows.of_workloads([item.workload(U55.fuses) for item in drawn])
    found = Pieces.of(U55, U55.tiles, rows)
    assert found.known[:20].all()
    assert not found.known[20:].any()
    assert not found.cycles[20:].any()
    assert (found.pixel_pieces[20:] == 1).all()
    nothing = Pieces.of(U55, U55.tiles, rows.take(slice(20, 60)))
    assert not nothing.known.any()


@pytest.mark.slow
def test_the_compiler_takes_the_same_pieces():
    regor = pytest.importorskip("ethosu.regor", reason="the compiler comes with ethos-u-vela")
    from chipfit.graph.ops import Conv2d
    from chipfit.measure.specimen import NAME, Specimen, integer_weights, ranges_of
    from chipfit.measure.vela import settings
    from chipfit.nets.network import Network
    from chipfit.nets.tflite.exporter import tflite_model

    items = work(60, np.random.default_rng(5))
    found, same = tiling(U55.tiles, items), []
    product, system, options = settings(U55.tool)
    for n in range(len(items)):
        k, s = int(items.kernel_height[n]), int(items.stride[n])
        total = [
            (int(o) - 1) * s + k - int(i)
            for o, i in ((items.out_height[n], items.in_height[n]), (items.out_width[n], items.in_width[n]))
        ]
        if min(total) < 0:
            continue
        pads = (total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2)
        groups = int(items.in_channels[n]) if items.depthwise[n] else 1
        op = Conv2d(int(items.out_channels[n]), (k, k), (s, s), pads, groups=groups)
        graph = Specimen(op, ((1, int(items.in_channels[n]), int(items.in_height[n]), int(items.in_width[n])),)).inside
        network = Network("n", graph, integer_weights(graph, 40, np.random.default_rng(0)))
        result = regor.compile(product, tflite_model(network, ranges_of(graph)), "TFLITE", system, options=options)
        tables = result.opt_database.tables
        row = next(row for row in tables["perf"].data if row[tables["perf"].header.index("name")] == NAME)
        main = next(each for each in tables["perf_debug_main"].data if each[0] == row[0])
        taken = dict(zip(tables["perf_debug_main"].header, main, strict=False))
        same.append(
            tuple(int(taken[f"ofm_block_{axis}"]) for axis in "hwc")
            == (found.height[n], found.width[n], found.channels[n])
        )
    assert len(same) > 20
    assert np.mean(same) > 0.85
