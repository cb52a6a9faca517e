"""Registered predictors of responses: a run, and a version of `predictor.NAME`, per predictor by its card's SHA-256."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow.entities.model_registry import ModelVersion

from advalign.errors import CheckFailed, DataError
from advalign.files import Project, sha256
from advalign.models.checkpoints import CARD
from advalign.models.predictors import IMAGES, PREDICTOR, PredictorCard, read_predictor_card, registered_name
from advalign.tracking.lineage import LINEAGE, lineage_tags
from advalign.tracking.registry.packaging import active, log_packed, new_version
from advalign.tracking.registry.registered import PREDICTOR_TAG, download, label_of, versions_of
from advalign.tracking.results import log_result
from advalign.tracking.store import RESULT, Store

RUN_FILES = (PREDICTOR, IMAGES, CARD)
"""Files of a predictor that its run has."""


def predictor_run(project: Project, store: Store, card: PredictorCard, folder: Path) -> tuple[str, bool]:
    """The finished run of a predictor, in the MLflow experiment of trainings, and whether it was made now."""
    key = {RESULT: sha256(folder / PREDICTOR), "advalign.predictor": card.name}
    found = store.find_runs("train", key, finished=True)
    if found:
        return found[0].info.run_id, False
    numbers = {
        name: getattr(card, name) for name in ("explained", "over_ceiling", "noise_ceiling", "fitted", "held_out")
    }
    facts = ("backbone", "architecture", "layer", "responses", "roi", "subject", "units", "seed")
    tags = {**lineage_tags(project), "advalign.provenance": card.provenance}
    if card.git_commit is not None:
        tags |= {"git.commit": card.git_commit, "git.dirty": str(card.git_dirty)}
    with TemporaryDirectory() as into:
        copy_files(folder, Path(into))
        made = log_result(
            store,
            "train",
            registered_name(card.name),
            key,
            metrics={name: float(value) for name, value in numbers.items() if value is not None},
            params={name: str(getattr(card, name)) for name in facts},
            tags=tags,
            files=Path(into),
        )
    return made, True


def copy_files(folder: Path, into: Path) -> None:
    """Copy the files of a predictor that its run has."""
    for name in RUN_FILES:
        shutil.copyfile(folder / name, into / name)


def find_predictor(store: Store, name: str, digest: str) -> ModelVersion | None:
    """The version of `predictor.NAME` whose card has this SHA-256; None if there is none."""
    found = versions_of(store, registered_name(name))
    return next((version for version in found if version.tags.get(PREDICTOR_TAG) == digest), None)


def register_predictor(
    store: Store, card: PredictorCard, folder: Path, run_id: str, *, candidate: bool = True
) -> ModelVersion:
    """Make a predictor a version of its registered model.

    Args:
        store: opened tracking store.
        card, folder: the predictor.
        run_id: of its run, whose lineage the version gets.
        candidate: whether the version gets the alias `candidate`.
    """
    with active(run_id):
        logged = log_packed(card, folder)
    of_run = store.client.get_run(run_id).data.tags
    tags = {
        PREDICTOR_TAG: sha256(folder / PREDICTOR),
        "advalign.inputs_sha256": card.inputs_sha256,
        "advalign.architecture": card.architecture,
        "advalign.provenance": card.provenance,
        **{name: of_run[name] for name in LINEAGE if name in of_run},
    }
    name = registered_name(card.name)
    version = new_version(store.client, name, logged, run_id, tags, _description(card, run_id))
    if candidate:
        store.client.set_registered_model_alias(name, "candidate", version.version)
    return version


def fetch_predictor(version: ModelVersion, into: Path, store: Store) -> tuple[PredictorCard, Path]:
    """Bring a version's predictor to this machine, and check that it is the one that was registered.

    Raises:
        InputError: its files are missing or cannot be fetched.
        CheckFailed: they have been changed since.
    """
    folder = download(version, into, store)
    try:
        card = read_predictor_card(folder)
    except DataError as error:
        raise CheckFailed(f"{label_of(version)}: {error}") from None
    if sha256(folder / PREDICTOR) != version.tags[PREDICTOR_TAG]:
        raise CheckFailed(f"{label_of(version)}: the stored {PREDICTOR} was changed: register the predictor again")
    return card, folder


def _description(card: PredictorCard, run_id: str) -> str:
    """The model card of a version, in Markdown."""
    ceiling = "unknown" if card.over_ceiling is None else f"{card.over_ceiling:.3f}"
    facts = {
        "responses": f"`{card.responses}`, {card.provenance}, SHA-256 `{card.responses_sha256}`",
        "area": f"`{card.roi}` of subject `{card.subject}`, {card.units} units",
        "network": f"`{card.backbone}` (`{card.architecture}`), layer `{card.layer or 'penultimate'}`",
        "images": f"fitted to {card.fitted}, held out {card.held_out}",
        "explained variance": f"{card.explained:.3f}, over the ceiling {ceiling}",
        "run": f"`{run_id}`",
    }
    told = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    name = registered_name(card.name)
    return f"# {name}\n\n{told}\n\nInput: images; load with `mlflow.pyfunc.load_model` (`models:/{name}@ALIAS`).\n"
