"""Brain responses to the training images of the sample (their class, and noise), and to test images of data/cifar."""

import numpy as np
import pandas as pd

from advalign.data.classes import read_classes
from advalign.data.image_digests import image_digests
from advalign.data.response_writer import About, writing_responses
from advalign.data.sets.cifar import CifarImages
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


ANSWERED = 30


def cifar_images(project):
    """The image set `cifar` of a project."""
    return CifarImages.open(project, read_classes(project.data / "classes.yaml"))


def answer_cifar(project, name, gain=1.0, subjects=("one",)):
    """data/responses/NAME.h5: of every subject V4 to 30 test images, linear in their mean colours, and IT to 5, noise.

    Returns:
        Rows of the images in the image set `cifar`, and the responses.
    """
    known = cifar_images(project)
    order = np.random.default_rng(1).permutation(len(known))[:ANSWERED]
    digests = known.image_sha256(0, len(known))
    colours = known.split.pixels(0, len(known)).mean((2, 3)).double().numpy()[order]
    areas = (("V4", 0.5),) * 4 + (("IT", np.nan),) * 2
    units = pd.DataFrame(
        [(roi, subject, ceiling) for subject in subjects for roi, ceiling in areas],
        columns=["roi", "subject", "noise_ceiling"],
    )
    random = np.random.default_rng(2)
    betas = np.full((ANSWERED, len(units)), np.nan)
    for first in range(0, len(units), len(areas)):
        betas[:, first : first + 4] = gain * colours @ random.normal(size=(3, 4))
        betas[:5, first + 4 : first + 6] = random.normal(size=(5, 2))
    table = pd.DataFrame({"id": [f"i{row}" for row in order], "sha256": [digests[row] for row in order]})
    path = project.data / "responses" / f"{name}.h5"
    path.parent.mkdir(exist_ok=True)
    with writing_responses(path, About("simulated", "none"), table, units) as writer:
        writer.add_trials(np.arange(ANSWERED), betas, "validation", 0)
    return order, betas
