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
from mlflow.models import Model, ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from PIL import Image

from advalign.models.checkpoints import Card

SERVED = Path(__file__).with_name("served.py")
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


def log_classifier(card: Card, folder: Path) -> ModelInfo:
    """Log a checkpoint as a model of the active run; MLflow predicts the input example once to check it.

    Args:
        card, folder: the checkpoint.
    """
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)  # hides a message on the check of the example
    logged: ModelInfo = mlflow.pyfunc.log_model(name="model", **_parts(card, folder))
    return logged


def log_again(client: MlflowClient, card: Card, folder: Path, run_id: str, model_id: str) -> None:
    """Write the files of a model that was logged before once more, in their old place.

    Args:
        client: of the store.
        card, folder: the checkpoint.
        run_id, model_id: the training, and MLflow's logged model.
    """
    place = client.get_logged_model(model_id).artifact_location
    model = Model(artifact_path=place, run_id=run_id, model_uuid=model_id, model_id=model_id)
    with TemporaryDirectory() as name, warnings.catch_warnings(record=True):
        mlflow.pyfunc.save_model(Path(name) / "model", mlflow_model=model, **_parts(card, folder))
        client.log_model_artifacts(model_id, str(Path(name) / "model"))


def _parts(card: Card, folder: Path) -> dict[str, Any]:
    return {
        "python_model": str(SERVED),
        "artifacts": {"checkpoint": folder.resolve().as_uri()},  # an address may have any characters
        "signature": signature(card),
        "input_example": example_images(card.preprocessing.input_size),
        "pip_requirements": [f"{name}=={installed(name)}" for name in REQUIREMENTS],
    }


def signature(card: Card) -> ModelSignature:
    """One object per image in; class, decision and scores out.

    A float32 tensor in the signature would refuse encoded images over HTTP, and a binary column would refuse arrays
    (MLflow makes a table of them first). Only a named tensor of objects accepts both, in Python and in
    JSON: MLflow checks the name, `served_model.read_images` everything else.
    """
    scores = [ColSpec(DataType.double, f"{decision}_score") for decision in card.decisions]
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("object"), (-1,), "image")]),
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
