"""Registered models: one version per checkpoint, its tags and card, and loading it as a torch module."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from advalign.errors import CheckFailed, InputError, quoted, unknown_name
from advalign.files import Project, sha256
from advalign.models.checkpoints import CARD, WEIGHTS, Card
from advalign.names import Reference, check_name, is_name
from advalign.tracking.registry.model_card import (
    DECISION,
    RESULT,
    ROLLBACK,
    RUN,
    complete,
    evaluations,
    first_part,
    headlines,
    number,
)
from advalign.tracking.registry.packaging import active, log_packed, new_version
from advalign.tracking.store import PAGE, Store, every, experiment_of
from advalign.tracking.store import RESULT as RESULT_TAG

MOST_VERSIONS = 10_000  # of one model
CARD_TAG = "advalign.card_sha256"
WEIGHTS_TAG = "advalign.weights_sha256"
PREDICTOR_TAG = "advalign.predictor_sha256"  # of the card of a predictor, which has none of the other two
Version = ModelVersion
"""A registered version of MLflow: name, version (its number), tags, run_id."""


def label_of(version: ModelVersion) -> str:
    """Name of a version in messages."""
    return f"{version.name} version {version.version}"


def model_id_of(version: ModelVersion) -> str:
    """MLflow's logged model that holds a version's files."""
    return str(version.source).removeprefix("models:/")


def versions_of(store: Store, name: str) -> list[ModelVersion]:
    """All versions of a registered model, newest first; none where there is no such model."""
    found = store.client.search_model_versions(f"name = '{check_name(name)}'", max_results=MOST_VERSIONS)
    return sorted(found, key=lambda version: -int(version.version))


def find_version(store: Store, name: str, weights_sha256: str, card_sha256: str) -> ModelVersion | None:
    """The version of a model that holds exactly these weights under this card; None if there is none.

    The same weights with another normalisation or licence are another version.
    """
    wanted = {WEIGHTS_TAG: weights_sha256, CARD_TAG: card_sha256}.items()
    return next((version for version in versions_of(store, name) if wanted <= version.tags.items()), None)


def find_model(store: Store, name: str) -> RegisteredModel:
    """A registered model, with its aliases.

    Raises:
        InputError: no such model (offers the nearest).
    """
    try:
        return store.client.get_registered_model(check_name(name))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        known = [model.name for model in all_models(store)]
        told = unknown_name("registered model", name, known)
        raise InputError(f"{told}; `advalign publish` registers trained models") from None


def candidate(store: Store, name: str) -> ModelVersion:
    """The candidate of a model; where it is another experiment's, the newest version of this one, if any.

    Raises:
        InputError: no such model, or a model without a candidate.
    """
    held = resolve(store, Reference(name, alias="candidate"))
    own = [one for one in (held, *versions_of(store, name)) if experiment_of(one.tags) == store.experiment]
    return own[0] if own else held


def resolve(store: Store, reference: Reference) -> ModelVersion:
    """The version that a reference names; a model's name alone means its champion, or else its candidate.

    Raises:
        InputError: no such model, version or alias.
    """
    model = find_model(store, reference.name)
    aliases = {alias: int(holder) for alias, holder in model.aliases.items()}
    if reference == Reference(model.name) and "candidate" in aliases and "champion" not in aliases:
        return candidate(store, model.name)
    wanted = reference.version
    if wanted is None:
        asked = [reference.alias] if reference.alias else ["champion", "candidate"]
        wanted = next((aliases[alias] for alias in asked if alias in aliases), None)
        if wanted is None:
            held = ", ".join(f"{alias} {holder}" for alias, holder in sorted(aliases.items())) or "none"
            raise InputError(f"{model.name} has no alias {asked[0]!r} (aliases and their versions: {held})")
    versions = versions_of(store, model.name)
    for version in versions:
        if int(version.version) == wanted:
            return version
    known = ", ".join(str(version.version) for version in reversed(versions)) or "none"
    raise InputError(f"{model.name} has no version {wanted} (versions: {known})")


def register(
    store: Store, card: Card, folder: Path, run_id: str, tags: dict[str, str], *, candidate: bool = True
) -> ModelVersion:
    """Make a checkpoint a version of its registered model.

    Args:
        store: opened tracking store.
        card, folder: the checkpoint.
        run_id: of the training run, which holds the artifacts.
        tags: lineage.
        candidate: whether the version gets the alias `candidate`.
    """
    with active(run_id):
        logged = log_packed(card, folder)
    known = {
        WEIGHTS_TAG: card.weights_sha256,
        CARD_TAG: sha256(folder / CARD),
        "advalign.inputs_sha256": card.inputs_sha256,
        "advalign.recipe": card.recipe,
        "advalign.architecture": card.architecture,
        "advalign.license": card.license,
    }
    told = complete(first_part(card, tags, run_id), {})
    version = new_version(store.client, card.name, logged, run_id, {**known, **tags}, told)
    if candidate:
        store.client.set_registered_model_alias(card.name, "candidate", version.version)
    return version


def note_evaluation(store: Store, version: ModelVersion, label: str, run: Run) -> None:
    """Write an evaluation's headline numbers, run and summary digest into a version's tags.

    Args:
        store, version: the version to tag. Tags name the store's experiment; those of other experiments stay.
        label: of the protocol, or of a trial ("fmn-fast.first6").
        run: of the evaluation, finished.
    """
    label = store.named(label)
    found = {f"{label}.{name}": str(value) for name, value in headlines(run.data.metrics).items()}
    noted = {f"{label}{RUN}": run.info.run_id, f"{label}{RESULT}": run.data.tags[RESULT_TAG]}
    set_tags(store, version, {**noted, **found})


def set_tags(store: Store, version: ModelVersion, tags: Mapping[str, str]) -> None:
    """Set tags of a version, and update its model card."""
    for name, value in tags.items():
        store.client.set_model_version_tag(version.name, version.version, name, value)
    now = store.client.get_model_version(version.name, version.version)
    store.client.update_model_version(now.name, now.version, complete(now.description or "", now.tags))


def list_models(store: Store) -> list[dict[str, Any]]:
    """One row per registered version, newest first within a model: name, version, aliases, run, tags, description.

    Models of other programs, under names that advalign does not give, are left out.
    """
    return [row for model in all_models(store) if is_name(model.name) for row in show_model(store, model.name)]


def all_models(store: Store) -> list[RegisteredModel]:
    """All registered models, by name."""
    search = store.client.search_registered_models
    return every(lambda token: search(max_results=PAGE, order_by=["name ASC"], page_token=token))


def show_model(store: Store, name: str) -> list[dict[str, Any]]:
    """The versions of one registered model, in the form of `list_models`.

    Raises:
        InputError: no such model (offers the nearest).
    """
    aliases: dict[int, list[str]] = {}
    for alias, holder in sorted(find_model(store, name).aliases.items()):
        aliases.setdefault(int(holder), []).append(alias)
    return [
        {
            "name": version.name,
            "version": int(version.version),
            "aliases": aliases.get(int(version.version), []),
            "run_id": version.run_id,
            "tags": dict(version.tags),
            "description": version.description or "",
        }
        for version in versions_of(store, name)
    ]


def compare_versions(store: Store, first: ModelVersion, second: ModelVersion) -> list[dict[str, str]]:
    """Differences of two versions and their trainings: rows of what, first, second.

    Rows of metrics include the change from the first to the second; digests are cut to 12 characters.
    """
    rows = [{"what": "version", "first": f"{first.name}/{first.version}", "second": f"{second.name}/{second.version}"}]
    facts = [{**_params(store, version), **version.tags} for version in (first, second)]
    measured = {f"{name}.{metric}" for name, found in evaluations(first.tags).items() for metric in found}
    for name in sorted({*facts[0], *facts[1]}):
        one, two = (found.get(name, "-") for found in facts)
        if one == two or name.endswith((DECISION, ROLLBACK)):
            continue
        values = number(one), number(two)
        if name in measured and values[0] is not None and values[1] is not None:
            one, two = f"{values[0]:.4g}", f"{values[1]:.4g} ({values[1] - values[0]:+.3g})"
        elif name.endswith("sha256"):
            one, two = one[:12], two[:12]
        rows.append({"what": name, "first": one, "second": two})
    return rows


def _params(store: Store, version: ModelVersion) -> dict[str, str]:
    """Settings of a version's training; empty where the run is missing."""
    try:
        return dict(store.client.get_run(str(version.run_id)).data.params)
    except MlflowException:
        return {}


def fetch(version: ModelVersion, into: Path, store: Store | None = None) -> Path:
    """Bring a version's checkpoint to this machine, and check that it is the one that was registered.

    Args:
        version: the version to fetch.
        into: folder to put it in.
        store: of the version; default: the store that was opened last.

    Raises:
        InputError: the version's files are missing or cannot be fetched.
        CheckFailed: weights or card have been changed since.
    """
    label = label_of(version)
    if PREDICTOR_TAG in version.tags:
        raise InputError(
            f"{label} is a predictor of responses, no classifier: load it with mlflow.pyfunc.load_model; it is neither "
            "evaluated nor promoted"
        )
    folder = download(version, into, store)
    for name, tag in ((WEIGHTS, WEIGHTS_TAG), (CARD, CARD_TAG)):
        if not (folder / name).is_file():
            raise InputError(f"{label}: {name} is missing in the artifact store: register the checkpoint again")
        found, registered = sha256(folder / name), version.tags.get(tag)
        if registered is None:
            raise InputError(
                f"{label} has no tag {tag}: this advalign did not register it, and does not load it; "
                "`advalign publish` registers what lies on disk"
            )
        if found != registered:
            raise CheckFailed(
                f"{label}: the stored {name} was changed: its SHA-256 is {found[:12]}, registered was "
                f"{registered[:12]}: find out who changed it, and register the checkpoint again"
            )
    return folder


def download(version: ModelVersion, into: Path, store: Store | None) -> Path:
    """The folder of a version's checkpoint or predictor, brought to this machine; it is not checked.

    Raises:
        InputError: as `fetch`.
    """
    label = label_of(version)
    uri = f"models:/{version.name}/{version.version}"
    try:
        if store is not None:  # MLflow resolves such an address in the store that was opened last
            uri = store.client.get_logged_model(model_id_of(version)).artifact_location
        folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(into)))
    except (MlflowException, OSError) as error:
        raise InputError(f"{label} cannot be loaded: {quoted(error)}") from None
    checkpoints = list(folder.glob(f"artifacts/*/{CARD}"))
    if len(checkpoints) != 1:
        raise InputError(
            f"{label} holds no advalign checkpoint: its files are gone, or it was registered by another program"
        )
    return checkpoints[0].parent


def checkpoint_folders(project: Project) -> list[Path]:
    """All complete checkpoints: of the pipeline, then trained by hand."""
    found = [*project.checkpoints.glob(f"*/{CARD}"), *project.runs.glob(f"*/{CARD}")]
    return sorted(path.parent for path in found)
