"""Parts of a registered version: served code, checkpoint, signature, input example, pinned requirements."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from PIL import Image

from advalign.models.checkpoints import Card, read_card
from advalign.models.predictors import PredictorCard

SERVED = Path(__file__).with_name("served.py")
SERVED_PREDICTOR = Path(__file__).with_name("served_predictor.py")
AnyCard = Card | PredictorCard
# Imports of the served code, other than advalign itself, which is on no index: see docs/serving.md.
REQUIREMENTS = (
    "torch",
    "torchvision",
    "timm",
    "safetensors",
    "pillow",
    "numpy",
    "pandas",
    "pydantic",
    "pyyaml",
    "rich",
    "mlflow",
)


@contextmanager
def active(run_id: str) -> Iterator[None]:
    """Make a run the current one, for calls that require it; its status and end do not change."""
    run = mlflow.get_run(run_id)
    with mlflow.start_run(run_id=run_id), warnings.catch_warnings(record=True):  # advice on type hints and examples
        yield
    mlflow.MlflowClient().set_terminated(run_id, run.info.status, run.info.end_time)


def log_packed(card: AnyCard, folder: Path) -> ModelInfo:
    """Log a checkpoint or predictor as a model of the active run; MLflow predicts the input example once to check it.

    Args:
        card, folder: the checkpoint, or the predictor.
    """
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)  # hides a message on the check of the example
    logged: ModelInfo = mlflow.pyfunc.log_model(name="model", **_parts(card, folder))
    return logged


def log_again(client: MlflowClient, card: AnyCard, folder: Path, run_id: str, model_id: str) -> None:
    """Write the files of a model that was logged before once more, in their old place.

    Args:
        client: of the store.
        card, folder: the checkpoint, or the predictor.
        run_id, model_id: the training, and MLflow's logged model.
    """
    place = client.get_logged_model(model_id).artifact_location
    model = Model(artifact_path=place, run_id=run_id, model_uuid=model_id, model_id=model_id)
    with TemporaryDirectory() as name, warnings.catch_warnings(record=True):
        mlflow.pyfunc.save_model(Path(name) / "model", mlflow_model=model, **_parts(card, folder))
        client.log_model_artifacts(model_id, str(Path(name) / "model"))


def new_version(
    client: MlflowClient, name: str, logged: ModelInfo, run_id: str, tags: dict[str, str], description: str
) -> ModelVersion:
    """Make a logged model a version of a registered model, which is created where it is not there."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.create_model_version(
        name, source=logged.model_uri, run_id=run_id, tags=tags, description=description, model_id=logged.model_id
    )


def _parts(card: AnyCard, folder: Path) -> dict[str, Any]:
    predicts = isinstance(card, PredictorCard)
    size = (read_card(folder) if isinstance(card, PredictorCard) else card).preprocessing.input_size
    return {
        "python_model": str(SERVED_PREDICTOR if predicts else SERVED),
        # an address may have any characters
        "artifacts": {"predictor" if predicts else "checkpoint": folder.resolve().as_uri()},
        "signature": signature(card),
        "input_example": example_images(size),
        "pip_requirements": [f"{name}=={installed(name)}" for name in REQUIREMENTS],
    }


def signature(card: AnyCard) -> ModelSignature:
    """One object per image in; class, decision and scores out, or of a predictor a response of each unit.

    A float32 tensor in the signature would refuse encoded images over HTTP, and a binary column would refuse arrays
    (MLflow makes a table of them first). Only a named tensor of objects accepts both, in Python and in
    JSON: MLflow checks the name, `served_model.read_images` everything else.
    """
    images = Schema([TensorSpec(np.dtype("object"), (-1,), "image")])
    if isinstance(card, PredictorCard):
        return ModelSignature(inputs=images, outputs=Schema([TensorSpec(np.dtype("float32"), (-1, card.units))]))
    scores = [ColSpec(DataType.double, f"{decision}_score") for decision in card.decisions]
    return ModelSignature(
        inputs=images,
        outputs=Schema(
            [
                ColSpec(DataType.long, "class_index"),
                ColSpec(DataType.string, "class_name"),
                ColSpec(DataType.double, "class_probability"),
                ColSpec(DataType.string, "decision"),
                *scores,
            ]
        ),
    )


def example_images(size: int) -> pd.DataFrame:
    """Two PNG files (column `image`, bytes) with colour gradients, size x size pixels, the same at every call."""
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    down, across = np.meshgrid(ramp, ramp, indexing="ij")
    files = []
    for channels in ((down, across, across[:, ::-1]), (across, down[::-1], down)):
        buffer = io.BytesIO()
        Image.fromarray(np.stack(channels, 2)).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return pd.DataFrame({"image": files})
