"""The stimuli labelled with their classes: the same images and human maps, every class a decision of its own."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from advalign.data.classes import Classes
from advalign.data.sets.base import Items
from advalign.data.sets.stimuli import StimulusSet, load_stimuli
from advalign.files import Project


@dataclass(frozen=True)
class StimulusClasses(StimulusSet):
    """Frozen stimuli; a model must name the class (Linsley et al. 2023), not whether it is animate."""

    grouped: ClassVar[bool] = False

    @classmethod
    def open(cls, project: Project, classes: Classes) -> "StimulusClasses":
        """Read outputs/stimuli; see `load_stimuli`."""
        stimuli = load_stimuli(project)
        return cls(stimuli.manifest, stimuli.pixels, stimuli.map_pixels, stimuli.sources)

    @cached_property
    def labels(self) -> Tensor:
        """(N,) int64: the index of the right class."""
        return torch.tensor(self.manifest["class_index"].to_numpy(dtype=np.int64))

    def listing(self) -> pd.DataFrame:
        """The manifest, the class in its column `label`."""
        return self.manifest.assign(label=self.manifest["class_index"])

    def items(self, first: int, last: int, seed: int) -> Items:
        """As `StimulusSet.items`, labelled with classes."""
        found = super().items(first, last, seed)
        return Items(found.table.assign(label=found.labels.numpy()), found.labels, found.pixels, found.extras)
