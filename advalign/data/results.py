"""The files of an evaluation: rows, predictions, pictured perturbations, and the summary that is made from them.

```
outputs/evaluations/PROTOCOL/NAME.parquet, NAME.json, gallery/NAME.safetensors
outputs/evaluations/PROTOCOL/shards/NAME/    what is finished of a model that is under way
outputs/evaluations/PROTOCOL/failed/NAME.json
outputs/evaluations/predictions/NAME.parquet, shards/NAME/    of validation images: no protocol changes them
```
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from advalign.errors import InputError
from advalign.files import Project, replacing, sha256
from advalign.names import check_name

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Paths:
    """The files of one model under one protocol."""

    folder: Path
    name: str

    @property
    def rows(self) -> Path:
        """One row per stimulus; written last: a model with this file is finished."""
        return self.folder / f"{self.name}.parquet"

    @property
    def predictions(self) -> Path:
        """One row per validation image; shared by all protocols."""
        return self.folder.parent / "predictions" / f"{self.name}.parquet"

    @property
    def failure(self) -> Path:
        """Why the last attempt at the model failed; not there otherwise."""
        return self.folder / "failed" / f"{self.name}.json"

    def shards(self, kind: str) -> Path:
        """Finished parts ("stimuli" or "images") of a model that is under way."""
        return (self.folder if kind == "stimuli" else self.predictions.parent) / "shards" / self.name

    @property
    def gallery(self) -> Path:
        """Perturbations of the gallery's stimuli: {position: (3, H, W)}."""
        return self.folder / "gallery" / f"{self.name}.safetensors"

    @property
    def summary(self) -> Path:
        """The model's metrics and what they were made from."""
        return self.folder / f"{self.name}.json"

    def is_damaged(self) -> bool:
        """Whether the rows are not those that were summarised."""
        try:
            summary = json.loads(self.summary.read_text())
        except (OSError, ValueError):
            return False  # not summarised yet
        described = stored_identity(self.rows) == summary.get("inputs_sha256")
        return bool(described and sha256(self.rows) != summary.get("rows_sha256"))

    def remove(self) -> None:
        """Remove all of them that belong to the protocol."""
        for path in (self.rows, self.gallery, self.summary, self.failure):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.shards("stimuli"), ignore_errors=True)


def read_summaries(project: Project, protocol_name: str) -> list[dict[str, Any]]:
    """Read the summaries of all models evaluated under a protocol, sorted by name.

    Raises:
        InputError: there are none, or it is the name of no protocol.
    """
    folder = project.evaluations / check_name(protocol_name, "protocol")
    summaries = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    if not summaries:
        others = sorted({path.parent.name for path in project.evaluations.glob("*/*.json")})
        there = f", only under {', '.join(others)} (--protocol)" if others else ""
        raise InputError(
            f"nothing is evaluated under protocol {protocol_name!r} yet{there}: run `advalign evaluate` first"
        )
    return summaries


def stored_identity(path: Path) -> str | None:
    """The identity in a table's metadata; None where there is no readable table."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return None
    return metadata.get(b"advalign.inputs_sha256", b"").decode(errors="replace") or None


def write_table(path: Path, table: pd.DataFrame, identity: str) -> None:
    """Write a parquet file in one move, with the schema's version and the rows' identity in its metadata."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    metadata = {
        **(arrow.schema.metadata or {}),
        b"advalign.schema_version": str(SCHEMA_VERSION).encode(),
        b"advalign.inputs_sha256": identity.encode(),
    }
    with replacing(path) as temporary:
        pq.write_table(arrow.replace_schema_metadata(metadata), temporary)
