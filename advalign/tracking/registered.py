"""Registered models: a version per checkpoint, what it says of itself, and the way back to a torch module."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from advalign.errors import InputError, unknown_name
from advalign.files import Project
from advalign.models.checkpoints import CARD, Card
from advalign.tracking.store import Store

WEIGHTS_TAG = "advalign.weights_sha256"
SERVED = Path(__file__).with_name("served_model.py")
REQUIREMENTS = ("torch", "timm", "safetensors", "numpy", "pandas", "pydantic", "mlflow")


def find_version(store: Store, card: Card) -> ModelVersion | None:
    """The version that holds exactly this checkpoint's weights; None if there is none."""
    try:
        versions = store.client.search_model_versions(f"name = '{card.name}'")
    except MlflowException:
        return None
    return next((version for version in versions if version.tags.get(WEIGHTS_TAG) == card.weights_sha256), None)


def register(store: Store, card: Card, folder: Path, run_id: str, tags: dict[str, str]) -> ModelVersion:
    """Make a checkpoint a version of its registered model, with alias `candidate`.

    Args:
        store: opened tracking store.
        card, folder: the checkpoint.
        run_id: of its training run, which keeps the artifacts.
        tags: lineage.
    """
    with _active(run_id), warnings.catch_warnings(record=True):  # advice on type hints and examples is not shown
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(SERVED),
            artifacts={"checkpoint": str(folder)},
            signature=ModelSignature(inputs=Schema([TensorSpec(np.dtype("float32"), (-1, 3, -1, -1))])),
            pip_requirements=[f"{name}=={installed(name)}" for name in REQUIREMENTS],
        )
    client = store.client
    try:
        client.create_registered_model(card.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        card.name,
        source=logged.model_uri,
        run_id=run_id,
        tags={
            WEIGHTS_TAG: card.weights_sha256,
            "advalign.inputs_sha256": card.inputs_sha256,
            "advalign.recipe": card.recipe,
            "advalign.architecture": card.architecture,
            "advalign.license": card.license,
            **tags,
        },
        description=_description(card),
        model_id=logged.model_id,
    )
    client.set_registered_model_alias(card.name, "candidate", version.version)
    return version


def note_evaluation(store: Store, version: ModelVersion, protocol: str, run_id: str, metrics: dict[str, float]) -> None:
    """Write an evaluation's headline numbers and its run on a version."""
    tags = {
        f"{protocol}.run_id": run_id,
        **{
            f"{protocol}.{name}": f"{metrics[name]:.6g}"
            for name in ("perturbation_tolerance", "adversarial_human_alignment", "multilabel_accuracy", "n_valid")
            if name in metrics
        },
    }
    for name, value in tags.items():
        store.client.set_model_version_tag(version.name, version.version, name, value)


def _description(card: Card) -> str:
    settings = "\n".join(f"- {name}: `{value}`" for name, value in card.settings["recipe"].items())
    return (
        f"**{card.name}**: {card.architecture} trained with recipe `{card.recipe}`, seed {card.seed}.\n\n"
        f"{settings}\n\nTells {len(card.classes)} classes apart; licence {card.license}.\n"
    )


@contextmanager
def _active(run_id: str) -> Iterator[None]:
    """Make a run the current one for calls that know no other way, and leave its status as it was."""
    run = mlflow.get_run(run_id)
    with mlflow.start_run(run_id=run_id):
        yield
    mlflow.MlflowClient().set_terminated(run_id, run.info.status)


def list_models(store: Store) -> list[dict[str, Any]]:
    """One row per registered version, newest first within a model: name, version, aliases, recipe, metrics."""
    rows = []
    for model in store.client.search_registered_models(max_results=1000, order_by=["name ASC"]):
        aliases: dict[str, list[str]] = {}
        for alias, number in store.client.get_registered_model(model.name).aliases.items():
            aliases.setdefault(str(number), []).append(alias)
        for version in store.client.search_model_versions(f"name = '{model.name}'"):
            rows.append(_row(version, sorted(aliases.get(str(version.version), []))))
    return rows


def _row(version: ModelVersion, aliases: list[str]) -> dict[str, Any]:
    return {
        "name": version.name,
        "version": int(version.version),
        "aliases": aliases,
        "run_id": version.run_id,
        "tags": dict(version.tags),
    }


def show_model(store: Store, name: str) -> list[dict[str, Any]]:
    """The versions of one registered model.

    Raises:
        InputError: no such model (offers the nearest).
    """
    rows = list_models(store)
    found = [row for row in rows if row["name"] == name]
    if not found:
        raise unknown_name("registered model", name, {row["name"] for row in rows})
    return found


def download(uri: str) -> Path:
    """Bring a registered version's checkpoint ("models:/NAME@alias" or "models:/NAME/VERSION") to this machine.

    Raises:
        InputError: no such model, version or alias.
    """
    try:
        folder = Path(mlflow.artifacts.download_artifacts(uri))
    except (MlflowException, OSError) as error:
        raise InputError(f"{uri} cannot be loaded: {' '.join(str(error).split())[:200]}") from None
    checkpoints = list(folder.glob("artifacts/*/card.json"))
    if len(checkpoints) != 1:
        raise InputError(f"{uri} holds no advalign checkpoint")
    return checkpoints[0].parent


def checkpoint_folders(project: Project) -> list[Path]:
    """All complete checkpoints: of the pipeline, then trained by hand."""
    found = [*project.checkpoints.glob(f"*/{CARD}"), *project.runs.glob(f"*/{CARD}")]
    return sorted(path.parent for path in found)
