"""Statistics of a whole batch whose images several processes share."""

import torch
import torch.distributed as dist
from torch import Tensor


def gathered(own: Tensor) -> Tensor:
    """The rows of all processes, by rank; only those of this process have a gradient.

    Args:
        own: (N, ...), as many rows in every process.
    """
    if not _several():
        return own
    value = own.detach().contiguous()
    sent = value.to(torch.uint8) if value.dtype == torch.bool else value
    parts = [torch.empty_like(sent) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, sent)
    found = [part.to(own.dtype) for part in parts]
    found[dist.get_rank()] = own
    return torch.cat(found)


def of_all(value: Tensor) -> Tensor:
    """A value computed from `gathered` rows, with a gradient that the mean over processes makes whole.

    Each process differentiates by its own rows alone, so its gradient is one summand, and not one of equal estimates.
    """
    if not _several():
        return value
    return value + (dist.get_world_size() - 1) * (value - value.detach())


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
