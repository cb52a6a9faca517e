"""The processes of a training: one, or as many as `torchrun` started, each with its own device."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn

from advalign.data.batches import Share
from advalign.errors import AdvalignError, InputError, quoted

Made = TypeVar("Made")


def is_first() -> bool:
    """Whether this is the process that writes, logs and prints; always true without `torchrun`."""
    return int(os.environ.get("RANK", "0")) == 0


@dataclass(frozen=True)
class World:
    """This process among those that train together.

    Attributes:
        share: rank, number of processes, device.
    """

    share: Share = field(default_factory=Share)

    @property
    def first(self) -> bool:
        """Whether this process writes and reports."""
        return self.share.rank == 0

    @property
    def alone(self) -> bool:
        """Whether this is the only process."""
        return self.share.ranks == 1

    def from_first(self, make: Callable[[], Made]) -> Made:
        """The first process's result, given to all; an AdvalignError that it raises is raised by all.

        Raises:
            AdvalignError: the first process raised it.
        """
        if self.alone:
            return make()
        made: list[Made | AdvalignError | None] = [None]
        if self.first:
            try:
                made = [make()]
            except AdvalignError as error:
                made = [error]
        dist.broadcast_object_list(made)
        if isinstance(made[0], AdvalignError):
            raise made[0]
        return cast(Made, made[0])

    def from_first_alone(self, make: Callable[[], Iterable[Made]]) -> list[Made]:
        """The first process's result; an empty list in the others. An AdvalignError that it raises is raised by all."""
        made: list[Made] = []
        self.from_first(lambda: made.extend(make()))
        return made

    def any(self, *flags: bool) -> list[bool]:
        """Each flag: whether it is true in any process."""
        return [bool(flag) for flag in flags] if self.alone else [total > 0 for total in self.total(*flags)]

    def total(self, *numbers: float) -> list[float]:
        """Each number, added up over the processes."""
        if self.alone:
            return list(numbers)
        totals = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(totals)
        return [float(total) for total in totals]

    def all(self, value: Made) -> list[Made]:
        """Every process's value, by rank."""
        if self.alone:
            return [value]
        values: list[Made] = [value] * self.share.ranks
        dist.all_gather_object(values, value)
        return values

    def share_buffers(self, module: nn.Module) -> None:
        """Give all processes the first one's buffers (running statistics), which a saved state holds."""
        buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
        if self.alone or not buffers:
            return
        flat = torch.cat([buffer.detach().flatten().float() for buffer in buffers])
        dist.broadcast(flat, 0)
        parts = torch.split(flat, [buffer.numel() for buffer in buffers])
        for buffer, part in zip(buffers, parts, strict=True):
            buffer.copy_(part.view_as(buffer))


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that `torchrun` started with this one, if it did; leave them at the end.

    The processes can join only once: a command that needs them several times joins around all of it, and inner blocks
    find them joined.

    Args:
        device: "auto", "cpu", "cuda", ...: of several processes each takes the GPU of its local rank.

    Raises:
        InputError: the device cannot be used.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several and device in ("auto", "cuda") and torch.cuda.is_available():
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    chosen = choose_device(device)
    if chosen.type == "cuda" and chosen.index is not None:  # "cuda" alone is the current one
        torch.cuda.set_device(chosen)
    if not several:
        yield World(Share(device=chosen))
        return
    if dist.is_initialized():
        yield World(Share(dist.get_rank(), dist.get_world_size(), chosen))
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield World(Share(dist.get_rank(), dist.get_world_size(), chosen))
    finally:
        dist.destroy_process_group()


def choose_device(name: str) -> torch.device:
    """Resolve "auto" to the GPU if there is one.

    Raises:
        InputError: not a device, or not available here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} cannot be used here: {quoted(error)}") from None
    return device
