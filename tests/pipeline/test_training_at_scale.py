"""The command that trains a published model, on ImageNet's layout with ClickMe's shards, in miniature."""

import json
import shutil

import pandas as pd
import pytest
import yaml

from tests.pipeline.conftest import typed

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

ALL = {
    "images": "imagenet", "augmentation": "crop", "color_jitter": 0.2, "crop": 0.875, "blur_maps": True, "mixup": 0.2,
    "optimiser": "lamb", "schedule": "cosine", "ema": 0.9, "accumulate": 2, "workers": 2, "threads": 1, "epochs": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def imagenet(sample_root, tmp_path_factory):
    """The tiny project, its validation images imported as ImageNet's training folder too."""
    root = tmp_path_factory.mktemp("imagenet") / "project"
    shutil.copytree(sample_root, root, ignore=shutil.ignore_patterns("outputs", "ml*", ".ml*"))
    labels = pd.read_csv(root / "data/imagenet/labels.csv")
    for image, wnid in labels.itertuples(index=False):
        (root / "copy" / wnid).mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "data/imagenet/val" / image, root / "copy" / wnid)
    done = typed(root, "data", "import", "imagenet", "copy", "--split", "train")
    assert done.returncode == 0, done.stderr
    return root


def test_all_settings_at_once(imagenet):
    changes = [word for name, value in ALL.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    done = typed(imagenet, "train", "combined", "--eps", "0.5", *changes, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["name"], told["trained"]) == ("test_resnet_l2_eps0.5.combined", True)
    folder = imagenet / told["checkpoint"]
    card = json.loads((folder / "card.json").read_text())
    identity = {name: value for name, value in ALL.items() if name != "workers"}  # it changes nothing in the weights
    assert card["settings"]["train"].items() >= identity.items()
    assert card["preprocessing"]["crop"] == 0.875
    history = pd.read_csv(folder / "history.csv")
    records, images = 144, len(pd.read_csv(imagenet / "data/imagenet/labels.csv"))
    assert history["step"].tolist() == [(records + images) // 16 * epoch for epoch in (1, 2)]
    assert (history["loss"] > history["cross_entropy"]).all()  # the map term, of the images that have maps


def test_a_published_entry_is_trained_by_its_name(imagenet):
    """registry/trainings.yaml says size, optimiser, images; typed values replace single ones."""
    (imagenet / "registry/trainings.yaml").write_text(
        yaml.safe_dump(
            {
                "trainings": {
                    "test_resnet_linf_eps2_255": {
                        "model": "test_resnet",
                        "recipe": "robust",
                        "train": {"images": "imagenet", "size": 32, "optimiser": "momentum", "epochs": 90},
                        "overrides": {"constraint": "linf", "eps": "2/255", "steps": 1, "ramp": 0.0},
                    }
                }
            }
        )
    )
    words = ("train", "robust", "--constraint", "linf", "--eps", "2/255")
    done = typed(imagenet, *words, "--epochs", "1", "--set", "threads=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("settings: registry/trainings.yaml\ntest_resnet_linf_eps2_255: trained")
    card = json.loads((imagenet / "outputs/runs/test_resnet_linf_eps2_255/card.json").read_text())
    used = card["settings"]["train"]
    assert (used["images"], used["size"], used["optimiser"], used["epochs"]) == ("imagenet", 32, "momentum", 1)
    assert card["settings"]["recipe"]["eps"] == pytest.approx(2 / 255)
    assert card["preprocessing"]["input_size"] == 32
    other = typed(imagenet, "train", "robust", "--eps", "0.3", "--dry-run")
    assert "params.yaml (registry/trainings.yaml lists other trainings of test_resnet)" in other.stdout
