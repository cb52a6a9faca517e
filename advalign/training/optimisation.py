"""Optimisers, schedules, weight averages and mixing of images, through timm."""

import warnings
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from timm.data.mixup import Mixup
from timm.optim._optim_factory import create_optimizer_v2, list_optimizers
from timm.scheduler.scheduler_factory import create_scheduler_v2
from timm.utils.model_ema import ModelEmaV3
from torch import nn
from torch.optim import Optimizer

from advalign.data.batches import Batch
from advalign.errors import InputError, unknown_name
from advalign.settings import TrainSettings


class _Trained(nn.Module):
    """A network and a recipe's own parameters, as timm looks at them."""

    def __init__(self, network: nn.Module, learned: nn.Module) -> None:
        super().__init__()
        self.network, self.learned = network, learned

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that the network does not want to be decayed."""
        names: set[str] = getattr(self.network, "no_weight_decay", set)()
        return {f"network.{name}" for name in names}


def create_optimiser(network: nn.Module, settings: TrainSettings, learned: nn.ModuleDict | None = None) -> Optimizer:
    """timm's optimiser of a name; norm and bias parameters are not decayed.

    Args:
        network: is trained.
        settings: optimiser, learning_rate, weight_decay.
        learned: a recipe's own parameters, trained with the network.

    Raises:
        InputError: timm has none of that name (offers the nearest), or it needs a package that is not installed.
    """
    known = [str(name) for name in list_optimizers()]
    if settings.optimiser not in known:
        raise unknown_name("optimiser", settings.optimiser, known)
    try:
        optimiser: Optimizer = create_optimizer_v2(
            _Trained(network, learned) if learned else network,
            settings.optimiser,
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
    except (AssertionError, ImportError, RuntimeError) as error:
        raise InputError(f"train.optimiser {settings.optimiser!r} cannot be used here: {error}") from None
    if getattr(optimiser, "is_second_order", False):
        why = "it differentiates twice by itself, choose another"
        raise InputError(f"train.optimiser {settings.optimiser!r} cannot be used here: {why}")
    return optimiser


class Schedule(Protocol):
    """The learning rate over the steps."""

    def after(self, step: int) -> None:
        """Set the rate for the step that follows `step` (from 0)."""

    def state_dict(self) -> dict[str, Any]:
        """Its part of a saved state."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a saved state."""


class OneCycle:
    """PyTorch's one-cycle policy, which timm does not have: the rate rises from a tenth, and falls to a thousandth."""

    def __init__(self, optimiser: Optimizer, settings: TrainSettings, per_epoch: int) -> None:
        self.inner = torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            settings.learning_rate,
            total_steps=settings.epochs * per_epoch,
            pct_start=settings.warmup * (1 + 1e-6),  # it divides by zero where this comes to exactly one step
            div_factor=10,
            final_div_factor=100,
            cycle_momentum=bool({"momentum", "betas"} & set(optimiser.defaults)),
        )

    def after(self, step: int) -> None:
        """It counts by itself."""
        self.inner.step()

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's."""
        return dict(self.inner.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """PyTorch's."""
        self.inner.load_state_dict(state)


class TimmSchedule:
    """timm's cosine, or its steps of a tenth; both rise linearly at first. The rate depends on the step alone."""

    def __init__(self, optimiser: Optimizer, settings: TrainSettings, per_epoch: int) -> None:
        self.inner, _ = create_scheduler_v2(
            optimiser,
            settings.schedule,
            num_epochs=settings.epochs,
            decay_epochs=settings.decay_epochs,
            decay_rate=0.1,
            warmup_lr=settings.learning_rate / 1000,
            warmup_epochs=settings.warmup * settings.epochs,  # type: ignore[arg-type]  # a share of one is as good
            step_on_epochs=False,
            updates_per_epoch=per_epoch,
        )
        self.inner.step_update(0)

    def after(self, step: int) -> None:
        """Set the rate by the number of steps done."""
        self.inner.step_update(step + 1)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the rate depends on the step, and is itself in the optimiser's state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load."""


def create_schedule(optimiser: Optimizer, settings: TrainSettings, per_epoch: int) -> Schedule:
    """The schedule that the settings name, for epochs of `per_epoch` steps."""
    kind = OneCycle if settings.schedule == "onecycle" else TimmSchedule
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of PyTorch, on momentum of optimisers that have none
        return kind(optimiser, settings, per_epoch)


class Average:
    """Exponential moving average of a module's weights and buffers, whose decay grows from 0 at the start (timm)."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.inner = ModelEmaV3(module, decay=decay, use_warmup=True)
        self.module: nn.Module = self.inner.module.requires_grad_(False)

    def after(self, module: nn.Module, step: int) -> None:
        """Take the weights after a step (from 0)."""
        self.inner.update(module, step + 1)


class Mixing:
    """timm's mixup and cutmix, of images and maps alike: a mixed image has a map where both of its images have one."""

    def __init__(self, settings: TrainSettings, classes: int) -> None:
        self.inner = Mixup(settings.mixup, settings.cutmix, label_smoothing=0.0, num_classes=classes)  # type: ignore[no-untyped-call]

    def __call__(self, batch: Batch, seed: int) -> Batch:
        """The batch with each image mixed with its opposite in the batch; the recipe smooths labels."""
        state = np.random.get_state()
        np.random.seed(seed % 2**32)
        both = torch.cat([batch.images, batch.heatmaps[:, None]], 1)
        try:
            mixed, mixture = self.inner(both, batch.labels)
        finally:
            np.random.set_state(state)
        has_both = batch.has_heatmap & batch.has_heatmap.flip(0)
        return replace(
            batch,
            images=mixed[:, :3].contiguous(),
            heatmaps=mixed[:, 3],
            has_heatmap=has_both,
            mixture=mixture.to(batch.images),
        )
