"""A training that takes a tenth of a second: noise whose colour tells the class, and a network of four layers."""

import numpy as np
import torch
from torch import nn

from advalign.data.augmentation import Sample
from advalign.data.batches import TrainingData
from advalign.models.classifier import Classifier, Preprocessing
from advalign.recipes.baseline import Baseline
from advalign.settings import TrainSettings
from advalign.training.loop import Fit
from advalign.training.optimisation import Mixing
from advalign.training.world import World
from tests.tiny_recipes import DIMENSIONS

COUNT, SIZE, CLASSES, BATCH = 70, 12, 3, 16
PER_EPOCH = COUNT // BATCH  # 4, the incomplete batch is left out
SETTINGS = TrainSettings(size=SIZE, epochs=4, batch_size=BATCH, learning_rate=1e-2, warmup=0.25, shift=1, threads=1)


class Images:
    """Noise whose mean colour tells the class; the map is the first channel. `lacking` images have none."""

    def __init__(self, seed=1, count=COUNT, lacking=lambda number: False, size=SIZE):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, CLASSES, (count,), generator=generator)
        pixels = torch.randint(0, 130, (count, 3, size, size), generator=generator)
        pixels[torch.arange(count), self.labels] += 80
        self.pixels = pixels.to(torch.uint8)
        self.lacking = lacking
        self.responses = torch.randn(count, DIMENSIONS, generator=generator).numpy()
        self.responses[::5] = np.nan

    def __len__(self):
        return len(self.labels)

    def read(self, number):
        image = np.ascontiguousarray(self.pixels[number].permute(1, 2, 0).numpy())
        heatmap = None if self.lacking(number) else image[:, :, 0]
        return Sample(image, heatmap, int(self.labels[number]), self.responses[number])


def data(seed=1, count=COUNT, settings=SETTINGS, **values):
    return TrainingData(Images(seed, count, **values), settings)


def classifier(seed=0, network=None):
    """With everything that a state must hold: running statistics and a layer that draws random numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = network() if network else nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU(), nn.Dropout(0.2), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Linear(32, CLASSES),
        )  # fmt: skip
    return Classifier(network, Preprocessing(input_size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3))


def fit(tmp_path, recipe=None, seed=0, weights=0, identity="a", network=None, images=None, pictured=None, **values):
    settings = TrainSettings(**{**SETTINGS.model_dump(), **values})
    return Fit(
        classifier=classifier(weights, network),
        recipe=recipe or Baseline(Baseline.Settings(), settings.label_smoothing),
        data=TrainingData(images or Images(1), settings),
        validation=TrainingData(Images(2, 40), settings),
        settings=settings,
        seed=seed,
        identity=identity,
        state_file=tmp_path / "state.pt",
        world=World(),
        pictured=pictured,
        mixing=Mixing(settings, CLASSES) if settings.mixup or settings.cutmix else None,
    )


def state(trained):
    """All that was learned: of the network, and of its average where there is one."""
    return {name: value.clone() for name, value in [
        *trained.classifier.network.state_dict().items(),
        *((f"average {name}", value) for name, value in trained.result.state_dict().items()),
    ]}  # fmt: skip


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


class Watcher:
    """Keeps what it is told; does something (raises, unless told otherwise) at a given step or after a given epoch."""

    def __init__(self, stop_step=None, stop_epoch=None, look=lambda: None, act=None):
        self.steps, self.rows, self.seen, self.reports, self.pictures = [], [], [], [], []
        self.stop_step, self.stop_epoch, self.look, self.act = stop_step, stop_epoch, look, act or self._raise

    @staticmethod
    def _raise():
        raise KeyboardInterrupt

    def on_step(self, position):
        self.steps.append((position.step, position.steps))
        self.seen.append(self.look())
        if position.step == self.stop_step:
            self.act()

    def on_report(self, row):
        self.reports.append(row)

    def on_epoch(self, row):
        self.rows.append(row)
        if row["epoch"] == self.stop_epoch:
            self.act()

    def on_pictures(self, epoch, pictures):
        self.pictures.append((epoch, pictures))
