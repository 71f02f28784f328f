"""What a subgraph's neighbours leave in a small memory: the open graph says for a code what the closed one says."""

from hypothesis import given, settings
from tests.graph.strategies import codes_of, spaces

from chipfit.graph.build import Builder
from chipfit.graph.graph import Graph
from chipfit.graph.memory import liveness, parts_in_place
from chipfit.graph.neighbours import GIVES, TAKES, with_neighbours
from chipfit.graph.ops import Resize
from chipfit.graph.subgraphs import Subgraph, cut
from chipfit.graph.values import bind

STRIPED = ("conv", "depthwise", "pool")
FIELDS = ("far_input", "far_output", "striped", "stripe_height", "beside", "streamed")


def around(graph: Graph, room: int, block: int = 1, in_place: tuple[str, ...] = ()) -> tuple[Subgraph, ...]:
    subgraphs = cut(graph)
    weights = [part.workload.parameters for part in subgraphs]
    parts = parts_in_place(graph, subgraphs) if "copy" in in_place else {}
    steps = liveness(graph, subgraphs, block, in_place)
    return with_neighbours(subgraphs, steps, block, STRIPED, room, weights, parts)


@settings(max_examples=8)
@given(spaces())
def test_open_graphs_say_for_a_code_what_the_closed_one_says(graph: Graph) -> None:
    for room in (40, 400):
        found = around(graph, room)
        for code in codes_of(graph)[:8]:
            chosen = {d.name: int(i) for d, i in zip(graph.decisions, code, strict=True)}
            here = [part for part in found if bind(part.presence, chosen)]
            closed = around(graph.close(code), room)
            assert [part.name for part in here] == [part.name for part in closed]
            for part, expected in zip(here, closed, strict=True):
                for name in FIELDS:
                    assert bind(getattr(part.workload, name), chosen) == getattr(expected.workload, name), name


@settings(max_examples=12)
@given(spaces())
def test_with_room_for_everything_only_what_enters_and_leaves_the_network_is_outside(graph: Graph) -> None:
    closed = graph.close(codes_of(graph)[-1])
    found = around(closed, 1 << 40)
    outside = {item.key for item in closed.inputs} | {part.name for part in found if part.workload.far_output}
    copied = {source for part in found if part.workload.kind == "copy" for source, _ in part.reads}
    for part in found:
        assert part.workload.striped == part.workload.stripe_height == part.workload.streamed == 0
        assert bool(part.workload.far_input) == any(source in outside for source, _ in part.reads)
        assert part.workload.far_output == part.gives_output or part.name in copied


def chain() -> Graph:
    """Four convolutions one after the other on 16x16 pixels, with 4, 32, 32 and 4 channels."""
    b = Builder()
    x = b.input("input", (1, 4, 16, 16))
    for number, channels in enumerate((4, 32, 32, 4)):
        x = b.conv(x, channels, kernel=3, padding=1, key=f"conv{number}")
    return b.graph(x)


def test_neighbours_without_room_for_both_work_in_stripes() -> None:
    """Two tensors of 32 channels take 16384 elements, one with a thin one 9216."""
    found = {part.name: part.workload for part in around(chain(), 12_000)}
    assert [found[f"conv{number}"].striped for number in range(4)] == [0, GIVES, TAKES, 0]
    # Two stripes of ten rows and the weights that find room beside them leave less than the tensor before takes.
    assert found["conv0"].far_output
    found = {part.name: part.workload for part in around(chain(), 9_000)}
    assert [found[f"conv{number}"].striped for number in range(4)] == [GIVES, TAKES + GIVES, TAKES + GIVES, TAKES]


def test_a_tensor_that_two_read_is_whole() -> None:
    b = Builder()
    x = b.conv(b.input("input", (1, 4, 16, 16)), 32, kernel=3, padding=1, key="first")
    y = b.conv(x, 32, kernel=3, padding=1, key="second")
    graph = b.graph(b.elementwise(x, y, "add", key="sum"))
    found = {part.name: part.workload for part in around(graph, 9_000)}
    assert found["first"].striped == found["second"].striped == 0
    assert found["first"].far_output
    assert found["second"].far_input


def test_a_run_ends_where_its_lowest_stripes_find_no_room_together() -> None:
    """Six rows of 32 channels on 16 pixels are 3072 elements, of 4 channels 384: room for two such."""
    found = {part.name: part.workload for part in around(chain(), 3_500)}
    assert [found[f"conv{number}"].striped for number in range(4)] == [GIVES, TAKES + GIVES, TAKES, 0]
    assert found["conv2"].far_output


def test_what_is_written_in_place_is_not_read_again_to_be_put_together() -> None:
    """The whole of 32 channels leaves the network; its larger part is computed where it lies, the other is read on."""
    b = Builder()
    small = b.conv(b.input("input", (1, 4, 8, 8)), 4, kernel=3, padding=1, key="small")
    large = b.add(Resize("bilinear", scale=(1.0, 1.0)), b.conv(small, 28, kernel=3, padding=1, key="deep"), key="large")
    whole = b.concat([large, small], key="whole")
    graph = b.graph(whole)
    found = {part.name: part.workload for part in around(graph, 1 << 20, in_place=("copy",))}
    assert found["whole"].far_output == 1
    assert not found["whole"].far_input
    assert found["large"].far_output == 32 / 28


def test_what_is_crowded_out_itself_is_in_nobodys_way() -> None:
    """Beside the largest tensor, which waits, the second finds no room, and the third, smaller one does."""
    b = Builder()
    given = b.input("input", (1, 4, 8, 8))
    largest = b.conv(given, 40, kernel=1, key="largest")
    second = b.conv(given, 30, kernel=1, key="second")
    third = b.conv(given, 20, kernel=1, key="third")
    x = b.conv(third, 4, kernel=1, key="fourth")
    y = b.elementwise(b.conv(second, 4, kernel=1, key="a"), b.conv(largest, 4, kernel=1, key="b"), "add", key="sum")
    graph = b.graph(b.elementwise(x, y, "add", key="last"))
    found = {part.name: part.workload for part in around(graph, 64 * 66)}
    assert not found["largest"].far_output
    assert found["second"].far_output
    assert not found["third"].far_output
