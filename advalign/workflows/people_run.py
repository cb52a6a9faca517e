"""The people behind the human maps as an MLflow run: cleaning, ceilings and floors, curve over participants."""

import json
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from advalign.data.human_maps.make import CLEANING, FILES, MEND, SUMMARY, need_maps
from advalign.files import Project, sha256, write_text
from advalign.provenance import data_md5
from advalign.seals import read_json
from advalign.strict_settings import digest
from advalign.tracking.lineage import lineage_tags
from advalign.tracking.lost_files import put_back_artifacts
from advalign.tracking.results import Published, log_result
from advalign.tracking.store import RESULT, Store

TABLE = "cleaning_table.json"  # artifact: the steps of cleaning in the UI's format for tables
COUNTS = ("human_ceiling", "images", "participants", "trials", "above_floor")


def publish_people(project: Project, store: Store, done: Published) -> None:
    """Give what stage `maps` found of the participants a run in `advalign/maps` where it is missing, once per digest.

    Its metrics are `human_ceiling` (mean split-half Spearman correlation), `images`, `participants` and `trials` after
    cleaning, `above_floor` (images), `suspicious` (participants), `dropped.STEP` (trials), and mean and interval of
    each column of each measure (`spearman_ceiling`, `auc_floor_ci_low`, ...).

    Without participants there is no run.

    Raises:
        DataError: a file in outputs/maps is missing or damaged.
    """
    folder = need_maps(project)
    summary, cleaning = (read_json(folder / name, MEND) for name in (SUMMARY, CLEANING))
    if not cleaning["steps"]:  # no trials were there
        return
    key = {RESULT: digest({name: sha256(folder / name) for name in FILES})}
    found = store.find_runs("maps", key, finished=True)
    write = partial(_collect, folder)
    mended = bool(found) and put_back_artifacts(store, found[0].info.run_id, [*FILES, TABLE], write)
    done.note("human maps", not found, mended)
    if found:
        return
    with TemporaryDirectory() as name:
        write(Path(name))
        log_result(
            store,
            "maps",
            "human maps",
            key,
            metrics=dict(_metrics(summary, cleaning)),
            tags={
                "settings.sha256": str(summary["settings_sha256"]),
                **lineage_tags(project),
                "dvc.data.md5": data_md5(project.root) or "",
                "mlflow.loggedArtifacts": json.dumps([{"path": TABLE, "type": "table"}]),  # for the UI
            },
            files=Path(name),
        )


def _metrics(summary: Mapping[str, Any], cleaning: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Names and values of a run's metrics; what is unknown has none."""
    values = {name: summary[name] for name in COUNTS}
    values["suspicious"] = len(cleaning["suspicious"])
    for step in cleaning["steps"]:
        values[f"dropped.{step['step'].replace(' ', '_')}"] = step["trials_before"] - step["trials_after"]
    for measure, columns in summary["measures"].items():
        for column, told in columns.items():
            for part, value in told.items():
                values[f"{measure}_{column}" if part == "mean" else f"{measure}_{column}_{part}"] = value
    yield from ((name, float(value)) for name, value in values.items() if value is not None)


def _collect(folder: Path, into: Path) -> None:
    """Write a run's artifacts into a folder: the files of outputs/maps, and cleaning as the UI's table."""
    for name in FILES:
        shutil.copy(folder / name, into)
    steps = read_json(folder / CLEANING, MEND)["steps"]
    columns = list(steps[0]) if steps else []
    rows = [[", ".join(value) if isinstance(value, list) else value for value in step.values()] for step in steps]
    write_text(into / TABLE, json.dumps({"columns": columns, "data": rows}))
