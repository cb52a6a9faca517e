"""How many passes tasks under way have made: counted in the processes that run them, read by the one that shows it.

Each process counts in a cell of its own: nothing is locked, so nobody waits for a process that was killed.
"""

from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager

from torch import nn

_cells: MutableSequence[int] = [0]
_own, _most = 0, 0


def share(cells: MutableSequence[int], own: int = 0) -> None:
    """Count in, and read, memory that several processes share.

    Args:
        cells: one for each process that runs tasks.
        own: number of this process's cell.
    """
    global _cells, _own
    _cells, _own = cells, own


def under_way() -> int:
    """Passes (images, each time that the model sees them) of all tasks under way, none more than it is expected to."""
    return sum(_cells)


@contextmanager
def counted(model: nn.Module, expected: int) -> Iterator[None]:
    """Count the passes of a model and of its copies while a task runs.

    Args:
        model: its copies that are made in the block are counted too.
        expected: passes; no more are counted.
    """
    global _most
    _most, _cells[_own] = expected, 0
    hook = model.register_forward_hook(_count)
    try:
        yield
    finally:
        hook.remove()
        _cells[_own] = 0


def _count(_: nn.Module, inputs: tuple[object, ...], __: object) -> None:
    _cells[_own] = min(_most, _cells[_own] + len(inputs[0]))  # type: ignore[arg-type]
