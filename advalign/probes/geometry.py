"""Geometry of a layer's category manifolds: capacity, radius, dimension, and held-out linear separability.

A category is the column `category` of the items where there is one (stimuli), else their label. Rows hold each image's
features, projected at random onto `dimensions` directions where the layer has more, so that a row has a bounded size
and one set of rows serves all numbers. docs/geometry.md says what they mean.
"""

from itertools import islice
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from advalign.averages import mean_with_interval
from advalign.data.sets.base import Items
from advalign.errors import DataError
from advalign.metrics.base import Evaluation
from advalign.probes._layers import layer_features
from advalign.probes.base import Conditions, Measured, Model, Probe
from advalign.rows import Descriptor
from advalign.strict_settings import Strict
from advalign.tensors.manifolds import Geometry as ManifoldGeometry
from advalign.tensors.manifolds import manifold_geometry
from advalign.tensors.separability import held_out_separability
from advalign.vocabulary import with_spread

Array = NDArray[np.float64]

FEATURES = "features"  # of an image, float32
CATEGORY = "category"
LEAST = 2  # images of a category
ENDS = ("_ci_low", "_ci_high")
CAPACITY, RADIUS, DIMENSION = "manifold_capacity", "manifold_radius", "manifold_dimension"
SEPARABILITY, CORRELATION, COUNT = "linear_separability", "centre_correlation", "n_manifolds"


class Geometry(Probe):
    """Capacity, radius and dimension of the category manifolds of a layer (Chung et al. 2018)."""

    class Settings(Strict):
        """Which layer, and how many images and random directions count."""

        layer: str | None = Field(None, description="name inside the network; null: what the last linear layer reads")
        dimensions: int = Field(512, ge=2, description="features kept; more are projected onto so many directions")
        categories: int = Field(100, ge=2, description="the first so many categories count, by name")
        points: int = Field(50, ge=2, description="the first so many images of each category count")
        draws: int = Field(200, ge=1, description="Gaussian vectors for each manifold")
        margin: float = Field(0.0, ge=0, description="of the dividing plane, in norms of a manifold's centre")
        seed: int = Field(0, ge=0, description="of the projection and of the draws")

    describes: ClassVar[tuple[Descriptor, ...]] = (
        *with_spread(Descriptor(CAPACITY, CAPACITY, "capacity", "manifolds per dimension", "higher"), ENDS),
        *with_spread(Descriptor(RADIUS, RADIUS, "radius", "norms of the centre", "lower"), ENDS),
        *with_spread(Descriptor(DIMENSION, DIMENSION, "dimension", "dimensions", "lower"), ENDS),
        Descriptor(SEPARABILITY, SEPARABILITY, "separability", "share", "higher"),
        Descriptor(CORRELATION, CORRELATION, "centre correlation", "mean |cosine|", "lower"),
        Descriptor(COUNT, COUNT, "manifolds", "categories"),
    )

    def measure(self, model: Model, items: Items, conditions: Conditions) -> Measured:
        """Rows: the items', and `features` (F,) float32 of the layer, F at most `dimensions`.

        Raises:
            DataError: the model's logits or features are not finite.
            InapplicableError: the model has no such layer, or it gives no features of images.
        """
        asked = self.settings
        found = layer_features(model, items, conditions, asked.layer, asked.dimensions, asked.seed)
        rows = items.table.copy()
        rows[FEATURES] = list(found.numpy())
        return Measured(rows)

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """Numbers over categories that have at least two images.

        All are NaN where fewer than two have, and where a centre has no direction: features that are all the same.

        Intervals are over categories, 95 % (BCa); that of capacity is the interval of its inverse.
        """
        rows, asked = evaluation.rows, self.settings
        by = CATEGORY if CATEGORY in rows else "label"
        groups = (group[FEATURES] for _, group in rows.groupby(by, sort=True) if len(group) >= LEAST)
        clouds: list[Array] = [
            np.stack(list(group.iloc[: asked.points])).astype(np.float64) for group in islice(groups, asked.categories)
        ]
        found = self._geometry(clouds)
        values = {CAPACITY: 1 / found.capacity, RADIUS: found.radius, DIMENSION: found.dimension} if found else {}
        numbers: dict[str, float] = {}
        for name in (CAPACITY, RADIUS, DIMENSION):
            told = mean_with_interval(name, values.get(name, []), evaluation.resamples, evaluation.seed)
            numbers |= {key: value for key, value in told.items() if not key.endswith("_sem")}
        low, high = (f"{CAPACITY}{end}" for end in ENDS)
        numbers |= {CAPACITY: 1 / numbers[CAPACITY], low: 1 / numbers[high], high: 1 / numbers[low]}
        return {
            **numbers,
            SEPARABILITY: held_out_separability(clouds) if found else float("nan"),
            CORRELATION: found.centre_correlation if found else float("nan"),
            COUNT: float(len(clouds)),
        }

    def _geometry(self, clouds: list[Array]) -> ManifoldGeometry | None:
        if len(clouds) < LEAST:
            return None
        try:
            return manifold_geometry(clouds, self.settings.draws, self.settings.seed, self.settings.margin)
        except DataError:  # features are finite (`measure`), so a centre is the mean of all points
            return None
