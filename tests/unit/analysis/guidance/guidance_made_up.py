"""A made-up study: norms of every arm are a level plus what seeds and images add, so that differences are known."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from advalign.analysis.guidance.measured import Results

IMAGES = 40
ROLES = {"none": "none", "code": "class-code"}


def study(
    levels: Mapping[str, float],
    *,
    areas: tuple[str, ...] = ("V1", "V4", "IT"),
    seeds: int = 5,
    noise: float = 0.01,
    accuracy: Mapping[str, float] | None = None,
    subjects: tuple[str, ...] = ("",),
    **more: object,
) -> Results:
    """Arms by name: "none", "code", "V1", "V1 shuffled", "V1 degraded", "none 2 epochs", anything else is other.

    Args:
        levels: arm -> its mean norm; an arm that an area guides is there once per subject.
        noise: standard deviation of what an arm and a seed add to all images.
        accuracy: arm -> accuracy; .9 where it is not named.
    """
    random = np.random.default_rng(3)
    images = random.uniform(-0.2, 0.2, IMAGES)
    models, norms = [], []
    for arm, level in levels.items():
        area = arm.partition(" ")[0] if arm.partition(" ")[0] in areas else ""
        ending = arm.partition(" ")[2]
        role = (
            {"": "area", "shuffled": "shuffled", "degraded": "degraded", "within": "shuffled-within-class"}[ending]
            if area
            else ROLES.get(arm, "shorter" if arm.startswith("none") else "other")
        )
        for subject in subjects if area else ("",):
            for seed in range(seeds):
                share = (accuracy or {}).get(arm, 0.9)
                models.append(
                    {"arm": arm, "role": role, "area": area, "subject": subject, "seed": seed, "accuracy": share}
                )
                values = level + random.normal(0, noise) + images
                norms += [
                    {
                        "arm": arm,
                        "subject": subject,
                        "seed": seed,
                        "image": f"i{place:03}",
                        "l2": value,
                        "linf": value * 10,
                    }
                    for place, value in enumerate(values)
                ]
    return Results(pd.DataFrame(models), pd.DataFrame(norms), areas, "simulated", **more)  # type: ignore[arg-type]


GOOD = {
    "none": 1.0, "code": 1.2, "V1": 1.3, "V4": 1.5, "IT": 1.7,
    "V1 shuffled": 1.0, "V4 shuffled": 1.0, "IT shuffled": 1.0,
}  # fmt: skip
"""All areas help, and the more the higher they are."""
