"""Studies of guided models in MLflow: a run for each verdict, and one for each model, to be grouped by arm or area."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from advalign import seals
from advalign.analysis.guidance.page import VERDICT
from advalign.files import Project, sha256
from advalign.models.checkpoints import read_card
from advalign.strict_settings import digest
from advalign.tracking.lineage import lineage_tags, training_params
from advalign.tracking.lost_files import put_back_artifacts
from advalign.tracking.registry.audit import MODEL
from advalign.tracking.results import Published, log_result
from advalign.tracking.store import RESULT, Store
from advalign.tracking.training_run import files_of
from advalign.workflows.guidance import Guidance

STUDY = "advalign.study"  # tag: name of the study
PROVENANCE = "advalign.responses"  # tag: measured, simulated or predicted
WHAT = ("arm", "role", "area", "subject", "seed")  # say what a model is; the other columns of models.csv are numbers


@dataclass(frozen=True)
class _Entry:
    """What a run is given; `files` are its artifacts, by their names there."""

    name: str
    result: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    files: Mapping[str, Path]


def judged_studies(project: Project) -> list[str]:
    """Names of the studies that have a verdict."""
    return sorted(path.parent.name for path in (project.root / "outputs" / "guidance").glob(f"*/{VERDICT}"))


def publish_guidance(project: Project, store: Store, name: str, done: Published) -> None:
    """Give a study and each of its models a run in `advalign/guidance` where it is missing.

    A model's metrics are the numbers of its row in models.csv (`accuracy`, `tolerance_l2`, ...). The study's are
    `NORM.ROLE.trend_p` (Page's test; the role is `area`, `shuffled` or `degraded`) and, of every comparison,
    `NORM.ARM.CONTROL` (difference of the mean minimum norms) with `_ci_low`, `_ci_high` and `_p` (Holm's).

    Raises:
        DataError: the study's verdict, or the card of one of its models, is missing or damaged.
    """
    study = Guidance(project.root, name)
    told = seals.read_json(study.folder / VERDICT, f"run `advalign guidance study {name}` again")
    shared = {STUDY: name, PROVENANCE: told["provenance"], **lineage_tags(project)}
    runs = store.find_runs("guidance", {STUDY: name}, finished=True)
    there = {run.data.tags.get(RESULT): run.info.run_id for run in runs}
    for entry in (_verdict(study, told), *_models(study, told["models"])):
        write = partial(_copy, entry.files)
        found = there.get(entry.result)
        mended = found is not None and put_back_artifacts(store, found, entry.files, write)
        done.note(f"guidance {entry.name}", found is None, mended)
        if found is None:
            with TemporaryDirectory() as folder:
                write(Path(folder))
                log_result(
                    store, "guidance", entry.name, {RESULT: entry.result, STUDY: name}, metrics=entry.metrics,
                    params=entry.params, tags={**shared, **entry.tags}, files=Path(folder),
                )  # fmt: skip


def _verdict(study: Guidance, told: Mapping[str, Any]) -> _Entry:
    files = {path.relative_to(study.folder).as_posix(): path for path in study.folder.rglob("*") if path.is_file()}
    metrics: dict[str, float | None] = {}
    tags: dict[str, str] = {}
    for norm, found in told["norms"].items():
        metrics |= {f"{norm}.{role}.trend_p": test["p"] for role, test in found["trends"].items()}
        tags |= {f"advalign.verdict.{norm}": " ".join(found["sentences"])}
        for one in found["compared"]:
            stem = f"{norm}.{one['arm']}.{one['against']}".replace(" ", "_")
            for ending, column in (("", "difference"), ("_ci_low", "low"), ("_ci_high", "high"), ("_p", "p_holm")):
                metrics[stem + ending] = one[column]
    return _Entry(study.name, sha256(study.folder / VERDICT), _known(metrics), {}, tags, files)


def _models(study: Guidance, rows: Iterable[Mapping[str, Any]]) -> Iterator[_Entry]:
    for row in rows:
        model = f"{row['arm']}.seed{row['seed']}"
        card = read_card(study.models / model)
        what = {name: str(row[name]) for name in WHAT}
        params = {**training_params(card.settings, card.architecture, card.recipe, card.seed), **what}
        tags = {MODEL: model, **{f"advalign.{name}": value for name, value in what.items() if value and name != "seed"}}
        metrics = {name: value for name, value in row.items() if name not in WHAT}
        files = {path.name: path for path in files_of(study.models / model)}
        yield _Entry(model, digest([study.name, card.weights_sha256, row]), _known(metrics), params, tags, files)


def _known(metrics: Mapping[Any, Any]) -> dict[str, float]:
    """Metrics without those that are unknown."""
    return {str(name): float(value) for name, value in metrics.items() if value is not None}


def _copy(files: Mapping[str, Path], into: Path) -> None:
    for name, path in files.items():
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, into / name)
