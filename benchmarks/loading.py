"""Whether a device would wait for images: rate of loading against rate of training."""

import io
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from advalign.data.batches import Share, TrainingData
from advalign.data.training_images import ImageFiles, TrainingImages
from advalign.settings import TrainSettings
from benchmarks._timing import ratio
from benchmarks.attacks import markdown
from benchmarks.cost import best_time
from benchmarks.training import batch_of, network, recipe_of, step

COUNT, BATCH = 512, 32
AS = {"batch_size": BATCH, "augmentation": "crop", "color_jitter": 0.1, "size": 224}
SIDES = (500, 375)  # a usual ImageNet image
TRAINED = {"cpu": ("resnet18", 224, 16), "cuda": ("resnet50", 224, 256)}


def report() -> Iterator[str]:
    """Images per second of the loader by workers, of a plain loop, and of training."""
    with tempfile.TemporaryDirectory() as folder:
        files = write_images(Path(folder))
        rows = [
            (f"advalign, {workers} workers", f"{COUNT / best_time(partial(epoch, files, workers), 3):.0f}")
            for workers in sorted({0, 1, 2, os.cpu_count() or 1})
        ]
        yield markdown(("loading 500x375 JPEG to 224, random crop, flip, colours", "images/s"), rows)
        over = ratio(lambda: epoch(files, 0), lambda: plain_loop(files), 3)
        yield f"One process over a plain loop of Pillow and torchvision, time: {over:.2f}.\n"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, side, count = TRAINED[device]
    rows = []
    for name in ("baseline", "robust", "harmonized"):
        recipe = recipe_of(name)
        work = step(recipe, network(model, side, recipe.twice_differentiable, device), batch_of(side, count, device))
        rows.append((f"{model} at {side}, {name}, {device}", f"{count / best_time(work, 3):.1f}"))
    yield markdown(("training", "images/s"), rows)


def write_images(folder: Path) -> ImageFiles:
    """Smooth noise as JPEG files of a photograph's size and, about, bytes."""
    draw = np.random.default_rng(0)
    names = []
    for number in range(COUNT):
        small = Image.fromarray(draw.integers(0, 256, (75, 100, 3), dtype=np.uint8))
        small.resize(SIDES, Image.Resampling.BICUBIC).save(folder / f"{number:05d}.JPEG", quality=90)
        names.append(f"{number:05d}.JPEG".encode())
    return ImageFiles(folder, np.array(names), np.zeros(COUNT, dtype=np.int64))


def data_of(files: ImageFiles, workers: int) -> TrainingData:
    """As a training reads it."""
    settings = TrainSettings.model_validate({**AS, "workers": workers})
    return TrainingData(TrainingImages([], files, 1, blur_maps=False), settings)


def epoch(files: ImageFiles, workers: int) -> int:
    """One epoch, its start included."""
    return sum(len(batch) for batch in data_of(files, workers).epoch(0, 0, Share()))


def plain_loop(files: ImageFiles) -> None:
    """Pillow and torchvision, written out."""
    change = transforms.Compose(
        [
            transforms.RandomResizedCrop(224, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.1, 0.1, 0.1),
            transforms.ToTensor(),
        ]
    )
    for first in range(0, COUNT, BATCH):
        encoded = [(files.folder / name.decode()).read_bytes() for name in files.names[first : first + BATCH]]
        torch.stack([change(Image.open(io.BytesIO(one)).convert("RGB")) for one in encoded])
