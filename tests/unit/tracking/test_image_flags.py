"""Images through JPEG, and masks of a model's own saliency, are flags that a promotion is refused for."""

import pandas as pd
import pytest

from advalign.data.cifar import image_flags
from advalign.data.sets.stimuli import load_stimuli
from advalign.settings import load_settings
from advalign.tracking.registry.evidence import read_evidence
from advalign.tracking.results import Published
from advalign.tracking.store import open_store
from advalign.workflows.publish import publish_checkpoint, publish_evaluation
from tests.registered import evaluate, make_project, save_version

NAME = "test_resnet.baseline"


@pytest.mark.parametrize(
    ("columns", "flags"),
    [
        ({"lossy": [False, False], "mask_source": ["generator", ""]}, ()),
        ({"lossy": [False, True], "mask_source": ["user", "user"]}, ("lossy-images",)),
        ({"lossy": [True, True], "mask_source": ["", "own-cam"]}, ("lossy-images", "own-cam-masks")),
        ({"stimulus": ["a", "b"]}, ()),
    ],
)
def test_flags_of_rows(columns, flags):
    assert image_flags(pd.DataFrame(columns)) == flags


@pytest.mark.parametrize(
    ("columns", "flags"),
    [
        ({"lossy": True, "mask_source": "own-cam"}, ("lossy-images", "own-cam-masks")),
        ({"flags": "stochastic,zero-gradients"}, ("stochastic", "zero-gradients")),
        ({"predicted": {"lossy": True, "flags": "train-mode"}}, ("train-mode", "lossy-images")),
    ],
)
def test_the_evidence_of_a_promotion_has_them(columns, flags, sample_root, tmp_path):
    """Those of rows and of the companions' rows; test_gates.py shows that any flag fails the gate, under `also` too."""
    project = make_project(sample_root, tmp_path / "project")
    store, settings = open_store(project), load_settings(project.root).evaluate
    publish_checkpoint(project, store, save_version(project, NAME, 0), Published())
    summary = evaluate(project, NAME, pt=0.5, aa=0.25, accuracy=0.8, **columns)
    publish_evaluation(project, store, summary, load_stimuli(project), Published())
    evidence = read_evidence(store, store.client.get_model_version(NAME, "1"), "fmn-fast", settings)
    assert evidence.flags == flags
