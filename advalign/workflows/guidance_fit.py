"""How well the features of a study's models fit the responses that guide: from its evaluations by `neural-fit`."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from advalign.data.image_responses import label
from advalign.data.responses import ResponseStore
from advalign.errors import InputError, shown
from advalign.evaluation.runner import Evaluator
from advalign.probes.neural_fit import CKA, EXPLAINED, OVER_CEILING, RSA, NeuralFit
from advalign.settings import GuidanceSettings

NUMBERS = {"explained": (OVER_CEILING, EXPLAINED), "rsa": (RSA,), "cka": (CKA,)}
"""Column of models.csv -> names of the probe's numbers, the first that is known."""


class Fits:
    """Fits of models to the areas of a study.

    Args:
        evaluator: under the study's protocol; None: nothing is fitted.
        store: of the responses.
        asked: the study's settings.
        areas: those that guide.

    Raises:
        InputError: the protocol is of another probe, of other responses, or lacks an area.
    """

    def __init__(
        self, evaluator: Evaluator | None, store: ResponseStore, asked: GuidanceSettings, areas: Sequence[str]
    ) -> None:
        self._labels: dict[tuple[str, str], str] = {
            (roi, subject): label(store, roi, subject)
            for subject, roi in (store.areas if evaluator is not None else ())
            if roi in areas and (not asked.subjects or subject in asked.subjects)
        }
        self.told = "No fit to the responses was measured."
        if evaluator is None:
            return
        name, probe = evaluator.protocol.name, evaluator.protocol.probe
        if not isinstance(probe, NeuralFit):
            raise InputError(f"protocols: {name} measures no neural fit: name another protocol for fit, or null")
        about = evaluator.main.about
        if about["responses"] != store.path.stem:
            raise InputError(
                f"protocols: {name} fits {shown(about['responses'])}, the study is of {shown(store.path.stem)}: name a "
                "protocol of its responses, or null"
            )
        if lacking := [roi for (roi, _), one in self._labels.items() if one not in about["images"]]:
            raise InputError(f"protocols: {name} lacks area {shown(lacking[0])} of the study: add it to its rois")
        count = min([about["images"][one] for one in self._labels.values()], default=0)
        used = min(count, probe.settings.images)
        self.told = f"Fits are cross-validated over {used} images of {evaluator.protocol.spec.image_set}."

    def of(self, metrics: Mapping[str, float | None], area: str, subject: str) -> dict[str, float]:
        """`explained` (over the ceiling, where one is known), `rsa` and `cka` of a model.

        Args:
            metrics: of the model's evaluation under the protocol.
            area, subject: whose responses; "" means the mean over all of the study.
        """
        wanted = [one for (roi, whose), one in self._labels.items() if area in ("", roi) and subject in ("", whose)]
        found = {name: list(_known(metrics, endings, wanted)) for name, endings in NUMBERS.items()}
        return {name: float(np.mean(values)) for name, values in found.items() if values}


def _known(metrics: Mapping[str, float | None], names: Sequence[str], labels: Sequence[str]) -> Iterator[float]:
    for one in labels:
        values = (metrics.get(f"{name}{one}") for name in names)
        if (value := next((value for value in values if value is not None), None)) is not None:
            yield value
