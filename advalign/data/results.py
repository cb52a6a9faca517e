"""The files of an evaluation: rows, pictured perturbations, and their summary.

```
outputs/evaluations/PROTOCOL/NAME.parquet, NAME.json, gallery/NAME.safetensors
outputs/evaluations/PROTOCOL/shards/NAME/    finished parts of a model that is being evaluated
outputs/evaluations/PROTOCOL/failed/NAME.json
```

A protocol that was only run as a companion of others (`predictions`) has rows and no summary of its own.

Every file is sealed (`advalign.seals`) and says what it belongs to: rows and gallery carry the identity of the inputs
that they were computed from, a summary the digest of its rows. A file that is damaged, or of other inputs, counts as
missing: it is computed again.
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from advalign import seals
from advalign.errors import InputError
from advalign.files import Project, sha256
from advalign.names import check_name

SCHEMA_VERSION = 1  # of rows
SUMMARY_VERSION = 3
IDENTITY, PROBE, SOURCES, TOLD = "advalign.inputs_sha256", "advalign.probe", "advalign.sources_sha256", "advalign"
TRIAL = re.compile(r"\.first(\d+)$")  # end of a trial's folder, with its number of items


@dataclass(frozen=True)
class Paths:
    """The files of one model under one protocol."""

    folder: Path
    name: str

    @property
    def protocol(self) -> str:
        """The protocol's name."""
        return TRIAL.sub("", self.folder.name)

    @property
    def mend(self) -> str:
        """What to do where one of the files is damaged, for messages."""
        trial = TRIAL.search(self.folder.name)
        limit = f" --limit {trial[1]}" if trial else ""
        return f"run `advalign evaluate {self.name} --protocol {self.protocol}{limit}` again, or remove it"

    @property
    def rows(self) -> Path:
        """One row per item; written last: a model with this file is finished."""
        return self.folder / f"{self.name}.parquet"

    @property
    def failure(self) -> Path:
        """Why the last evaluation of the model failed, or left it out; absent if it did not."""
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

    def rows_under(self, protocol_name: str) -> Path:
        """The model's rows under this folder's protocol, or a companion of it; a trial has folders of its own."""
        trial = self.folder.name.removeprefix(self.protocol)
        return self.folder.parent / f"{protocol_name}{trial}" / self.rows.name

    def is_damaged(self, summarised: Mapping[str, Any]) -> bool:
        """Whether the rows changed after they were summarised; they are then computed again, which is said.

        Args:
            summarised: inputs_sha256 and rows_sha256, as a summary has them; empty: not summarised yet.
        """
        if not summarised or stored_identity(self.rows) != summarised.get("inputs_sha256"):
            return False
        if sha256(self.rows) == summarised.get("rows_sha256"):
            return False
        seals.say_damaged(self.rows, "it is computed again")
        return True

    def remove(self) -> None:
        """Remove all of them."""
        for path in (self.rows, self.gallery, self.summary, self.failure):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.shards, ignore_errors=True)


def read_summaries(project: Project, protocol_name: str) -> list[dict[str, Any]]:
    """Read the summaries of all models evaluated under a protocol, sorted by name.

    Raises:
        InputError: there are none, or the protocol's name is not a name.
        Damaged: one of them is.
    """
    folder = project.evaluations / check_name(protocol_name, "protocol")
    summaries = [read_summary(Paths(folder, path.stem)) for path in sorted(folder.glob("*.json"))]
    if not summaries:
        others = sorted({path.parent.name for path in project.evaluations.glob("*/*.json")})
        there = f", only under {', '.join(others)} (--protocol)" if others else ""
        raise InputError(
            f"nothing is evaluated under protocol {protocol_name!r} yet{there}: run `advalign evaluate` first"
        )
    return summaries


def read_summary(paths: Paths) -> dict[str, Any]:
    """Read a model's summary.

    Raises:
        Damaged: it is, or it is another model's or protocol's, or of an earlier version.
        OSError: it cannot be read.
    """
    found = seals.read_json(paths.summary, paths.mend)
    if (found.get("model"), found.get("protocol")) != (paths.name, paths.protocol):
        told = f"{found.get('model')} under {found.get('protocol')}"
        raise seals.Damaged(f"{paths.summary} is of {told}: {paths.mend}")
    if found.get("version") != SUMMARY_VERSION:
        raise seals.Damaged(f"{paths.summary} is of an earlier advalign: {paths.mend}")
    return found


def read_gallery(paths: Paths) -> dict[int, Tensor]:
    """Read a model's kept tensors, by position in the image set.

    Raises:
        Damaged: they are, or they do not belong to the rows.
        OSError: they cannot be read.
    """
    seals.need_whole(paths.gallery, paths.mend)
    if stored_identity(paths.gallery) != stored_identity(paths.rows):
        raise seals.Damaged(f"{paths.gallery} does not belong to the rows: {paths.mend}")
    return read_kept(paths.gallery)


def stored_identity(path: Path) -> str | None:
    """The identity of the inputs that a table or tensors were computed from; None where the file is missing or damaged.

    A damaged file is computed again, which is said.

    Args:
        path: of a .parquet or .safetensors file.
    """
    if not path.is_file():
        return None
    if seals.is_whole(path):
        return _metadata(path).get(IDENTITY)
    seals.say_damaged(path, "it is computed again")
    return None


def stored_sources(path: Path) -> str:
    """Digest of the data that a table was made from; empty where it does not say."""
    return _metadata(path).get(SOURCES, "")


def stored_probe(path: Path) -> str | None:
    """Name of the probe that a table's metadata says its rows are of; None where it does not say."""
    try:
        return _metadata(path).get(PROBE)
    except (OSError, pa.ArrowInvalid):
        return None


def _metadata(path: Path) -> Mapping[str, str]:
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            told: dict[str, str] = json.loads((file.metadata() or {}).get(TOLD, "{}"))
            return told
    found = pq.read_schema(path).metadata or {}
    return {name.decode(): value.decode(errors="replace") for name, value in found.items()}


def read_rows(path: Path) -> pd.DataFrame:
    """Read a table that `write_table` wrote.

    Raises:
        Damaged: its content is not what was written.
        OSError: it cannot be read.
    """
    return pd.read_parquet(seals.need_whole(path, Paths(path.parent, path.stem).mend))


def write_table(path: Path, table: pd.DataFrame, identity: str, probe: str = "", sources: str = "") -> None:
    """Write a sealed parquet file; its metadata have the schema's version, the identity, the probe and the sources."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    told = {"advalign.schema_version": str(SCHEMA_VERSION), IDENTITY: identity, PROBE: probe, SOURCES: sources}
    told[seals.KEY] = seals.OPEN
    metadata = {**(arrow.schema.metadata or {}), **{name.encode(): value.encode() for name, value in told.items()}}
    with seals.sealing(path) as temporary:
        pq.write_table(arrow.replace_schema_metadata(metadata), temporary)


def read_kept(path: Path) -> dict[int, Tensor]:
    """Read tensors that `write_kept` wrote, by position in the image set.

    Raises:
        Damaged: their content is not what was written.
        OSError: they cannot be read.
    """
    with safe_open(seals.need_whole(path, Paths(path.parent.parent, path.stem).mend), "pt") as file:
        return {int(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping


def write_kept(path: Path, kept: Mapping[int, Tensor], identity: str) -> None:
    """Write tensors by position in the image set, with the identity of their inputs."""
    write_tensors(path, {str(position): tensor.contiguous() for position, tensor in sorted(kept.items())}, identity)


def write_tensors(path: Path, tensors: dict[str, Tensor], identity: str) -> None:
    """Write a sealed safetensors file, with the identity of the inputs that the tensors were computed from."""
    told = json.dumps({IDENTITY: identity, seals.KEY: seals.OPEN})  # one entry: safetensors writes them in any order
    with seals.sealing(path) as temporary:
        save_file(tensors, temporary, {TOLD: told})
