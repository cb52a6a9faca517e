"""What many tests share: a tiny project with generated sample data, made once per session."""

import shutil
from pathlib import Path

import pytest
import yaml

from advalign.data.sample.generate import SampleSettings, generate_sample
from advalign.files import Project

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def sample_root(tmp_path_factory):
    """A project folder: the repository's params.yaml cut down to tiny data, its zoo, and the sample at scale 0.01.

    It is shared by all tests of a session: read it, or write only below outputs/; whoever breaks something copies it.
    """
    root = tmp_path_factory.mktemp("sample")
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["stimuli"] |= {"categories_per_superclass": 3, "images_per_category": 2}
    params["train"] |= {"batch_size": 16, "epochs": 1}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (root / "registry").mkdir()
    shutil.copy(REPOSITORY / "registry" / "zoo.yaml", root / "registry")
    generate_sample(root / "data", SampleSettings(scale=0.01))
    return root


@pytest.fixture
def project(sample_root):
    """The tiny project (shared: see `sample_root`)."""
    return Project(sample_root)
