"""The training loop: steps, epochs, saved states, resuming. It knows no recipe: it calls one for a loss and steps."""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from advalign import seals
from advalign.data.batches import Batch, TrainingData, decoding
from advalign.errors import AdvalignError
from advalign.models.classifier import Classifier
from advalign.recipes.base import Position, Recipe
from advalign.settings import TrainSettings
from advalign.training.interruption import Interrupted, Interruption, interruptible
from advalign.training.meter import Meter, Row
from advalign.training.optimisation import Average, Mixing, create_optimiser, create_schedule
from advalign.training.pictures import Pictures, take_pictures
from advalign.training.speed import Speed
from advalign.training.world import World


class Observer(Protocol):
    """Watches a training: a progress bar, a tracking run."""

    def on_step(self, position: Position) -> None:
        """Called after every step."""

    def on_report(self, row: Row) -> None:
        """Called every few seconds: step, running_loss, learning_rate, and the values of `Speed.report`."""

    def on_epoch(self, row: Row) -> None:
        """Called after every epoch with its row of history (also for epochs restored from a saved state)."""

    def on_pictures(self, epoch: int, pictures: Pictures) -> None:
        """Called after some epochs with the saliency of a few images outside the training set."""


@dataclass
class Fit:
    """One running training.

    Attributes:
        classifier: is trained in place.
        recipe: batch -> loss.
        data, validation: the images to train on, and to measure accuracy on.
        settings: shared by all recipes.
        seed: of shuffling, augmentation and stochastic layers.
        identity: digest of everything the training depends on; a saved state of another identity is not resumed.
        state_file: the state is saved here after every epoch and every few minutes; the caller removes it when the
            result is on disk. A damaged state counts as none.
        world: the processes that train together.
        pictured: images with human maps for pictures of saliency.
    """

    classifier: Classifier
    recipe: Recipe
    data: TrainingData
    validation: TrainingData
    settings: TrainSettings
    seed: int
    identity: str
    state_file: Path
    world: World = field(default_factory=World)
    pictured: TrainingData | None = None
    mixing: Mixing | None = None

    def __post_init__(self) -> None:
        device = self.world.share.device
        self.layout = torch.channels_last if self.settings.channels_last else torch.contiguous_format
        self.classifier.to(device).to(memory_format=self.layout)
        self.learned = self._learned(device)
        self.optimiser = create_optimiser(self.classifier.network, self.settings, self.learned)
        self.schedule = create_schedule(self.optimiser, self.settings, self.data.batches)
        self.average = Average(self.classifier, self.settings.ema) if self.settings.ema else None
        if self.settings.compile:
            self.classifier.compile()
        self.model: nn.Module = self.classifier
        if not self.world.alone:
            self.model = DistributedDataParallel(self.classifier, broadcast_buffers=False)
        self.steps = self.settings.epochs * self.data.batches
        self.history: list[Row] = []
        self.done, self.meter = 0, Meter()  # of the current epoch
        self.saved = time.monotonic()
        self.speed = Speed(self.settings.batch_size, device)

    def _learned(self, device: torch.device) -> nn.ModuleDict:
        """The recipe's own parameters, inside the classifier: processes, the average and a state have them too."""
        size, kind = self.settings.size, next(self.classifier.network.parameters()).dtype
        images = torch.zeros(1, 3, size, size, dtype=kind, device=device)
        learned = self.recipe.learned(self.classifier, images, self.seed).to(device)
        if learned:
            self.classifier.add_module("learned", learned)
        return learned

    @property
    def result(self) -> nn.Module:
        """The weights that are evaluated and kept: the moving average, if there is one."""
        return self.average.module if self.average else self.classifier

    def run(self, observers: Iterable[Observer]) -> list[Row]:
        """Train from the saved state (or the beginning) to the end.

        Returns:
            One row per epoch: epoch, step, loss, the recipe's parts, train_accuracy, val_accuracy, learning_rate.

        Raises:
            AdvalignError: the loss or the gradient is no longer finite.
            Interrupted: SIGTERM came.
        """
        observers = list(observers)
        self._restore()
        for row in self.history:
            for observer in observers:
                observer.on_epoch(row)
        with interruptible() as interruption, decoding():
            while len(self.history) < self.settings.epochs:
                self._epoch(observers, interruption)
        self.result.eval()
        return self.history

    def _epoch(self, observers: list[Observer], interruption: Interruption) -> None:
        self.classifier.train()
        with closing(self.data.epoch(self.seed, len(self.history), self.world.share, self.done)) as loaded:
            self._steps(loaded, observers, interruption)  # its workers end before those of the validation start
        self._end_epoch(observers)

    def _steps(self, loaded: Iterator[Batch], observers: list[Observer], interruption: Interruption) -> None:
        self.speed.begin()
        batches = self.speed.watched(loaded)
        for number in range(self.done, self.data.batches):
            position = Position(len(self.history) * self.data.batches + number, self.steps, self.seed)
            try:
                loss = self._step(batches, position)
            except torch.OutOfMemoryError as error:
                raise AdvalignError(
                    f"{str(error).split('.')[0]}: raise train.accumulate, or lower train.batch_size"
                ) from None
            self.done = number + 1
            for observer in observers:
                observer.on_step(position)
            report = self.speed.report() if observers else None
            if report is not None:
                rates = {"running_loss": float(loss), "learning_rate": self.optimiser.param_groups[0]["lr"]}
                for observer in observers:
                    observer.on_report({"step": position.step + 1, **rates, **report})
            self._perhaps_save(interruption)

    def _end_epoch(self, observers: list[Observer]) -> None:
        epoch = len(self.history) + 1
        row = {
            "epoch": epoch,
            "step": epoch * self.data.batches,
            **self.meter.means(self.world),
            "val_accuracy": self._accuracy(),
            "learning_rate": float(self.optimiser.param_groups[0]["lr"]),
        }
        self.history.append(row)
        self.done, self.meter = 0, Meter()
        self._save()
        for observer in observers:
            observer.on_epoch(row)
        if observers and self.pictured and self.settings.pictures and epoch % self.settings.pictures == 0:
            pictures = take_pictures(self.result, self.pictured, self.world.share.device)
            for observer in observers:
                observer.on_pictures(epoch, pictures)

    def _step(self, batches: Iterator[Batch], position: Position) -> Tensor:
        """Gradients of the batch's parts, added up and averaged over processes; then a step of the optimiser."""
        share, parts = self.world.share, self.settings.accumulate
        self.world.share_buffers(self.classifier)
        self.optimiser.zero_grad(set_to_none=True)
        losses = []
        for part in range(parts):
            batch = next(batches)
            seed = ((self.seed * 1_000_003 + position.step) * share.ranks + share.rank) * parts + part
            torch.manual_seed(seed)  # of stochastic layers: a resumed training draws the same
            result = self._gradients(self.mixing(batch, seed) if self.mixing else batch, position, part == parts - 1)
            self.meter.add(result, batch.labels)
            losses.append(result["loss"].detach())
        loss = torch.stack(losses).mean()
        limit = self.settings.clip_norm or float("inf")
        self._check_finite(loss, nn.utils.clip_grad_norm_(self.classifier.parameters(), limit), position)
        self.optimiser.step()
        self.schedule.after(position.step)
        if self.average:
            self.average.after(self.classifier, position.step)
        return loss

    def _gradients(self, batch: Batch, position: Position, last: bool) -> dict[str, Tensor]:
        batch = replace(batch, images=batch.images.contiguous(memory_format=self.layout))
        model = self.model
        sent_later = model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext()
        with sent_later:
            half = self.settings.precision == "bfloat16"
            with torch.autocast(self.world.share.device.type, torch.bfloat16, enabled=half):
                result = self.recipe(model, batch, position)
            (result["loss"] / self.settings.accumulate).backward()  # type: ignore[no-untyped-call]
        return result

    def _check_finite(self, loss: Tensor, norm: Tensor, position: Position) -> None:
        """Check before the optimiser's step, so that the weights do not change.

        Both values are read at once, since a GPU must be waited for. Their sum over processes is not finite if any of
        them is not: all processes stop with the same error.
        """
        losses, norms = self.world.total(*torch.stack([loss, norm]).tolist())
        if math.isfinite(losses) and math.isfinite(norms):
            return
        what, value = ("gradient", norms) if math.isfinite(losses) else ("loss", losses)
        kept = f"the last good state is {self.state_file}" if self._saved_state() else "no state was saved yet"
        raise AdvalignError(f"the {what} became {value} at step {position.step + 1}: lower train.learning_rate; {kept}")

    @torch.no_grad()
    def _accuracy(self) -> float:
        self.world.share_buffers(self.result)
        self.result.eval()
        right = 0
        for batch in self.validation.all(self.world.share):
            right += int((self.result(batch.images).argmax(1) == batch.labels).sum())
        return self.world.total(right)[0] / len(self.validation)

    def _perhaps_save(self, interruption: Interruption) -> None:
        due = self.world.first and time.monotonic() - self.saved > 60 * self.settings.save_minutes
        stop, due = self.world.any(interruption.wanted, due)
        if stop or due:
            self._save()
        if stop:
            self.world.any(False)  # no process leaves before the first one has written
            step = len(self.history) * self.data.batches + self.done
            kept = f"the state is kept in {self.state_file}, and the same command resumes"
            raise Interrupted(f"SIGTERM after step {step} of {self.steps}: {kept}")

    def _save(self) -> None:
        meter = self.meter.state(self.world)
        self.saved = time.monotonic()
        if not self.world.first:
            return
        state = {
            "identity": self.identity,
            "network": self.classifier.network.state_dict(),
            "learned": self.learned.state_dict(),
            "average": self.average.module.state_dict() if self.average else None,
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "history": self.history,
            "done": self.done,
            "meter": meter,
            seals.KEY: seals.OPEN,
        }
        with seals.sealing(self.state_file) as temporary:
            torch.save(state, temporary)

    def _restore(self) -> None:
        state = self.world.from_first(self._saved_state)
        if state is None:
            return
        self.classifier.network.load_state_dict(state["network"])
        self.learned.load_state_dict(state["learned"])
        if self.average:
            self.average.module.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.history, self.done = state["history"], state["done"]
        if self.world.first:
            self.meter.load(state["meter"])

    def _saved_state(self) -> dict[str, Any] | None:
        """The state on disk, if it is whole and of this training."""
        if not self.state_file.is_file():
            return None
        if not seals.is_whole(self.state_file):
            seals.say_damaged(self.state_file, "the training begins anew")
            return None
        state: dict[str, Any] = torch.load(self.state_file, map_location="cpu", weights_only=True)
        return state if state.get("identity") == self.identity and "done" in state else None
