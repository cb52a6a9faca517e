"""Publishing: log all results on disk in the tracking store. Publishing twice changes nothing.

DVC does not run an unchanged stage, so a stage cannot log its results in a new store. Instead, runs and versions are
made from the results on disk, identified by (model, digest).
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from advalign.analysis.comparison_files import read_comparison
from advalign.analysis.drawing import save
from advalign.analysis.gallery import gallery_beside, gallery_figure
from advalign.analysis.standing import group_of
from advalign.data.results import Paths, read_gallery, read_rows, read_summary
from advalign.data.sets.base import ImageSet
from advalign.errors import CheckFailed, DataError
from advalign.evaluation.summaries import Outdated, checked_metrics
from advalign.evaluation.tasks import open_set
from advalign.files import Project, sha256, write_text
from advalign.models.checkpoints import CARD, need_weights, read_card
from advalign.models.declared import Zoo, read_zoo
from advalign.models.predictors import predictor_folders
from advalign.progress import say
from advalign.settings import load_settings
from advalign.strict_settings import digest
from advalign.tracking.lineage import LINEAGE, lineage_tags
from advalign.tracking.locks import exclusive
from advalign.tracking.lost_files import put_back_artifacts, put_back_version
from advalign.tracking.registry.model_card import RUN
from advalign.tracking.registry.registered import (
    Version,
    checkpoint_folders,
    find_version,
    note_evaluation,
    register,
)
from advalign.tracking.registry.restoring import restore_decisions
from advalign.tracking.results import PURPOSE, Dataset, Published, log_result
from advalign.tracking.store import RESULT, Store, StoreDown, store_errors
from advalign.tracking.training_run import checkpoint_run, files_of
from advalign.vocabulary import short_name
from advalign.workflows.guidance_run import judged_studies, publish_guidance
from advalign.workflows.people_run import publish_people
from advalign.workflows.publish_predictors import publish_predictor

LONG_NAME = "advalign.metric."  # before a metric's long name: tag with its value
TABLE = "stimuli.json"  # artifact: an evaluation's rows in the UI's format for tables


def publish_all(project: Project, store: Store, on_item: Callable[[str], None] = lambda _: None) -> Published:
    """Publish all results under outputs/, and restore decisions that the store lost.

    Results are what is known of participants, every checkpoint, predictor, evaluation, comparison and study of guided
    models.

    Args:
        project: owner of the outputs.
        store: opened tracking store.
        on_item: called with the name of each result before it is published.

    Returns:
        What was created; results that are damaged are left out, and say why.
    """
    done = Published()
    if project.human_maps.is_dir():
        on_item("human maps")
        with _leaving_out(done), store_errors(store.uri), exclusive(store.uri, PURPOSE):
            publish_people(project, store, done)
    for folder in checkpoint_folders(project):
        on_item(folder.name)
        with _leaving_out(done):
            publish_checkpoint(project, store, folder, done)
    for folder in predictor_folders(project):
        on_item(f"predictor {folder.name}")
        with _leaving_out(done):
            publish_predictor(project, store, folder, done)
    sets: dict[str, ImageSet] = {}
    for summary in sorted(project.evaluations.glob("*/*.json")):
        on_item(f"{summary.parent.name}/{summary.stem}")
        with _leaving_out(done):
            name = read_summary(Paths(summary.parent, summary.stem))["image_set"]
            sets[name] = sets.get(name) or open_set(name, project)
            publish_evaluation(project, store, summary, sets[name], done)
    if (project.comparison / "statistics.json").exists():
        on_item("comparison")
        with _leaving_out(done), store_errors(store.uri), exclusive(store.uri, PURPOSE):
            _publish_comparison(project, store, done)
    for name in judged_studies(project):
        on_item(f"guidance/{name}")
        with _leaving_out(done), store_errors(store.uri), exclusive(store.uri, PURPOSE):
            publish_guidance(project, store, name, done)
    with store_errors(store.uri):
        restore_decisions(project, store, done)
    return done


@contextmanager
def _leaving_out(done: Published) -> Iterator[None]:
    """Note a result that is damaged or contradicts itself; the others are still published."""
    try:
        yield
    except StoreDown:
        raise
    except Outdated as error:  # nothing is wrong with it, and nothing of it is left to publish
        say(str(error))
    except (DataError, CheckFailed) as error:
        done.left_out.append(str(error))


def publish_checkpoint(project: Project, store: Store, folder: Path, done: Published) -> Version:
    """Give a checkpoint a finished training run and a registered version where they are missing.

    Raises:
        StoreDown: the store does not answer, or refuses.
    """
    card = read_card(folder)
    need_weights(folder, card)
    with store_errors(store.uri), exclusive(store.uri, PURPOSE):
        run_id, new = checkpoint_run(project, store, card, folder)
        files = files_of(folder)
        names = [file.name for file in files]
        mended = not new and put_back_artifacts(store, run_id, names, partial(_copy, files, folder))
        done.note(f"run {card.name}", new, mended)
        version = find_version(store, card.name, card.weights_sha256, sha256(folder / CARD))
        mended = version is not None and put_back_version(store, version, card, folder)
        done.note(f"version {card.name}", version is None, mended)
        if version is None:
            trained = store.client.get_run(run_id).data.tags
            tags = {name: trained[name] for name in LINEAGE if name in trained}
            tags |= {"dvc.data.md5": card.data_md5} if card.data_md5 else {}
            version = register(store, card, folder, run_id, tags)
    return version


def propose(store: Store, version: Version) -> None:
    """Make a version the candidate of its model.

    Raises:
        StoreDown: the store does not answer, or refuses.
    """
    with store_errors(store.uri):
        store.client.set_registered_model_alias(version.name, "candidate", version.version)


def publish_evaluation(
    project: Project, store: Store, summary_file: Path, image_set: ImageSet, done: Published
) -> None:
    """Give a model's evaluation a run with metrics, rows, pictures, dataset and lineage where it is missing.

    Raises:
        StoreDown: the store does not answer, or refuses.
    """
    summary = read_summary(Paths(summary_file.parent, summary_file.stem))
    label = summary_file.parent.name  # the protocol; of a trial (--limit) also how many stimuli: "fmn-fast.first6"
    what = {"advalign.model": summary["model"], "advalign.protocol": label}
    key = {RESULT: sha256(summary_file), **what}
    with store_errors(store.uri), exclusive(store.uri, PURPOSE):
        runs = store.find_runs("evaluate", what, finished=True)
        found = [run for run in runs if run.data.tags.get(RESULT) == key[RESULT]]
        if found and found[0].info.run_id != runs[0].info.run_id:
            store.make_newest("evaluate", found[0])  # what lies on disk counts, whatever was published since
        run_id = (
            found[0].info.run_id if found else _evaluation_run(project, store, summary_file, summary, image_set, key)
        )
        mended = bool(found) and _put_back_evaluation(project, store, run_id, summary_file, summary, image_set)
        done.note(f"evaluation {summary['model']} ({label})", not found, mended)
        version = find_version(store, summary["model"], summary["weights_sha256"], summary["card_sha256"])
        if version is not None and version.tags.get(store.named(label) + RUN) != run_id:
            note_evaluation(store, version, label, store.client.get_run(run_id))


def _evaluation_run(
    project: Project,
    store: Store,
    summary_file: Path,
    summary: dict[str, Any],
    image_set: ImageSet,
    key: dict[str, str],
) -> str:
    data_md5 = str(summary.get("data_md5") or "")  # at the evaluation, not at the publishing
    evaluate = load_settings(project.root).evaluate
    paths = Paths(summary_file.parent, summary_file.stem)
    metrics = checked_metrics(summary, paths.rows_under, evaluate)
    known = {name: value for name, value in metrics.items() if value is not None}
    tags = {
        **_long_names(known),
        "advalign.recipe": summary["recipe"],
        "advalign.flags": ",".join(summary["flags"]) or "none",
        "advalign.group": group_of(summary, _zoo(project.zoo, project.zoo.stat().st_mtime_ns)),
        "advalign.stimuli_sha256": summary["stimuli_sha256"],
        "settings.sha256": summary["protocol_sha256"],
        **{f"advalign.{key}": str(value) for key, value in summary.get("about", {}).items()},
        **lineage_tags(project),
        "dvc.data.md5": data_md5,
        "mlflow.loggedArtifacts": json.dumps([{"path": TABLE, "type": "table"}]),  # for the UI
    }
    same = image_set.digest == summary["stimuli_sha256"]  # otherwise the set has changed since the evaluation
    context = {"mlflow.data.context": "evaluation", "dvc.data.md5": data_md5}
    with TemporaryDirectory() as folder:  # one request per file, without listing first
        _collect(Path(folder), paths, summary["companions"], image_set if same else None)
        return log_result(
            store,
            "evaluate",
            summary["model"],
            key,
            metrics={short_name(name): value for name, value in known.items()},
            params={name: str(summary[name]) for name in ("model", "architecture", "recipe", "protocol", "n_stimuli")},
            tags=tags,
            files=Path(folder),
            dataset=Dataset(summary["image_set"], image_set.listing(), image_set.digest, context) if same else None,
        )


def _put_back_evaluation(
    project: Project, store: Store, run_id: str, summary_file: Path, summary: dict[str, Any], image_set: ImageSet
) -> bool:
    """Log an evaluation's files again where the store has lost them; whether it had."""
    paths, companions = Paths(summary_file.parent, summary_file.stem), summary["companions"]
    names = [paths.rows.name, summary_file.name, TABLE, *(f"{name}/{paths.rows.name}" for name in companions)]

    def make(folder: Path) -> None:
        checked_metrics(summary, paths.rows_under, load_settings(project.root).evaluate)
        same = image_set.digest == summary["stimuli_sha256"]
        _collect(folder, paths, companions, image_set if same else None)

    return put_back_artifacts(store, run_id, names, make)


def _long_names(metrics: Mapping[str, float]) -> dict[str, str]:
    """Tags with the metrics that advalign 0.1 logged under long names; to be removed in the next release."""
    renamed = {name: value for name, value in metrics.items() if short_name(name) != name and "." not in name}
    return {f"{LONG_NAME}{name}": str(value) for name, value in renamed.items()}


@lru_cache(maxsize=1)
def _zoo(path: Path, changed: int) -> Zoo:
    """The zoo, read once as long as its file does not change (`changed`)."""
    return read_zoo(path)


def _collect(folder: Path, paths: Paths, companions: Iterable[str], image_set: ImageSet | None) -> None:
    """Write a run's artifacts into a folder: rows (for programs, and as the UI's table), summary, picture.

    The table lacks features and responses: thousands of numbers for each image, which nobody reads there.
    The rows of companions are in folders of their own, so that every number of the summary can be computed again.
    """
    for path in (paths.rows, paths.summary):
        shutil.copy(path, folder)
    for name in companions:
        (folder / name).mkdir()
        shutil.copy(paths.rows_under(name), folder / name)
    rows = read_rows(paths.rows)
    first = {name: next(iter(rows[name].dropna()), None) for name in rows}
    vectors = [name for name, value in first.items() if getattr(value, "dtype", None) == "float32"]
    write_text(folder / TABLE, rows.drop(columns=vectors).to_json(orient="split", index=False))
    kept = read_gallery(paths) if paths.gallery.is_file() else {}
    if kept and image_set is not None and (shown := gallery_beside(image_set, {paths.name: kept})) is not None:
        figure = gallery_figure(shown.images, shown.heatmaps, shown.perturbations, shown.names)
        save(figure, folder / "gallery.png")


def _copy(files: Iterable[Path], folder: Path, into: Path) -> None:
    """Copy files of a folder into another one, with the folders between."""
    for file in files:
        place = into / file.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)


def _publish_comparison(project: Project, store: Store, done: Published) -> None:
    _, statistics = read_comparison(project.comparison)
    files = [path for path in sorted(project.comparison.rglob("*")) if path.is_file()]
    key = {RESULT: digest([sha256(path) for path in files if path.suffix in (".csv", ".json")])}
    found = store.find_runs("compare", key, finished=True)
    mended = bool(found) and put_back_artifacts(
        store,
        found[0].info.run_id,
        [path.relative_to(project.comparison).as_posix() for path in files],
        partial(_copy, files, project.comparison),
    )
    done.note("comparison", not found, mended)
    if found:
        return
    metrics = {f"rho_{entry['x']}_{entry['y']}": entry.get("rho") for entry in statistics["correlations"]}
    log_result(
        store,
        "compare",
        "comparison",
        key,
        metrics={name: value for name, value in metrics.items() if value is not None},
        tags={"advalign.protocol": str(statistics["protocol"]), **lineage_tags(project)},
        files=project.comparison,
    )
