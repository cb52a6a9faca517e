"""Finished parts of a model's evaluation on disk; a killed run resumes from them."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from advalign.data.results import read_kept, read_rows, stored_identity, write_kept, write_table
from advalign.evaluation.tasks import Task
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
        """The task's result; None unless it is on disk, whole, and of this identity and these members."""
        rows, kept = self._files(task)
        wanted = self._identity(task)
        if stored_identity(rows) != wanted or (self.keeps and stored_identity(kept) != wanted):
            return None
        try:
            return Measured(read_rows(rows), read_kept(kept) if self.keeps else {})
        except FileNotFoundError:  # another process has finished the model meanwhile, and cleared the folder
            return None

    def save(self, task: Task, result: Measured) -> None:
        """Write a result, the rows last: a result with rows is complete.

        Another process may finish the same model and clear the folder meanwhile: then the result is written once more.
        """
        with suppress(FileNotFoundError):
            self._save(task, result)
            if all(file.is_file() for file in self._files(task)[: 1 + self.keeps]):
                return
        self._save(task, result)

    def _save(self, task: Task, result: Measured) -> None:
        rows, kept = self._files(task)
        if self.keeps:
            write_kept(kept, result.kept, self._identity(task))
        write_table(rows, result.rows, self._identity(task))

    def clear(self) -> None:
        """Remove all parts, whatever their identity."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _identity(self, task: Task) -> str:
        return f"{self.identity} {task.first} {task.last}"

    def _files(self, task: Task) -> tuple[Path, Path]:
        """Of rows and of tensors."""
        rows = self.folder / f"{task.first:06d}-{task.last:06d}.parquet"
        return rows, rows.with_suffix(".safetensors")
