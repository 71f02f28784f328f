"""Real data in the formats that users have: short trainings that are better than an answer that needs none."""

import csv
import io
import json
import tarfile
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from chipfit.accuracy.recipe import Recipe
from chipfit.accuracy.train import evaluate, train
from chipfit.nets.module import GraphModule
from chipfit.nets.zoo import from_zoo
from chipfit.tasks.coco import coco_files
from chipfit.tasks.digits import digit_sequences
from chipfit.tasks.mask_files import mask_folder
from chipfit.tasks.sound_files import sounds
from chipfit.tasks.task import Task

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trained(task: Task, model: str, recipe: Recipe) -> dict[str, float]:
    """Test metrics of a network of the zoo after a training."""
    network = from_zoo(model, 0, classes=task.outputs)
    module = GraphModule(network.graph, network.weights)
    list(train(module, task, recipe, seed=0, device="cpu"))
    return evaluate(module, task, "test", device="cpu")


def constant(task: Task, prediction: torch.Tensor) -> dict[str, float]:
    """Test metrics where everything gets the same prediction."""
    targets = torch.cat([wanted for _, wanted in task.batches("test", 64)])
    return task.metrics(prediction[None].expand(len(targets), *[-1] * prediction.ndim), targets)


def test_blood_cells_are_found(shared_data: Path, tmp_path: Path) -> None:
    with tarfile.open(shared_data / "bccd" / "bccd_320x240.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    with (tmp_path / "boxes.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["label"] for row in rows})
    for split in ("train", "val", "test"):
        own = [row for row in rows if row["split"] == split]
        images = sorted({row["image"] for row in own})
        content = {
            "images": [
                {"id": number, "file_name": f"{name}.jpg", "width": 320, "height": 240}
                for number, name in enumerate(images)
            ],
            "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
            "annotations": [],
        }
        for number, row in enumerate(own):
            left, top, right, bottom = (float(row[edge]) for edge in ("xmin", "ymin", "xmax", "ymax"))
            box = [left, top, right - left, bottom - top]
            entry = {"id": number, "image_id": images.index(row["image"]), "category_id": names.index(row["label"])}
            content["annotations"].append(entry | {"bbox": box, "iscrowd": 0})
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    task = coco_files(tmp_path, size=128, on_bad="skip", cache=tmp_path / "cache")
    assert task.classes == ("Platelets", "RBC", "WBC")
    assert sum(task.sizes.values()) > 350
    # The boxes of one training image, for every image.
    example = torch.from_numpy(task.boxes["train"][0])
    guess = torch.zeros(len(example), 6)
    guess[:, 0], guess[:, 1:] = (example[:, 0] >= 0).float(), example[:, :5].clamp(min=0)
    trivial = constant(task, guess)
    metrics = trained(task, "ibn_detector-0.35-128", Recipe(epochs=5, batch_size=8, learning_rate=0.05))
    assert metrics["average_precision_at_half"] > 0.1
    assert metrics["average_precision_at_half"] > 2 * trivial["average_precision_at_half"]


def test_streets_are_segmented(shared_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "camvid"
    with tarfile.open(shared_data / "camvid" / "camvid_240x180.tar") as archive:
        archive.extractall(root, filter="data")
    classes = [str(name) for name in np.load(shared_data / "camvid" / "camvid_128x96.npz")["classes"][:11]]
    (root / "classes.txt").write_text("\n".join([*classes, "11 void"]))
    task = mask_folder(root, size=96, cache=tmp_path / "cache")
    assert task.classes == tuple(classes)
    frequent = int(np.bincount(task.masks["train"][task.masks["train"] < 255]).argmax())
    trivial = constant(task, torch.full((96, 96), frequent, dtype=torch.uint8))
    metrics = trained(task, "ibn_segmenter-0.5-96", Recipe(epochs=4, batch_size=16))
    assert metrics["mean_intersection_over_union"] > 0.15
    assert metrics["mean_intersection_over_union"] > 2 * trivial["mean_intersection_over_union"]


def test_digits_of_a_speaker_that_was_never_heard_are_told_apart(shared_data: Path, tmp_path: Path) -> None:
    stored = np.load(shared_data / "fsdd" / "fsdd_8k.npz")
    clips = zip(stored["digit"], stored["speaker"], stored["rep"], strict=True)
    for index, (digit, speaker, take) in enumerate(clips):
        path = tmp_path / str(digit) / f"{speaker}_nohash_{take}.wav"
        path.parent.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(stored["audio"][stored["offsets"][index] : stored["offsets"][index + 1]].tobytes())
        path.write_bytes(buffer.getvalue())
    task = sounds(tmp_path)
    assert task.classes == tuple("0123456789")
    metrics = trained(task, "ds_cnn", Recipe(epochs=6, batch_size=32, learning_rate=0.05))
    assert metrics["accuracy"] > 0.3


def test_sequences_of_digits_are_recognised(shared_data: Path) -> None:
    task = digit_sequences(shared_data / "fsdd" / "fsdd_8k.npz", limits={"train": 1200})
    trivial = max(constant(task, torch.tensor([digit]))["word_accuracy"] for digit in range(10))
    metrics = trained(task, "conv_ctc-0.5", Recipe(epochs=8, batch_size=16, learning_rate=0.003, optimizer="adamw"))
    assert metrics["word_accuracy"] > max(0.2, 2 * trivial)
