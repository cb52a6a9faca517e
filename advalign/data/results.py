"""The files of an evaluation: rows, pictured perturbations, and their summary.

```
outputs/evaluations/PROTOCOL/NAME.parquet, NAME.json, gallery/NAME.safetensors
outputs/evaluations/PROTOCOL/shards/NAME/    finished parts of a model that is being evaluated
outputs/evaluations/PROTOCOL/failed/NAME.json
```

A protocol that was only run as a companion of others (`predictions`) has rows and no summary of its own.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from advalign.errors import InputError
from advalign.files import Project, replacing, sha256
from advalign.names import check_name
from advalign.strict_files import read_json

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Paths:
    """The files of one model under one protocol."""

    folder: Path
    name: str

    @property
    def rows(self) -> Path:
        """One row per item; written last: a model with this file is finished."""
        return self.folder / f"{self.name}.parquet"

    @property
    def failure(self) -> Path:
        """Why the last evaluation of the model failed; absent if it did not."""
        return self.folder / "failed" / f"{self.name}.json"

    @property
    def shards(self) -> Path:
        """Finished parts of a model that is being evaluated."""
        return self.folder / "shards" / self.name

    @property
    def gallery(self) -> Path:
        """What is kept of the gallery's items: {position: (3, H, W)}, perturbations."""
        return self.folder / "gallery" / f"{self.name}.safetensors"

    @property
    def summary(self) -> Path:
        """The model's metrics and the digests of what they were computed from."""
        return self.folder / f"{self.name}.json"

    def is_damaged(self, summarised: Mapping[str, Any] | None) -> bool:
        """Whether the rows changed after they were summarised.

        Args:
            summarised: inputs_sha256 and rows_sha256, as a summary has them; None: not summarised yet.
        """
        if summarised is None or stored_identity(self.rows) != summarised.get("inputs_sha256"):
            return False
        return sha256(self.rows) != summarised.get("rows_sha256")

    def remove(self) -> None:
        """Remove all of them."""
        for path in (self.rows, self.gallery, self.summary, self.failure):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.shards, ignore_errors=True)


def read_summaries(project: Project, protocol_name: str) -> list[dict[str, Any]]:
    """Read the summaries of all models evaluated under a protocol, sorted by name.

    Raises:
        InputError: there are none, or the protocol's name is not a name.
    """
    folder = project.evaluations / check_name(protocol_name, "protocol")
    summaries = [read_json(path) for path in sorted(folder.glob("*.json"))]
    if not summaries:
        others = sorted({path.parent.name for path in project.evaluations.glob("*/*.json")})
        there = f", only under {', '.join(others)} (--protocol)" if others else ""
        raise InputError(
            f"nothing is evaluated under protocol {protocol_name!r} yet{there}: run `advalign evaluate` first"
        )
    return summaries


def stored_identity(path: Path) -> str | None:
    """The identity in a table's metadata; None where there is no readable table."""
    return _stored(path, b"advalign.inputs_sha256")


def stored_probe(path: Path) -> str | None:
    """Name of the probe that a table's metadata says its rows are of; None where it does not say."""
    return _stored(path, b"advalign.probe")


def _stored(path: Path, key: bytes) -> str | None:
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return None
    return metadata.get(key, b"").decode(errors="replace") or None


def read_rows(path: Path) -> pd.DataFrame:
    """Read a table that `write_table` wrote; every page is checked against its CRC.

    Raises:
        OSError, ArrowInvalid: it is missing or damaged.
    """
    return pd.read_parquet(path, page_checksum_verification=True)


def write_table(path: Path, table: pd.DataFrame, identity: str, probe: str = "") -> None:
    """Write a parquet file in one move, with the schema's version, the rows' identity and probe in its metadata."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    metadata = {
        **(arrow.schema.metadata or {}),
        b"advalign.schema_version": str(SCHEMA_VERSION).encode(),
        b"advalign.inputs_sha256": identity.encode(),
        **({b"advalign.probe": probe.encode()} if probe else {}),
    }
    with replacing(path) as temporary:
        pq.write_table(arrow.replace_schema_metadata(metadata), temporary, write_page_checksum=True)
