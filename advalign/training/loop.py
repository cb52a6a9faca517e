"""The training loop: optimiser, schedule, epochs, resuming. It knows no recipe: it asks for a loss and steps."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from advalign.data.batches import Batch, TrainingData
from advalign.errors import AdvalignError
from advalign.files import replacing
from advalign.models.classifier import Classifier
from advalign.models.zoo import parameter_groups
from advalign.recipes.base import Position, Recipe
from advalign.settings import TrainSettings

Row = dict[str, float]


class Observer(Protocol):
    """Who watches a training: a progress bar, a tracking run."""

    def on_step(self, position: Position) -> None:
        """Called after every step."""

    def on_epoch(self, row: Row) -> None:
        """Called after every epoch with its row of history (also for epochs restored from a saved state)."""


@dataclass
class Fit:
    """One training under way.

    Attributes:
        classifier: is trained in place.
        recipe: batch -> loss.
        data, validation: training split and the split on which accuracy is watched.
        settings: shared by all recipes.
        seed: of shuffling, augmentation and stochastic layers.
        identity: digest of everything the training depends on; a saved state of another identity is not resumed.
        state_file: where the state is kept after every epoch; removed by the caller when the result is safe.
    """

    classifier: Classifier
    recipe: Recipe
    data: TrainingData
    validation: TrainingData
    settings: TrainSettings
    seed: int
    identity: str
    state_file: Path
    device: torch.device

    def __post_init__(self) -> None:
        self.classifier.to(self.device)
        self.steps = self.settings.epochs * self.data.batches(self.settings.batch_size)
        groups = parameter_groups(self.classifier.network, self.settings.weight_decay)
        self.optimiser = torch.optim.AdamW(groups, lr=self.settings.learning_rate)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser,
            self.settings.learning_rate,
            total_steps=self.steps,
            pct_start=self.settings.warmup * (1 + 1e-6),  # it divides by zero where this comes to exactly one step
            div_factor=10,
            final_div_factor=100,
        )
        self.history: list[Row] = []

    def run(self, observers: Iterable[Observer]) -> list[Row]:
        """Train from where the saved state stands (or the beginning) to the end.

        Returns:
            One row per epoch: epoch, step, loss, the recipe's parts, train_accuracy, val_accuracy, learning_rate.

        Raises:
            AdvalignError: the loss is no longer finite.
        """
        observers = list(observers)
        self._restore()
        for row in self.history:
            for observer in observers:
                observer.on_epoch(row)
        for epoch in range(len(self.history), self.settings.epochs):
            row = self._epoch(epoch, observers)
            self.history.append(row)
            self._save()
            for observer in observers:
                observer.on_epoch(row)
        self.classifier.eval()
        return self.history

    def _epoch(self, epoch: int, observers: list[Observer]) -> Row:
        torch.manual_seed(self.seed * 100_003 + epoch)
        self.classifier.train()
        meter = _Meter()
        per_epoch = self.data.batches(self.settings.batch_size)
        batches = self.data.epoch(self.settings.batch_size, self.settings.shift, self.seed, epoch)
        for number, batch in enumerate(batches):
            position = Position(epoch * per_epoch + number, self.steps)
            meter.add(self._step(batch.to(self.device), position), batch.labels)
            for observer in observers:
                observer.on_step(position)
        return {
            "epoch": epoch + 1,
            "step": (epoch + 1) * per_epoch,
            **meter.means(),
            "val_accuracy": self._accuracy(),
            "learning_rate": float(self.schedule.get_last_lr()[0]),
        }

    def _step(self, batch: Batch, position: Position) -> dict[str, Tensor]:
        result = self.recipe(self.classifier, batch, position)
        loss = result["loss"]
        self._check_finite("loss", loss, position)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.classifier.parameters(), self.settings.clip_norm)
        self._check_finite("gradient", norm, position)
        self.optimiser.step()
        self.schedule.step()
        return {name: value.detach() for name, value in result.items()}

    def _check_finite(self, what: str, value: Tensor, position: Position) -> None:
        if not torch.isfinite(value):
            raise AdvalignError(
                f"the {what} became {value.item()} at step {position.step + 1}: lower train.learning_rate; "
                f"the last good state is {self.state_file}"
            )

    @torch.no_grad()
    def _accuracy(self) -> float:
        self.classifier.eval()
        right = 0
        for batch in self.validation.all(256):
            batch = batch.to(self.device)
            right += int((self.classifier(batch.images).argmax(1) == batch.labels).sum())
        return right / len(self.validation)

    def _save(self) -> None:
        state = {
            "identity": self.identity,
            "network": self.classifier.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "history": self.history,
        }
        with replacing(self.state_file) as temporary:
            torch.save(state, temporary)

    def _restore(self) -> None:
        if not self.state_file.is_file():
            return
        state: dict[str, Any] = torch.load(self.state_file, map_location=self.device, weights_only=True)
        if state["identity"] != self.identity:
            return  # of another training under the same name: begin anew
        self.classifier.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.history = state["history"]


class _Meter:
    """Means of a recipe's scalars and of the training accuracy over an epoch."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self.right = self.seen = 0

    def add(self, result: dict[str, Tensor], labels: Tensor) -> None:
        """Take one step's result."""
        self.right += int((result["logits"].argmax(1).cpu() == labels).sum())
        self.seen += len(labels)
        for name, value in result.items():
            if name != "logits":
                self.values.setdefault(name, []).append(float(value))

    def means(self) -> Row:
        """One number per scalar, over the steps that had it."""
        means = {name: sum(values) / len(values) for name, values in self.values.items()}
        return {**means, "train_accuracy": self.right / max(self.seen, 1)}
