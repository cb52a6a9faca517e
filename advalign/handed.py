"""Evaluation of a torch module in Python, inside a project: the same rows as `advalign evaluate` writes."""

import copy
import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from advalign.analysis.table import OWN_GROUP
from advalign.api import check_evaluation_mode
from advalign.data.classes import DECISIONS, Classes
from advalign.data.results import read_rows, read_summary
from advalign.errors import CheckFailed, InputError, quoted
from advalign.evaluation.campaign import Campaign, TrainedModel
from advalign.evaluation.engines import TaskOutcome
from advalign.evaluation.engines.local import local
from advalign.evaluation.runner import Evaluator
from advalign.evaluation.tasks import Task, measure
from advalign.files import Project
from advalign.models.checkpoints import Card, save_checkpoint
from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.zoo import evaluation_transform
from advalign.names import check_name, is_architecture
from advalign.settings import Settings, load_settings

LOOKED_AT = 4  # items whose logits distinguish models


@dataclass(frozen=True)
class Evaluated:
    """Result of an evaluation.

    Attributes:
        rows: one per item of the protocol's image set, as in outputs/evaluations/PROTOCOL/NAME.parquet.
        metrics: named numbers over the rows, as in NAME.json next to the rows; None where there was nothing to average.
        flags: reasons to mistrust the model's gradients; empty where there are none.
    """

    rows: pd.DataFrame
    metrics: dict[str, float | None]
    flags: tuple[str, ...]


def evaluate(
    model: nn.Module,
    name: str,
    protocol: str | None = None,
    *,
    group: str = OWN_GROUP,
    preprocessing: Preprocessing | None = None,
    limit: int | None = None,
) -> Evaluated:
    """Evaluate a torch module in this process; finished results of the same model are kept, as in the command.

    Its weights and rows lie in the project's outputs, where `advalign compare` and `advalign publish` find the rows.
    The module itself is not kept, so the command cannot evaluate it again.

    Args:
        model: (N, 3, H, W) pixels in [0, 1] -> (N, K) logits of the classes of data/classes.yaml, in evaluation mode;
            a copy is evaluated, the module is not changed.
        name: of the model; results are kept under it.
        protocol: a name in `advalign protocols`; None: the one in params.yaml.
        group: of the model in `advalign compare`: cnn, vit, hybrid, ssl, harmonized, robust, or another name that no
            contrast uses.
        preprocessing: of the model's input; None: the model's own where `advalign.load` returned it, else pixels
            without normalisation, at the stimuli's size.
        limit: only the first items, for a trial that is kept apart.

    Raises:
        InputError: not inside a project, an unknown protocol, or a model that does not give K logits.
        CheckFailed: the evaluation of the model failed.
    """
    check_evaluation_mode(model)
    if not isinstance(model, nn.Module):
        raise InputError(f"model: expected a torch module, got {type(model).__name__}")
    project = Project.find()
    settings = load_settings(project.root)
    parameter = next(model.parameters(), torch.zeros(()))
    evaluator = Evaluator(project, settings, protocol, limit, parameter.device.type)
    classifier = _classifier(model, preprocessing, settings).to(memory_format=torch.channels_last)
    folder = project.handed / check_name(name)
    card = save_checkpoint(folder, classifier, _card(model, classifier, evaluator, name, group))
    work = partial(_measured, classifier, card)
    (outcome,) = Campaign(evaluator, [TrainedModel(folder)], local(1, work)).run()
    if not outcome.measured:
        raise CheckFailed(f"{name}: {outcome.error}")
    return _evaluated(evaluator, card)


def _classifier(model: nn.Module, preprocessing: Preprocessing | None, settings: Settings) -> Classifier:
    """A copy with the interface of all other models."""
    copied = copy.deepcopy(model).requires_grad_(False)
    if isinstance(copied, Classifier) and preprocessing is None:
        return copied
    size, crop = settings.stimuli.size, settings.stimuli.crop
    as_they_are = Preprocessing(input_size=size, mean=(0,) * 3, std=(1,) * 3, interpolation="bilinear", crop=crop)
    return Classifier(copied, preprocessing or as_they_are).eval()


def _card(model: nn.Module, classifier: Classifier, evaluator: Evaluator, name: str, group: str) -> dict[str, Any]:
    architecture = f"module:{type(model).__name__}"
    return {
        "name": name,
        "architecture": architecture if is_architecture(architecture) else "module:Module",
        # Weights alone do not determine what a module computes, and its code may be in no file.
        "arguments": {"answers_sha256": _answers(classifier, evaluator)},
        "classes": _class_cards(evaluator.classes),
        "decisions": DECISIONS,
        "recipe": "pretrained",
        "group": check_name(group, "group"),
        "settings": {},
        "seed": 0,
        "inputs_sha256": "",
        "data_md5": None,
        "metrics": {},
    }


def _class_cards(classes: Classes) -> list[dict[str, Any]]:
    return [{"wnid": one.wnid, "name": one.name, "decision": int(one.animate)} for one in classes.entries]


def _answers(classifier: Classifier, evaluator: Evaluator) -> str:
    """Digest of the model's logits for a few items, and of their gradient.

    Raises:
        InputError: the model refuses the images, or gives other logits than one for each class.
    """
    torch.set_num_threads(evaluator.settings.evaluate.threads)
    items = evaluator.image_set.items(0, min(LOOKED_AT, len(evaluator.image_set)), evaluator.settings.seed)
    pixels = items.pixels(evaluation_transform(classifier.preprocessing)).to(evaluator.device).requires_grad_(True)
    wanted = (len(items), len(evaluator.classes))
    try:
        logits = classifier(pixels)
        found: object = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if found == wanted:
            (gradient,) = torch.autograd.grad(logits.sum(), pixels)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        reason = quoted(error, named=True)
        raise InputError(f"the model refuses images {tuple(pixels.shape)}: {reason}") from None
    if found != wanted:
        raise InputError(f"the model gives {found} for {len(items)} images; expected {wanted}: one logit per class")
    content = b"".join(one.detach().cpu().numpy().tobytes() for one in (logits, gradient))
    return hashlib.sha256(content).hexdigest()


def _measured(classifier: Classifier, card: Card, task: Task) -> TaskOutcome:
    try:
        return measure(task, classifier, card)
    except Exception as error:  # noqa: BLE001  the campaign records it
        return error


def _evaluated(evaluator: Evaluator, card: Card) -> Evaluated:
    paths = evaluator.paths(card.name)
    summary = read_summary(paths)
    return Evaluated(read_rows(paths.rows), summary["metrics"], tuple(summary["flags"]))
