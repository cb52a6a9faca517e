"""The registered model's code: MLflow runs this file to load a version. It is never imported and pickles nothing."""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.pyfunc.model import PythonModel

from advalign.errors import InputError
from advalign.models.checkpoints import Card, load_checkpoint
from advalign.models.classifier import Classifier
from advalign.models.superclasses import GroupedClassifier


def classify(classifier: Classifier, card: Card, images: Any) -> pd.DataFrame:
    """Classify images.

    Args:
        classifier, card: from `load_checkpoint`.
        images: (N, 3, H, W) array of pixels in [0, 1].

    Returns:
        One row per image: class_index, class_name, class_probability, decision, and one `<decision>_score` (the
        largest logit of the decision's classes) each.

    Raises:
        InputError: another shape, or values outside [0, 1].
    """
    pixels = torch.as_tensor(np.asarray(images), dtype=torch.float32)
    if pixels.ndim != 4 or pixels.shape[1] != 3 or not bool(((pixels >= 0) & (pixels <= 1)).all()):
        raise InputError(f"expected images (N, 3, H, W) with pixels in [0, 1], got {tuple(pixels.shape)}")
    with torch.no_grad():
        logits = classifier(pixels)
        scores = GroupedClassifier(lambda _: logits, card.group_of_class)(pixels)
    best = logits.argmax(1).tolist()
    table = pd.DataFrame(
        {
            "class_index": best,
            "class_name": [card.classes[index].name for index in best],
            "class_probability": logits.softmax(1).amax(1).tolist(),
            "decision": [card.decisions[index] for index in scores.argmax(1).tolist()],
        }
    )
    for number, decision in enumerate(card.decisions):
        table[f"{decision}_score"] = scores[:, number].tolist()
    return table


class ServedClassifier(PythonModel):
    """Images in, class and decision scores out."""

    def load_context(self, context: Any) -> None:
        """Rebuild the network from safetensors and card."""
        self.classifier, self.card = load_checkpoint(Path(context.artifacts["checkpoint"]))

    # MLflow would read type hints on predict as a schema; the signature is given at registration.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """See `classify`; context and params are MLflow's."""
        return classify(self.classifier, self.card, model_input)


mlflow.models.set_model(ServedClassifier())
