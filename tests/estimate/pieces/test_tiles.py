import numpy as np
import pytest

from chipfit.estimate.pieces.search import distinct
from chipfit.estimate.pieces.tiles import Pieces, Tiling, Work, tiling
from chipfit.estimate.rows import Rows
from chipfit.estimate.sampling import sample
from chipfit.targets import Target, load_target, shipped_targets, variant

U55 = load_target("ethos-u55-256")
U85 = load_target("ethos-u85-256")
ACCELERATORS = [item for item in shipped_targets() if item.tiles and item.tool and item.name == item.tool.accelerator]  # type: ignore[union-attr]
EVERY = pytest.mark.parametrize("target", ACCELERATORS, ids=lambda target: target.name)


def work(count, generator):
    kernel = generator.choice([1, 3, 5, 7], count)
    stride = generator.choice([1, 2], count)
    height, width = (np.exp(generator.uniform(0, 4.5, (2, count)))).astype(int)
    channels, out = np.exp(generator.uniform(1, 6, (2, count))).astype(int)
    depthwise = generator.random(count) < 0.3
    pool = depthwise & (generator.random(count) < 0.2)
    return Work(
        height, width, channels, -(-height // stride), -(-width // stride), np.where(depthwise, channels, out),
        kernel, kernel, np.ones(count, int), stride, depthwise, pool,
    )  # fmt: skip


def up(a, b):
    return -(-a // b) * b


@EVERY
def test_pieces_fit_into_the_buffers_and_cover_the_output(target: Target) -> None:
    tiles, items = target.tiles, work(300, np.random.default_rng(1))
    found = tiling(tiles, items)
    alone = (items.out_height == 1) & (items.kernel_height == 1) & (tiles.shared_bytes is not None)
    sums = np.where(alone, 1, found.height) * found.width * up(found.channels, tiles.accumulator_channels) * 4
    if tiles.shared_bytes is not None:
        assert (up(2 * up(sums, 1024), tiles.accumulator_bytes) < tiles.shared_bytes).all()
    else:
        # Where pieces take the proportions of the output, one may fill both halves of the buffer.
        assert (sums <= np.where(items.depthwise, 2, 1) * tiles.accumulator_bytes).all()
    rows, columns = -(-items.out_height // found.height), -(-items.out_width // found.width)
    assert (rows * columns == found.pixel_pieces).all()
    assert (found.channel_pieces * found.channels >= items.out_channels).all()
    assert (found.piece_cycles > 0).all()
    assert (found.parts >= 1).all()


@EVERY
def test_pieces_are_whole_granules(target: Target) -> None:
    items = work(300, np.random.default_rng(6))
    found = tiling(target.tiles, items)
    for mask, sizes in ((items.depthwise, target.tiles.depthwise_granules), (~items.depthwise, target.tiles.granules)):
        whole = [
            (found.height % h == 0) & (found.width % w == 0) & (found.channels % min(c, 16) == 0) for h, w, c in sizes
        ]
        assert np.any(whole, axis=0)[mask].all()


@EVERY
def test_one_by_one_is_the_same_as_together(target: Target) -> None:
    items = work(100, np.random.default_rng(2))
    together = tiling(target.tiles, items)
    for place in range(0, 100, 7):
        alone = tiling(target.tiles, items.take(slice(place, place + 1)))
        for name in Tiling.__slots__:
            assert getattr(alone, name)[0] == getattr(together, name)[place], name


@EVERY
def test_operators_that_repeat_have_the_pieces_of_the_first(target: Target) -> None:
    items, again = work(40, np.random.default_rng(9)), np.random.default_rng(10).integers(0, 40, 700)
    once, often = tiling(target.tiles, items), tiling(target.tiles, items.take(again))
    for name in Tiling.__slots__:
        assert (getattr(once, name)[again] == getattr(often, name)).all(), name


def test_distinct_rows_are_all_rows_once_in_the_order_in_which_they_are_met() -> None:
    rows = np.random.default_rng(11).integers(0, 3, (200, 4)).astype(float)
    first, place = distinct(rows)
    assert (rows[first][place] == rows).all()
    assert len(first) == len(np.unique(rows, axis=0))
    assert (np.diff(first) > 0).all()
    assert all((rows[: n + 1] == rows[n]).all(axis=1).argmax() == first[place[n]] for n in range(len(rows)))


def test_no_operators_have_no_pieces() -> None:
    for target in (U55, U85):
        assert len(tiling(target.tiles, work(3, np.random.default_rng(0)).take(slice(0, 0))).height) == 0


@pytest.mark.parametrize("target", [U55, load_target("ethos-u55-64")], ids=lambda target: target.name)
def test_no_piece_of_any_width_reads_less(target: Target) -> None:
    """The naive search through all heights, widths and depths."""
    items, tiles = work(60, np.random.default_rng(3)), target.tiles
    found, (high, wide, deep) = tiling(tiles, items), tiles.granules[0]
    for n in range(len(items)):
        taps = items.kernel_height[n] * items.kernel_width[n]
        taps_read = 0 if items.pool[n] else taps
        inner = items.in_channels[n]
        packs = inner <= 8 or taps * up(inner, 32) >= up(inner, 8) * up(taps, 4)
        held = up(min(inner, 16 if packs else 32), 8)

        def read(h, w, d, n=n, taps=taps_read, held=held):
            rows, columns = (
                up((size - 1) * items.stride[n] + min(items.kernel_height[n], 8), step)
                for size, step in ((h, high), (w, wide))
            )
            inputs = rows * columns * up(d if items.depthwise[n] else held, 8)
            flat = items.out_height[n] == 1 and items.kernel_height[n] == 1
            sums = (1 if flat else h) * w * up(d, 8) * 4
            buffers = (2 * up(inputs, 1024), tiles.input_bytes), (2 * up(sums, 1024), tiles.accumulator_bytes)
            if sum(up(size, step) for size, step in buffers) > tiles.shared_bytes:
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
            return cost / 2 if whole < inputs * 2 else cost

        best = read(found.height[n], found.width[n], found.channels[n])
        depths = {min(16 * k, up(min(items.out_channels[n], 128), deep)) for k in range(1, 9)}
        heights = range(high, up(min(items.out_height[n], 32), high) + 1, high)
        widths = range(wide, up(min(items.out_width[n], 64), wide) + 1, wide)
        least = min(read(h, w, d) for d in depths for h in heights for w in widths)
        assert best <= least * (1 + 1e-6)


def test_a_piece_in_proportion_is_the_whole_output_where_buffers_are_large() -> None:
    items = work(300, np.random.default_rng(7))
    large = {"tiles.input_bytes": 1 << 30, "tiles.accumulator_bytes": 1 << 30, "tiles.proportional_channels": 1024}
    found = tiling(variant(U85, large).tiles, items)
    assert (found.pixel_pieces == 1)[items.depthwise].all()
    # But for channels that would fill a unit of inputs in part.
    assert (found.channels > items.out_channels - 64)[items.depthwise].all()


def test_smaller_buffers_never_make_fewer_pieces() -> None:
    items = work(300, np.random.default_rng(8))
    for target in (U55, U85):
        full = tiling(target.tiles, items)
        half = {
            f"tiles.{key}": value // 2
            for key in ("shared_bytes", "input_bytes", "accumulator_bytes")
            if (value := getattr(target.tiles, key))
        }
        fewer = tiling(variant(target, half).tiles, items)
        area = full.out_elements >= fewer.out_elements
        assert area.mean() > 0.95


def test_what_is_not_worked_on_in_pieces_is_left_alone() -> None:
    generator = np.random.default_rng(4)
    drawn = [item for kind in ("conv", "softmax", "copy") for item in sample(kind, 20, generator, U55.fuses)]
    rows = Rows.of_workloads([item.workload(U55.fuses) for item in drawn])
    found = Pieces.of(U55, rows)
    assert found.known[:20].all()
    assert not found.known[20:].any()
    assert not found.cycles[20:].any()
    assert (found.pixel_pieces[20:] == 1).all()
    nothing = Pieces.of(U55, rows.take(slice(20, 60)))
    assert not nothing.known.any()


def compiled(target: Target, op, shape):
    """What the compiler says of an operator between others: its columns by name."""
    regor = pytest.importorskip("ethosu.regor", reason="the compiler comes with ethos-u-vela")
    from chipfit.measure.specimen import NAME, Specimen, integer_weights, ranges_of
    from chipfit.measure.vela import settings
    from chipfit.nets.network import Network
    from chipfit.nets.tflite.exporter import tflite_model

    product, system, options = settings(target.tool)
    graph = Specimen(op, (shape,)).inside
    network = Network("n", graph, integer_weights(graph, 40, np.random.default_rng(0)))
    result = regor.compile(product, tflite_model(network, ranges_of(graph)), "TFLITE", system, options=options)
    tables = result.opt_database.tables
    row = next(row for row in tables["perf"].data if row[tables["perf"].header.index("name")] == NAME)
    main = next(each for each in tables["perf_debug_main"].data if each[0] == row[0])
    return dict(zip(tables["perf_debug_main"].header, main, strict=False))


def convolutions(count, generator):
    """Operators whose padding is none or what keeps the size, kernels 1 to 5, strides 1 and 2."""
    kernel, stride = generator.integers(1, 6, count), generator.choice([1, 2], count)
    height, width = np.exp(generator.uniform(0, 4.5, (2, count))).astype(int)
    channels, out = np.exp(generator.uniform(1, 6, (2, count))).astype(int)
    depthwise = generator.random(count) < 0.25
    out = np.where(depthwise, channels, out)
    out_height, out_width = -(-height // stride), -(-width // stride)
    padded = [(size - 1) * stride + kernel - given for size, given in ((out_height, height), (out_width, width))]
    items = Work(
        height, width, channels, out_height, out_width, out, kernel, kernel, np.ones(count, int), stride, depthwise,
        np.zeros(count, bool),
    )  # fmt: skip
    return items.take((np.array(padded) >= 0).all(axis=0) & (height * width * np.maximum(channels, out) < 600_000))


@pytest.mark.slow
@EVERY
def test_the_compiler_takes_the_same_pieces(target: Target) -> None:
    from chipfit.graph.ops import Conv2d

    items = convolutions(400, np.random.default_rng(5))
    found, same = tiling(target.tiles, items), []
    for n in range(len(items)):
        k, s, inner = int(items.kernel_height[n]), int(items.stride[n]), int(items.in_channels[n])
        given, wanted = (items.in_height[n], items.in_width[n]), (items.out_height[n], items.out_width[n])
        total = [(int(o) - 1) * s + k - int(i) for o, i in zip(wanted, given, strict=True)]
        pads = (total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2)
        op = Conv2d(int(items.out_channels[n]), (k, k), (s, s), pads, groups=inner if items.depthwise[n] else 1)
        taken = compiled(target, op, (1, inner, int(given[0]), int(given[1])))
        piece = (found.height[n], found.width[n], found.channels[n])
        same.append(tuple(int(taken[f"ofm_block_{axis}"]) for axis in "hwc") == piece)
    assert len(same) >= 300
    assert np.mean(same) > 0.9


@pytest.mark.slow
@EVERY
def test_lanes_are_what_a_large_convolution_keeps_busy(target: Target) -> None:
    """The compiler's cycles of the array for a convolution that fills it: nearly all lanes work."""
    from chipfit.graph.ops import Conv2d

    # 16 taps fill the array where it takes four at a time.
    taken = compiled(target, Conv2d(256, (4, 4), (1, 1), (1, 1, 2, 2)), (1, 256, 32, 32))
    ideal = 256 * 256 * 16 * 32 * 32 / target.lanes.macs_per_cycle
    assert 0.95 < ideal / int(taken["mac_cycles"]) <= 1


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("function", ["max", "average"])
@pytest.mark.parametrize("size", [(2, 32, 64), (3, 56, 32), (7, 14, 64)], ids=str)
def test_pools_keep_the_array_busy_as_long_as_the_compiler_says(
    target: Target, function: str, size: tuple[int, int, int]
) -> None:
    from chipfit.graph.ops import Pool2d

    kernel, given, channels = size
    stride = min(kernel, 2)
    out = (given - kernel) // stride + 1
    taken = compiled(target, Pool2d(function, (kernel, kernel), (stride, stride)), (1, channels, given, given))
    values = (given, given, channels, out, out, channels, kernel, kernel, 1, stride, True, True)
    found = tiling(target.tiles, Work(*(np.array([value]) for value in values)))
    # What the last piece waits for its results comes on top.
    assert 0.85 < found.piece_cycles[0] * found.parts[0] / int(taken["mac_cycles"]) <= 1.01
