"""Cost of the registry: a gated promotion against a bare alias, a served version against the torch module."""

import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image

from advalign.data.sets.stimuli import load_stimuli
from advalign.errors import InputError
from advalign.files import Project
from advalign.models.checkpoints import load_checkpoint
from advalign.tracking.registry.promotion import promote
from advalign.tracking.results import Published
from advalign.tracking.store import Store, open_store
from advalign.workflows.publish import publish_checkpoint, publish_evaluation
from benchmarks._timing import ratio
from benchmarks.attacks import markdown

BASELINE, NAME = "test_resnet.baseline", "test_resnet.harmonized"
IMAGES = 32


def report(project: Project) -> Iterator[str]:
    """Ratios in one process, both sides taking turns; the store is a new sqlite file in a temporary project."""
    stimuli = load_stimuli(project)
    with tempfile.TemporaryDirectory() as folder:
        copy = _copy(project, Path(folder))
        store = open_store(copy)
        for name in (BASELINE, NAME):
            publish_checkpoint(copy, store, copy.checkpoints / name, Published())
            publish_evaluation(copy, store, copy.evaluations / "fmn-fast" / f"{name}.json", stimuli, Published())
        rows = [("promote: eleven gates, audit, card", "set_registered_model_alias", f"{_promotion(copy, store):.0f}")]
        rows += _prediction(copy, stimuli.images[:IMAGES])
    yield markdown(("what", "peer", "time / peer"), rows)


def _copy(project: Project, root: Path) -> Project:
    """The project as far as publishing and promoting read it."""
    for name in ("params.yaml", "data.dvc"):
        shutil.copy(project.root / name, root)
    for name in ("data", "registry", "outputs/checkpoints", "outputs/evaluations", "outputs/stimuli"):
        if not (project.root / name).is_dir():
            raise InputError(f"{name} is missing: `make repro` first")
        shutil.copytree(project.root / name, root / name)
    return Project(root)


def _promotion(project: Project, store: Store) -> float:
    def ours() -> None:
        promote(project, store, NAME)
        store.client.delete_registered_model_alias(NAME, "champion")

    def bare() -> None:
        store.client.set_registered_model_alias(NAME, "bare", "1")
        store.client.delete_registered_model_alias(NAME, "bare")

    return ratio(ours, bare)


def _prediction(project: Project, images: torch.Tensor) -> list[tuple[str, str, str]]:
    served = mlflow.pyfunc.load_model(f"models:/{NAME}@candidate")
    classifier, _ = load_checkpoint(project.checkpoints / NAME)
    pixels = images.numpy()
    files = pd.DataFrame({"image": [_png(image) for image in pixels]})

    @torch.no_grad()
    def module() -> torch.Tensor:
        logits: torch.Tensor = classifier(images)
        return logits

    peer = f"torch module, {IMAGES} images"
    return [
        ("pyfunc on an array", peer, f"{ratio(lambda: served.predict(pixels), module):.2f}"),
        ("pyfunc on PNG files", peer, f"{ratio(lambda: served.predict(files), module):.2f}"),
    ]


def _png(image: npt.NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((image.transpose(1, 2, 0) * 255).round().astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
