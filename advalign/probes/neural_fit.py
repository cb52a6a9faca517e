"""How well a layer's features fit responses of a brain to the same images: explained variance, RSA and CKA by area.

The responses are joined to the items by the images' SHA-256. Rows hold the features and the responses of every image
that has a response, so that all numbers can be computed from the rows alone. docs/geometry.md says what they mean.
"""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from advalign.data.image_responses import ResponseSettings, image_responses, told
from advalign.data.sets.base import ImageSet, Items
from advalign.errors import InputError, shown
from advalign.files import Project
from advalign.metrics.base import Evaluation
from advalign.probes._layers import layer_features
from advalign.probes.base import Conditions, Measured, Model, Probe
from advalign.rows import Descriptor
from advalign.tensors.encoding import DIMENSIONS, LEAST_IMAGES, need_himalaya
from advalign.tensors.neural_fit import neural_fit
from advalign.vocabulary import with_spread

FEATURES, RESPONSES, CEILINGS = "features", "responses.", "ceilings."  # columns and extras; the latter with a label
EXPLAINED, OVER_CEILING, RSA, CKA = "explained_variance.", "explained_over_ceiling.", "rsa.", "cka."
COUNT = "n_images_with_responses"
ENDS = ("_ci_low", "_ci_high")
NAN = float("nan")


class NeuralFit(Probe):
    """Explained variance over the noise ceiling, RSA and linear CKA of a layer with brain responses."""

    class Settings(ResponseSettings):
        """Which responses, which layer, and how many images count."""

        layer: str | None = Field(None, description="name inside the network; null: what the last linear layer reads")
        dimensions: int = Field(DIMENSIONS, ge=2, description="features kept; more are projected onto so many")
        images: int = Field(1000, ge=LEAST_IMAGES, description="the first so many images with a response count")

    describes: ClassVar[tuple[Descriptor, ...]] = (
        Descriptor(f"{EXPLAINED}{{}}", "explained_raw.{}", "explained, {}", "share", "higher"),
        *with_spread(
            Descriptor(f"{OVER_CEILING}{{}}", "explained.{}", "explained / ceiling, {}", "share", "higher"), ENDS
        ),
        Descriptor(f"{RSA}{{}}", f"{RSA}{{}}", "RSA, {}", "Spearman's rho", "higher"),
        Descriptor(f"{CKA}{{}}", f"{CKA}{{}}", "CKA, {}", "linear CKA", "higher"),
        Descriptor(COUNT, COUNT, "images with responses", "images"),
    )

    def about(self, project: Project, image_set: ImageSet) -> dict[str, Any]:
        """The responses: their name, provenance and SHA-256, and how many of the images each area answered.

        Raises:
            InputError: fewer than 20 images of the set have a response of an area, or the set does not know its images.
        """
        need_himalaya()
        found = image_responses(project, self.settings)
        images = image_set.image_sha256(0, len(image_set))
        about = told(project, found, images)
        for area in found.areas:
            count = about["images"][area.label]
            if count < LEAST_IMAGES:
                raise InputError(
                    f"{found.store.path}: {shown(area.roi)} has responses to {count} of the {len(images)} images (by "
                    f"SHA-256), {LEAST_IMAGES} are needed: name an image set that was shown, or other rois"
                )
        return about

    def items(self, project: Project, image_set: ImageSet, first: int, last: int, seed: int) -> Items:
        """The members with, by the area's label, their responses (N, U), NaN where there are none, and ceilings."""
        items, found = super().items(project, image_set, first, last, seed), image_responses(project, self.settings)
        images, extras = image_set.image_sha256(first, last), dict(items.extras)
        for area in found.areas:
            extras[f"{RESPONSES}{area.label}"], ceilings = found.of(area, images)
            extras[f"{CEILINGS}{area.label}"] = ceilings.expand(len(images), -1)
        return replace(items, extras=extras)

    def measure(self, model: Model, items: Items, conditions: Conditions) -> Measured:
        """Rows: the items', and null or, where an image has a response, what is compared.

        Columns: `features` (F,) float32 of the layer; by the area's label `responses.` and `ceilings.` (U,) float32.

        Raises:
            DataError: the model's logits or features are not finite.
            InapplicableError: the model has no such layer, or it gives no features of images.
        """
        known = {name: value for name, value in items.extras.items() if name.startswith(RESPONSES)}
        answered = {name: ~value.isnan().any(1) for name, value in known.items()}
        some = torch.stack([*answered.values()]).any(0).nonzero()[:, 0]
        rows = items.table.copy()
        rows[FEATURES] = _column(len(rows), some, self._features(model, items, some, conditions))
        for name, value in known.items():
            places = answered[name].nonzero()[:, 0]
            ceilings = f"{CEILINGS}{name.removeprefix(RESPONSES)}"
            rows[name] = _column(len(rows), places, value[places])
            rows[ceilings] = _column(len(rows), places, items.extras[ceilings][places])
        return Measured(rows)

    def _features(self, model: Model, items: Items, some: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        if not len(some):
            return torch.zeros(0, 0)
        asked = self.settings
        chosen = Items(
            items.table.iloc[some.tolist()], items.labels[some], lambda transform: items.pixels(transform)[some]
        )
        return layer_features(model, chosen, conditions, asked.layer, asked.dimensions, asked.seed)

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """Numbers by area, over the first `images` with a response; NaN where fewer than 20 have one.

        The interval of the explained variance over the ceiling is over images, 95 %; both are NaN where no ceiling is
        known.
        """
        rows = evaluation.rows
        numbers = {COUNT: float(rows[FEATURES].notna().sum())}
        for column in (str(name) for name in rows if str(name).startswith(RESPONSES)):
            kept = rows[rows[column].notna()].iloc[: self.settings.images]
            numbers |= self._numbers(column.removeprefix(RESPONSES), kept, evaluation.resamples)
        return numbers

    def _numbers(self, label: str, rows: pd.DataFrame, resamples: int) -> dict[str, float]:
        low, high = (f"{OVER_CEILING}{label}{end}" for end in ENDS)
        names = [f"{name}{label}" for name in (EXPLAINED, OVER_CEILING, RSA, CKA)] + [low, high]
        if len(rows) < LEAST_IMAGES:
            return dict.fromkeys(names, NAN)
        features, responses = (
            np.stack(list(rows[name])).astype(np.float64) for name in (FEATURES, f"{RESPONSES}{label}")
        )
        ceilings = np.asarray(rows[f"{CEILINGS}{label}"].iloc[0], np.float64)
        fit = neural_fit([features], responses, ceilings, resamples, self.settings.seed)
        told = fit.explained
        interval = (told.low, told.high) if told.units else (NAN, NAN)
        return dict(zip(names, (told.share, told.over_ceiling, fit.rsa, fit.cka, *interval), strict=True))


def _column(count: int, places: torch.Tensor, values: torch.Tensor) -> "pd.Series[Any]":
    """A column of arrays, None where there is none."""
    found = pd.Series([None] * count, dtype=object)
    for place, value in zip(places.tolist(), values.numpy(), strict=True):
        found[place] = value
    return found
