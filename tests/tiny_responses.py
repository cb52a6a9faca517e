"""Brain responses to the training images of the sample: their class, and noise."""

import numpy as np
import pandas as pd

from advalign.data.classes import read_classes
from advalign.data.image_digests import image_digests
from advalign.data.response_writer import About, writing_responses
from advalign.data.training_images import training_images
from advalign.settings import load_settings


def write_responses(project, name="brain", every=1, seed=0, provenance="simulated"):
    """data/responses/NAME.h5: 8 units of V4 and 4 of IT, two repeats of every n-th training image."""
    images = training_images(project, read_classes(project.data / "classes.yaml"), load_settings(project.root).train)
    known = image_digests(images).iloc[::every].reset_index(drop=True)
    random = np.random.default_rng(seed)
    of_class = random.normal(size=(known["label"].max() + 1, 12))
    table = known.assign(id=[f"image {number}" for number in range(len(known))])
    units = pd.DataFrame({"roi": ["V4"] * 8 + ["IT"] * 4, "subject": "A", "noise_ceiling": 0.8})
    path = project.data / "responses" / f"{name}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing_responses(path, About(provenance, "none"), table, units) as writer:
        for session in range(2):
            betas = of_class[known["label"]] + random.normal(size=(len(known), 12))
            writer.add_trials(np.arange(len(known)), betas, "train", session)
    return path
