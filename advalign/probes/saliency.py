"""Does a model's saliency lie on the object, or where people look? Scores of each map, beside those of its controls.

A score alone says little: objects lie in the centre, and a centred disc can beat every model. So every score stands
beside that of another image's mask, of a centred disc, of chance, and of the mask itself at the map's resolution.
"""

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from advalign.averages import mean_with_interval
from advalign.data.sets.base import Items
from advalign.errors import DataError, InputError
from advalign.metrics.base import Evaluation
from advalign.models.watched import METHODS, Method
from advalign.models.zoo import evaluation_transform
from advalign.probes._sanity import NOT_FINITE
from advalign.probes.base import Conditions, Measured, Model, Probe
from advalign.rows import Descriptor
from advalign.strict_settings import Strict
from advalign.tensors.localisation import at_resolution, centred, enlarged, expected_overlap, hits, overlap
from advalign.tensors.ranks import average_ranks, correlation
from advalign.vocabulary import with_spread

IMAGES_AT_ONCE = 48  # images in one pass
Score = Callable[[Tensor, Tensor], Tensor]
Columns = dict[str, Tensor]

SCORES = {"iou": "share", "pointing": "share", "rho": "Spearman's rho"}
"""Column of a score -> its unit. Its number is `saliency_SCORE`; those of the controls are called as their columns."""
CONTROLS = ("shuffled", "centre", "chance", "ceiling")
OVER = ("shuffled", "centre")
"""Controls that a score is compared with image by image, in the column SCORE_minus_CONTROL."""


def _described() -> tuple[Descriptor, ...]:
    found = [Descriptor("saliency_n", "saliency_n", "n saliency", "images")]
    for score, unit in SCORES.items():
        brief = "pg" if score == "pointing" else score  # MLflow's compare view cuts long names off
        found += with_spread(Descriptor(f"saliency_{score}", f"saliency_{brief}", score, unit, "higher", score))
        for control in OVER:
            name = f"{score}_minus_{control}"
            label = f"{score} − {control}"
            found += with_spread(Descriptor(name, f"{brief}_vs_{control}", label, unit, "higher", name))
        for control in CONTROLS:
            found.append(Descriptor(f"{score}_{control}", f"{brief}_{control}", f"{score}, {control}", unit))
    return tuple(found)


class Saliency(Probe):
    """Saliency maps of every image's right class, scored against its object mask or human map, with controls."""

    class Settings(Strict):
        """How maps are made."""

        method: Method = "grad-cam"
        layer: str | None = None

    image_set = "cifar"
    keeps = True
    needs_one_of = ("mask", "human_map")
    describes: ClassVar[tuple[Descriptor, ...]] = _described()

    def measure(self, model: Model, items: Items, conditions: Conditions) -> Measured:
        """Rows: the items', `target` (the class that the map explains), and scores with their controls.

        Columns are named SCORE, SCORE_CONTROL and SCORE_minus_CONTROL: `iou` and `pointing` of sets with masks, `rho`
        of all. NaN where there is no mask, and where a map is constant.

        Raises:
            DataError: the model's logits or maps are not finite, or a mask is empty.
            InapplicableError: the method cannot explain this model.
            InputError: the method does not take the layer that the settings name.
        """
        target, maps = self._maps(model, items, conditions)
        columns = _against_masks(maps, items) if "mask" in items.extras else _against_people(maps, items)
        constant = maps.amax((1, 2)) == maps.amin((1, 2))
        for score in [name for name in SCORES if name in columns]:
            for control in OVER:
                columns[f"{score}_minus_{control}"] = columns[score] - columns[f"{score}_{control}"]
        rows = items.table.copy()
        rows["target"] = target.numpy()
        for name, values in columns.items():
            rows[name] = values.double().masked_fill(constant, torch.nan).numpy()
        return Measured(rows, {place: maps[place][None].clone() for place in conditions.kept})

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """Means over the images that have a map and a mask (`saliency_n`); scores and differences with intervals."""
        rows, found = evaluation.rows, super().summarise(evaluation)
        for score in [name for name in SCORES if name in rows]:
            told = {f"saliency_{score}": score, **{f"{score}_minus_{one}": f"{score}_minus_{one}" for one in OVER}}
            for name, column in told.items():
                values = rows[column].dropna().to_numpy(np.float64)
                found |= mean_with_interval(name, values, evaluation.resamples, evaluation.seed)
            for column in [f"{score}_{control}" for control in CONTROLS if f"{score}_{control}" in rows]:
                found[column] = float(rows[column].mean())
        return {"saliency_n": float(rows["rho"].count()), **found}

    def _maps(self, model: Model, items: Items, conditions: Conditions) -> tuple[Tensor, Tensor]:
        """Classes (N,) and maps (N, h, w) in the method's own resolution, on the CPU."""
        method = METHODS[self.settings.method]
        pixels = items.pixels(evaluation_transform(model.classifier.preprocessing))
        targets, maps = [], []
        for some in torch.split(torch.arange(len(items)), conditions.batch_size or IMAGES_AT_ONCE):
            try:
                with method(model.classifier, self.settings.layer) as watched:
                    logits = model.classifier(pixels[some].to(model.device).requires_grad_(method.needs_gradient))
                target = right_class(logits.detach(), items.labels[some].to(model.device), model.groups)
                found = watched.maps(logits, target).detach()
            except InputError as error:
                raise type(error)(f"{model.name}: {error}") from None
            if not (logits.isfinite().all() and found.isfinite().all()):
                raise DataError(f"{model.name}: {NOT_FINITE}")
            targets.append(target.cpu())
            maps.append(found.cpu())
        return torch.cat(targets), torch.cat(maps)


def right_class(logits: Tensor, labels: Tensor, groups: Tensor | None) -> Tensor:
    """The class that a map explains: the label, or the likeliest class of the right decision: (N,) int64.

    >>> right_class(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([1]), torch.tensor([0, 1, 1]))
    tensor([2])
    """
    if groups is None:
        return labels
    return logits.masked_fill(groups[None] != labels[:, None], -torch.inf).argmax(1)


def _against_masks(coarse: Tensor, items: Items) -> Columns:
    """Scores and controls of maps (N, h, w) against object masks; NaN where there is no mask."""
    masks, others, has_mask = (items.extras[name] for name in ("mask", "other_mask", "has_mask"))
    empty = has_mask & ~masks.any(1).any(1)
    if empty.any():
        place = int(empty.nonzero()[0])
        raise DataError(
            f"the mask of image {items.table.iloc[place, 0]!s} is empty, and no map can lie on it: import the images "
            "again without that mask"
        )
    maps = enlarged(coarse, (masks.shape[1], masks.shape[2]))
    disc = centred(*masks.shape[1:]).expand(len(masks), -1, -1)
    through = at_resolution(masks, (coarse.shape[1], coarse.shape[2]))
    scores: dict[str, Score] = {"iou": overlap, "pointing": hits, "rho": _rank_correlation}
    columns: Columns = {}
    for name, score in scores.items():
        columns[name] = score(maps, masks)
        columns[f"{name}_shuffled"] = score(maps, others)
        columns[f"{name}_centre"] = score(disc, masks)
        columns[f"{name}_ceiling"] = score(through, masks)
    columns["iou_chance"] = expected_overlap(masks)
    columns["pointing_chance"] = masks.double().mean((1, 2))
    return {name: values.masked_fill(~has_mask, torch.nan) for name, values in columns.items()}


def _against_people(coarse: Tensor, items: Items) -> Columns:
    """Rank correlation of maps (N, h, w) with human maps, as that of perturbation maps; NaN for a constant map."""
    human, ranks, others = (items.extras[name] for name in ("human_map", "human_ranks", "other_ranks"))
    size = (human.shape[1], human.shape[2])
    found = average_ranks(enlarged(coarse, size).flatten(1))
    through = average_ranks(at_resolution(human, (coarse.shape[1], coarse.shape[2])).flatten(1))
    return {
        "rho": correlation(found, ranks),
        "rho_shuffled": correlation(found, others),
        "rho_centre": correlation(average_ranks(centred(*size).flatten(1)).expand_as(found), ranks),
        "rho_ceiling": correlation(through, ranks),
    }


def _rank_correlation(maps: Tensor, masks: Tensor) -> Tensor:
    return correlation(average_ranks(maps.flatten(1)), average_ranks(masks.float().flatten(1)))
