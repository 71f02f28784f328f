"""Plans for a board of the user's own: the models to time there, their workloads, and the program that times them."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from chipfit.errors import InvalidInput, UnsupportedOperator
from chipfit.files import write_whole
from chipfit.graph.graph import Graph
from chipfit.graph.subgraphs import cut
from chipfit.graph.workload import WORKLOAD_FIELDS, Workload
from chipfit.measure.measurement import Failure, Part, Run
from chipfit.measure.runtimes import CHAINS, chain, drawn
from chipfit.measure.specimen import Largest, Specimen, ranges_of
from chipfit.measure.table import NETWORK, sizes
from chipfit.nets.network import Network
from chipfit.targets.target import Target

CALL = "call"
"""Kind of the models that tell what a call costs that does next to nothing."""
MANIFEST_COLUMNS = ("file", "sha256", "model", "network", "kind", *WORKLOAD_FIELDS)
"""One line per file, and one without file for every subgraph of a whole network, by its number."""
MANIFEST, RUNNER = "manifest.csv", "runner.py"


@dataclass(eq=False)
class Planner:
    """A `measure.Tool` that measures nothing: it writes the models into `folder`, and every result is a failure.

    Whatever draws subgraphs and networks for a tool so makes a plan. `finish` writes what belongs to the models. Raises
    `InvalidInput` for a folder that holds a plan.
    """

    target: Target
    folder: Path
    largest: Largest = Largest(1 << 20, 1 << 20)  # noqa: RUF009 (frozen)
    budget: int = 1_000
    whole: int = 30
    models: int = 0
    bytes: int = 0
    left_out: list[str] = field(default_factory=list[str])
    _rows: list[list[object]] = field(default_factory=list[list[object]])

    def __post_init__(self) -> None:
        if (self.folder / MANIFEST).exists():
            raise InvalidInput(f"{self.folder} holds a plan already; give another folder, or remove this one")
        for layers in CHAINS:
            self._write(chain(layers), f"call{layers}", "", CALL, None)

    def subgraphs(self, specimens: Sequence[Specimen]) -> list[Part | Failure]:
        """Writes every specimen as a network of its own."""
        for item in specimens:
            load = item.workload(self.target.fuses)
            network = drawn(item.alone, item.sigma, self.models)
            self._write(network, f"subgraph{self.models - len(CHAINS):05d}", "", load.kind, load)
        return [Failure("planned")] * len(specimens)

    def networks(self, models: Sequence[Graph | Network]) -> list[Run | Failure]:
        """Writes whole networks that the target can run."""
        for item in models:
            network = item if isinstance(item, Network) else drawn(item, 40.0, self.models)
            loads = [part.workload for part in cut(network.graph, self.target.fuses)]
            number = self.models
            if not all(self.target.runs(load) for load in loads):
                self.left_out.append(f"network {number}: {self.target.name} cannot run all of it")
            elif self._write(network, f"network{number:05d}", number, NETWORK, None):
                self._rows += [["", "", "", number, load.kind, *sizes(load)] for load in loads]
        return [Failure("planned")] * len(models)

    def finish(self) -> None:
        """Writes the manifest and the program that times the models. Raises `StorageFull` or `InvalidInput`."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(MANIFEST_COLUMNS)
        writer.writerows(self._rows)
        write_whole(self.folder / RUNNER, (files("chipfit.measure") / "board_runner.py").read_bytes())
        write_whole(self.folder / MANIFEST, text.getvalue().encode())

    def _write(self, network: Network, name: str, number: object, kind: str, load: Workload | None) -> bool:
        """Writes a model in both formats and its lines; notes one that cannot be written."""
        try:
            contents = _contents(network)
        except UnsupportedOperator as error:
            self.left_out.append(str(error))
            return False
        numbers = sizes(load) if load is not None else [""] * len(WORKLOAD_FIELDS)
        for suffix, content in contents.items():
            path = self.folder / "models" / f"{name}{suffix}"
            write_whole(path, content)
            self.bytes += len(content)
            digest = hashlib.sha256(content).hexdigest()
            self._rows.append([f"models/{path.name}", digest, name, number, kind, *numbers])
        self.models += 1
        return True


def _contents(network: Network) -> dict[str, bytes]:
    from chipfit.nets.onnx.exporter import export_onnx
    from chipfit.nets.tflite.exporter import tflite_model

    integers = tflite_model(network, None if network.quantisation else ranges_of(network.graph))
    return {".tflite": integers, ".onnx": export_onnx(network, None, batch=1).SerializeToString()}
