"""A project with a tiny drawn world, whose responses are simulated."""

import yaml

from advalign.data.sample.cifar_world import WorldSettings, generate_world
from advalign.files import Project

PARAMS = {
    "seed": 0,
    "stimuli": {},
    "train": {
        "images": "cifar", "size": 32, "epochs": 1, "batch_size": 16, "warmup": 0.5, "learning_rate": 4e-3,
        "flip": False, "threads": 1, "pictures": 0, "augmentation": "shift",
    },
    "recipes": {"baseline": {}, "guided": {"alpha": 0.9}},
    "trainings": {},
    "simulation": {
        "areas": {"V1": "gabor-energy", "V4": "second-order", "IT": "category-and-parts"},
        "units": 12, "ceiling": 0.9, "repeats": 4, "validation": 20,
    },
    "guidance": {
        "small": {
            "responses": "simulated", "areas": ["V1", "V4", "IT"], "seeds": 2, "control_seeds": 1,
            "shorter": [{"learning_rate": 1e-4}], "images": 6, "workers": 1,
            "protocols": {"l2": "norms", "linf": None, "geometry": "geometry-cifar", "fit": "fit-cifar"},
        }
    },
    "evaluate": {
        "protocol": "norms", "companions": [], "threads": 1, "shard_size": 40,
        "protocols": {
            "norms": {"attack": "fmn-fast", "image_set": "cifar", "settings": {"budget": "fast"}},
            "geometry-cifar": {"probe": "geometry", "image_set": "cifar", "settings": {"draws": 10}},
            "fit-cifar": {"probe": "neural-fit", "image_set": "cifar", "settings": {"responses": "simulated"}},
        },
    },
    "compare": {"bootstrap": 200},
}  # fmt: skip


def made(root, scale=0.05):
    """The project, with nothing in outputs."""
    generate_world(root / "data", WorldSettings(scale=scale))
    write_params(root)
    (root / "registry").mkdir(exist_ok=True)
    return Project(root)


def write_params(root, **changes):
    """PARAMS with other sections."""
    (root / "params.yaml").write_text(yaml.safe_dump({**PARAMS, **changes}))
