"""Predictions of a model on validation images under its own evaluation transform, with their probabilities."""

import torch
import torch.nn.functional as F

from advalign.attacks.base import Oracle
from advalign.data.sets.base import Items
from advalign.errors import DataError
from advalign.models.zoo import evaluation_transform
from advalign.probes._sanity import NOT_FINITE
from advalign.probes.base import Conditions, Measured, Model, Probe

IMAGES_AT_ONCE = 64  # images in one pass; halved where memory runs out


class Predictions(Probe):
    """Top class of every image, with the probabilities and scores that calibration needs."""

    image_set = "validation"
    takes_decisions = False
    items_per_task = 240

    @torch.no_grad()
    def measure(self, model: Model, items: Items, conditions: Conditions) -> Measured:
        """Rows: the items', prediction, the softmax probabilities of the label and of the predicted class, two scores.

        `log_loss` is -log of the label's probability, in nats, computed from logits: finite where the probability is
        rounded to 0. `brier` is the sum over the classes of (probability - 1 for the label, 0 else)^2, in [0, 2].
        """
        inputs = items.pixels(evaluation_transform(model.classifier.preprocessing)).to(model.device)
        labels = items.labels.to(model.device)
        oracle = Oracle(model.classifier, inputs, labels, batch_size=conditions.batch_size or IMAGES_AT_ONCE)
        if not oracle.clean_logits.isfinite().all():
            raise DataError(f"{model.name}: {NOT_FINITE}")
        probabilities = oracle.clean_logits.double().softmax(1)
        predictions = oracle.clean_logits.argmax(1)
        rows = items.table.copy()
        rows.insert(list(rows).index("label") + 1, "prediction", predictions.cpu().numpy())
        rows["probability_label"] = probabilities.gather(1, labels[:, None])[:, 0].cpu().numpy()
        rows["probability_top"] = probabilities.gather(1, predictions[:, None])[:, 0].cpu().numpy()
        rows["log_loss"] = F.cross_entropy(oracle.clean_logits.double(), labels, reduction="none").cpu().numpy()
        truth = F.one_hot(labels, probabilities.shape[1])
        rows["brier"] = (probabilities - truth).square().sum(1).cpu().numpy()
        return Measured(rows)
