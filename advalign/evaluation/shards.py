"""Finished parts of a model's evaluation on disk: a run that is killed continues from them."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file, save_file

from advalign.data.results import stored_identity, write_table
from advalign.evaluation.tasks import ShardResult, Task
from advalign.files import replacing


@dataclass(frozen=True)
class Shards:
    """The parts of one kind of one model.

    Attributes:
        folder: theirs alone.
        identity: of what they were made from; parts of another identity do not count.
    """

    folder: Path
    identity: str

    def load(self, task: Task) -> ShardResult | None:
        """The task's result, where it is there, whole and of this identity."""
        rows = self._rows(task)
        if stored_identity(rows) != self.identity:
            return None
        try:
            gallery = load_file(rows.with_suffix(".safetensors")) if task.kind == "stimuli" else {}
            return ShardResult(pd.read_parquet(rows), {int(name): delta for name, delta in gallery.items()})
        except Exception:  # noqa: BLE001  damaged files raise whatever they like; the part is made again
            return None

    def save(self, task: Task, result: ShardResult) -> None:
        """Write a result, the rows last: with them it counts.

        Another process may finish the same model and clear the folder meanwhile: then it is written once more.
        """
        try:
            self._save(task, result)
        except FileNotFoundError:
            self._save(task, result)

    def _save(self, task: Task, result: ShardResult) -> None:
        rows = self._rows(task)
        if task.kind == "stimuli":
            with replacing(rows.with_suffix(".safetensors")) as temporary:
                save_file({str(at): delta.contiguous() for at, delta in result.gallery.items()}, temporary)
        write_table(rows, result.rows, self.identity)

    def clear(self) -> None:
        """Remove all parts, of whatever identity."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _rows(self, task: Task) -> Path:
        return self.folder / f"{task.kind}-{task.first:06d}-{task.last:06d}.parquet"
