"""Batch normalisation over the batch of all processes, on any device, differentiable any number of times.

torch.nn.SyncBatchNorm runs on GPUs only and has no second derivative, which the map term needs. Without synchronised
statistics, the gradient of a harmonized or robust step of two processes with 8 images each is 90 % away from that of
one process with all 16 (docs/lab-notes.md).
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from advalign.errors import InputError

VOUCHED = {
    "torch.nn.modules.batchnorm.BatchNorm2d": (),
    "timm.layers.norm_act.BatchNormAct2d": ("drop", "act"),  # by name: this module knows no timm
}
"""Classes whose forward is batch normalisation and then these children. Exact classes: a subclass may override anything
that this swap would lose."""


class SumOverRanks(torch.autograd.Function):
    """Sum of a tensor over the ranks of the default process group; every rank gets it.

    Its gradient is itself. A rank's backward then gives the gradient of the *sum* of all ranks' losses with respect to
    what that rank holds. So no factor is needed anywhere: DistributedDataParallel divides the sum of these gradients by
    the number of ranks, which is the gradient of the mean of the ranks' losses with respect to the shared weights; and
    an input gradient of a target summed over images (the saliency) is that of the sum over the whole batch, as it is.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """Any shape, the same on all ranks."""
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Through its own `apply`, so that it can be differentiated again."""
        result: Tensor = SumOverRanks.apply(gradients[0])
        return result


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d whose training statistics are those of the batches of all ranks of the default process group.

    Arguments, parameters and buffers are nn.BatchNorm2d's. In evaluation mode, without a process group, or alone in it,
    so is the result, bit for bit. Otherwise all ranks must run it, and differentiate it, equally often and in the same
    order; their batches may differ in size, even be empty. Then DistributedDataParallel's averaged gradient is that of
    the mean over ranks of their losses, which is the loss of the whole batch if each is the mean of as many images.
    """

    then: tuple[str, ...] = ()  # children that the class it was swapped in for calls on the normalised batch

    def forward(self, input: Tensor) -> Tensor:
        """Normalise.

        Args:
            input: (N, C, H, W); under autocast of lower precision than the statistics, which are float32.

        Returns:
            (N, C, H, W) of the input's dtype.

        Raises:
            ValueError: not four dimensions, or (nn.BatchNorm2d's) one value per channel in training.
        """
        output = self._synced(input) if self.training and _world_size() > 1 else super().forward(input)
        for child in self.then:
            output = getattr(self, child)(output)
        return output

    def _synced(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        own_mean, centred, own_squares = _own_moments(values)
        mean, squares, count = _combined(own_mean, own_squares, values.numel() // values.shape[1])
        self._track(mean.detach(), squares.detach() / (count - 1).clamp(min=1))
        scale = (squares / count + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shift = (own_mean - mean) * scale
        if self.bias is not None:
            shift = shift + self.bias
        # Of the batch's size only `centred` is kept for the backward, as nn.BatchNorm2d keeps its input.
        return torch.addcmul(_per_channel(shift), centred, _per_channel(scale)).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        share = self.momentum or 0.0
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.mul_(1 - share).add_(mean, alpha=share)
        self.running_var.mul_(1 - share).add_(unbiased_variance, alpha=share)


def synchronise_batch_norms(network: nn.Module) -> None:
    """Replace, in place, every batch norm by its synchronised form; parameters, buffers, keys and hooks do not change.

    Args:
        network: with torch's BatchNorm2d and timm's BatchNormAct2d; synchronised ones are left alone.

    Raises:
        InputError: there is a batch norm of another class; nothing has been replaced.
    """
    norms = [(name, module) for name, module in network.named_modules() if _is_batch_norm(module)]
    for name, module in norms:
        if _class_name(module) not in VOUCHED or "forward" in vars(module):
            known = " and ".join(one.rpartition(".")[2] for one in VOUCHED)
            raise InputError(
                f"layer {name!r} is a {_class_name(module)}, whose batch statistics cannot be synchronised over "
                f"processes (only {known} as they are): train in one process, or build the network with one of these"
            )
    for _, module in norms:
        then = VOUCHED[_class_name(module)]
        module.__class__ = SyncedBatchNorm2d  # not a new module: optimisers and hooks may hold this one
        module.then = then


def _own_moments(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """This rank's mean (C,), values less that mean (N, C, H, W), and the sum of their squares (C,)."""
    mean = values.sum((0, 2, 3)) / max(values.numel() // values.shape[1], 1)
    centred = values - _per_channel(mean)
    return mean, centred, centred.square().sum((0, 2, 3))


def _combined(own_mean: Tensor, own_squares: Tensor, own_count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), sum of squares about it (C,) and number of values () over all ranks.

    Each rank's moments go into its row of a table of zeros, and the sum of the tables is every rank's moments: one
    all-reduce per pass, exact in any order of summation, so running statistics cannot drift apart. From the rows,
    squares about the whole mean are squares about the ranks' means plus those means' squares about the whole (Chan et
    al.): no difference of large numbers, as mean square minus squared mean is where a mean exceeds its spread.
    """
    rank, ranks = dist.get_rank(), _world_size()
    row = torch.cat([own_mean.new_full((1,), own_count), own_mean, own_squares])
    table = F.pad(row, (rank * len(row), (ranks - 1 - rank) * len(row)))
    rows: Tensor = SumOverRanks.apply(table).view(ranks, -1)
    counts, (means, squares) = rows[:, :1].detach(), rows[:, 1:].chunk(2, 1)
    count = counts.sum()
    mean = (means * (counts / count)).sum(0)
    return mean, (squares + counts * (means - mean).square()).sum(0), count


def _is_batch_norm(module: nn.Module) -> bool:
    """Whether a layer keeps running statistics, whatever its class, and is not synchronised yet."""
    keeps = getattr(module, "running_var", None) is not None
    return (keeps or isinstance(module, _BatchNorm)) and type(module) is not SyncedBatchNorm2d


def _per_channel(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1)


def _class_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
