"""What many tests share: a tiny project with generated sample data, made once per session."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import yaml
from sqlalchemy import event
from sqlalchemy.engine import Engine

from advalign import seals
from advalign.data.cifar import write_split
from advalign.data.classes import DECISIONS, read_classes
from advalign.data.sample.cifar_world import WorldSettings, images_of
from advalign.data.sample.generate import SampleSettings, generate_sample
from advalign.data.stimuli import freeze_stimuli, save_stimuli
from advalign.files import Project, replacing
from advalign.models.checkpoints import CARD, save_checkpoint
from advalign.settings import load_settings
from advalign.tensors.corruptions.constants import NAMES

REPOSITORY = Path(__file__).parents[1]
REFERENCE = REPOSITORY.parent / "shared" / "reference"
"""Real networks, images and tables; not everybody has them: a test that reads them is skipped where they are absent."""


@event.listens_for(Engine, "connect")
def _write_later(opened, _):
    """No test cuts the power: SQLite need not wait for the disk, as it does several times for whatever MLflow logs."""
    if isinstance(opened, sqlite3.Connection):
        opened.execute("pragma synchronous = off")


@pytest.fixture(autouse=True)
def emptied(request):
    """Remove what a passing test wrote: 3 GB in all. Its folder stays: MLflow remembers stores by path."""
    folder = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    failed = request.session.testsfailed
    yield
    if folder is not None and request.session.testsfailed == failed:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)


@pytest.fixture(scope="session", autouse=True)
def state(tmp_path_factory):
    """Locks of tracking servers, which come and go with the tests, lie in no user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def sample_root(tmp_path_factory):
    """A project folder: the repository's params.yaml cut down to tiny data, its zoo, and the sample at scale 0.01.

    It is shared by all tests of a session: read it, or write only below outputs/; whoever breaks something copies it.
    """
    root = tmp_path_factory.mktemp("sample")
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["stimuli"] |= {"categories_per_superclass": 3, "images_per_category": 2}
    params["train"] |= {"batch_size": 16, "epochs": 1, "threads": 1}  # two of them would mostly wait for each other
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (root / "registry").mkdir()
    shutil.copy(REPOSITORY / "registry" / "zoo.yaml", root / "registry")
    generate_sample(root / "data", SampleSettings(scale=0.01))
    return root


@pytest.fixture
def project(sample_root):
    """The tiny project (shared: see `sample_root`)."""
    return Project(sample_root)


def with_stimuli(sample_root, root):
    """A copy of the tiny project with its stimuli frozen."""
    shutil.copytree(sample_root, root)
    project = Project(root)
    settings = load_settings(root)
    save_stimuli(project, freeze_stimuli(project, settings.stimuli, settings.seed))
    return project


def with_cifar(project):
    """The project with the splits of the drawn 32x32 world in its data/, tiny; the classes stay as they are."""
    for split in ("train", "test", "swapped"):
        with replacing(project.data / "cifar" / f"{split}.parquet") as path:
            write_split(path, images_of(split, WorldSettings(scale=0.01)))
    return project


def write_cifar_c(folder, labels, seed=0):
    """CIFAR-10-C's files in a folder, of noise: an array per corruption, and five times the labels."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (5 * len(labels), 32, 32, 3), np.uint8)
    for shift, name in enumerate(NAMES):
        np.save(folder / f"{name}.npy", noise + np.uint8(shift))
    np.save(folder / "labels.npy", np.tile(labels, 5).astype(np.uint8))
    return folder


def edit_card(folder, remove=(), **changes):
    """Change a checkpoint's card as this program writes it, and remove some keys."""
    card = seals.read_json(folder / CARD, "") | changes
    seals.write_json(folder / CARD, {key: value for key, value in card.items() if key not in remove})


def save_untrained(project, name, classifier, **described):
    """A checkpoint of a test_resnet as it is, under a published name; `described` overrides what its card says."""
    classes = read_classes(project.data / "classes.yaml")
    card = {
        "name": name,
        "architecture": "test_resnet",
        "arguments": {},
        "classes": [{"wnid": one.wnid, "name": one.name, "decision": int(one.animate)} for one in classes.entries],
        "decisions": DECISIONS,
        "recipe": "baseline",
        "settings": {},
        "seed": 0,
        "inputs_sha256": "0",
        "data_md5": None,
        "metrics": {},
        **described,
    }
    return save_checkpoint(project.checkpoints / name, classifier, card)
