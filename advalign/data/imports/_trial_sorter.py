"""Trials in any order -> sorted by image, in bounded memory: sorted runs in a nameless file, merged by ranges."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from advalign.data.participants import CATCH, MOBILE, PARTICIPANT, ROW, X, Y

NUMBER = "number"
SCHEMA = pa.schema(
    [
        (NUMBER, pa.int32()),  # of the image, in the order that is sorted by
        (PARTICIPANT, pa.string()),
        (X, pa.list_(pa.float32())),
        (Y, pa.list_(pa.float32())),
        (CATCH, pa.float32()),
        (MOBILE, pa.bool_()),
        (ROW, pa.int64()),
    ]
)
RUN = 48 << 20  # bytes that are sorted at once
PIECE = 1024  # trials of a run that are read at once
RANGE = 12 << 20  # bytes, about, that come out at once: a row group of trials.parquet
PER_TRIAL, PER_CLICK = 48, 8  # bytes, about


@dataclass(frozen=True)
class _Piece:
    """Where some sorted trials are in the file, and the first and last image that they are of."""

    offset: int
    size: int
    first: int
    last: int


class TrialSorter:
    """Takes trials, and gives them sorted by image and then by the order in which they came."""

    def __init__(self, scratch: IO[bytes], images: int) -> None:
        """Begin without trials.

        Args:
            scratch: an empty file to write to and read from; it needs the space of all trials.
            images: how many there are: numbers are below.
        """
        self._scratch = scratch
        self._held: list[pa.RecordBatch] = []
        self._pieces: list[_Piece] = []
        self.trials = np.zeros(images, np.int64)
        """(images,) how many trials each image has."""
        self.clicks = np.zeros(images, np.int64)
        """(images,) how many clicks each image has."""

    def add(self, batch: pa.RecordBatch) -> None:
        """Take trials in the columns of `SCHEMA`."""
        numbers = _numbers(batch)
        self.trials += np.bincount(numbers, minlength=len(self.trials))
        counts = batch.column(X).value_lengths().to_numpy(zero_copy_only=False)
        self.clicks += np.bincount(numbers, counts, minlength=len(self.clicks)).astype(np.int64)
        self._held.append(batch)
        if sum(one.nbytes for one in self._held) > RUN:
            self._write_run()

    def _write_run(self) -> None:
        held, self._held = _sorted(self._held), []
        numbers = _numbers(held)
        for first in range(0, held.num_rows, PIECE):
            part = numbers[first : first + PIECE]
            content = held.slice(first, PIECE).serialize()
            offset = self._scratch.tell()
            self._scratch.write(content)
            self._pieces.append(_Piece(offset, content.size, int(part[0]), int(part[-1])))

    def sorted(self) -> Iterator[pa.RecordBatch]:
        """All trials in order, some images at once; no image is in two batches."""
        if self._held:
            self._write_run()
        self._scratch.flush()
        sizes = np.cumsum(self.trials * PER_TRIAL + self.clicks * PER_CLICK)
        ranges = sizes // RANGE
        bounds = np.flatnonzero(np.diff(ranges, prepend=-1))
        for first, last in zip(bounds, [*(bounds[1:] - 1), len(sizes) - 1], strict=True):
            parts = [self._read(piece, int(first), int(last)) for piece in self._pieces if piece.last >= first]
            parts = [part for part in parts if part is not None]
            if parts:
                yield _sorted(parts)

    def _read(self, piece: _Piece, first: int, last: int) -> pa.RecordBatch | None:
        """The trials of a piece whose image is in first .. last."""
        if piece.first > last:
            return None
        content = os.pread(self._scratch.fileno(), piece.size, piece.offset)
        batch = pa.ipc.read_record_batch(pa.py_buffer(content), SCHEMA)
        low, high = np.searchsorted(_numbers(batch), [first, last + 1])
        return batch.slice(low, high - low) if high > low else None


def _numbers(batch: pa.RecordBatch) -> NDArray[np.int32]:
    numbers: NDArray[np.int32] = batch.column(NUMBER).to_numpy()
    return numbers


def _sorted(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    together = pa.concat_batches(batches)
    return together.take(pa.array(np.argsort(_numbers(together), kind="stable")))
