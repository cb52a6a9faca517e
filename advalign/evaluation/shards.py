"""Finished parts of a model's evaluation on disk; a killed run resumes from them."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file

from advalign.data.results import read_rows, stored_identity, write_table
from advalign.evaluation.tasks import Task
from advalign.files import replacing
from advalign.probes.base import Measured


@dataclass(frozen=True)
class Shards:
    """The parts of one model under one protocol.

    Attributes:
        folder: holds nothing but these parts.
        identity: digest of the inputs and code; parts with another identity are ignored.
        keeps: whether the parts include tensors.
    """

    folder: Path
    identity: str
    keeps: bool

    def load(self, task: Task) -> Measured | None:
        """The task's result; None unless it is on disk, complete and of this identity."""
        rows = self._rows(task)
        if stored_identity(rows) != self.identity:
            return None
        try:
            kept = load_file(rows.with_suffix(".safetensors")) if self.keeps else {}
            return Measured(read_rows(rows), {int(name): tensor for name, tensor in kept.items()})
        except Exception:  # noqa: BLE001  damaged files raise whatever they like; the part is made again
            return None

    def save(self, task: Task, result: Measured) -> None:
        """Write a result, the rows last: a result with rows is complete.

        Another process may finish the same model and clear the folder meanwhile: then the result is written once more.
        """
        try:
            self._save(task, result)
        except FileNotFoundError:
            self._save(task, result)

    def _save(self, task: Task, result: Measured) -> None:
        rows = self._rows(task)
        if self.keeps:
            with replacing(rows.with_suffix(".safetensors")) as temporary:
                save_file({str(at): tensor.contiguous() for at, tensor in result.kept.items()}, temporary)
        write_table(rows, result.rows, self.identity)

    def clear(self) -> None:
        """Remove all parts, whatever their identity."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _rows(self, task: Task) -> Path:
        return self.folder / f"{task.first:06d}-{task.last:06d}.parquet"
