"""Networks without their mean and std, stimuli labelled with classes, the 2023 map: from image set to comparison."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from advalign.analysis.comparison import compare
from advalign.attacks.fmn import FastMinimumNorm
from advalign.data.classes import read_classes
from advalign.data.sets.base import Items
from advalign.data.sets.stimuli import load_stimuli
from advalign.data.sets.stimuli_classes import StimulusClasses
from advalign.evaluation.campaign import Campaign, TrainedModel
from advalign.evaluation.engines.local import local
from advalign.evaluation.protocols import protocol
from advalign.evaluation.runner import Evaluator
from advalign.metrics.base import AttackedShard
from advalign.metrics.mean_map_alignment import MeanMapAlignment
from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.zoo import create_classifier
from advalign.probes.base import Conditions, Model
from advalign.probes.minimum_norm import MinimumNormProbe
from advalign.probes.minimum_norm_unnormalised import UnnormalisedMinimumNorm
from advalign.settings import load_settings
from advalign.tensors.ranks import average_ranks
from tests.conftest import save_untrained, with_stimuli

torch.set_num_threads(1)
NAME = "test_resnet.baseline"


def test_the_network_gets_pixels_as_they_are_and_the_model_keeps_its_normalisation():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 5)).eval().requires_grad_(False)
    classifier = Classifier(network, Preprocessing(input_size=4, mean=(0.9, 0.1, 0.5), std=(0.2, 0.1, 0.3))).eval()
    pixels = 0.3 + 0.4 * torch.rand(20, 3, 4, 4)
    bare, normalised = network(pixels), classifier(pixels)
    assert not torch.equal(bare.argmax(1), normalised.argmax(1)), "the two must differ for this to say anything"
    items = Items(pd.DataFrame({"stimulus": range(20)}), bare.argmax(1), lambda _: pixels)
    model = Model("linear", classifier, None, "cpu")
    attack = FastMinimumNorm(FastMinimumNorm.Settings(steps=60))
    without = UnnormalisedMinimumNorm(attack=attack).measure(model, items, Conditions()).rows
    with_ = MinimumNormProbe(attack=attack).measure(model, items, Conditions()).rows
    assert without["clean_prediction"].tolist() == bare.argmax(1).tolist()
    assert "misclassified_clean" not in set(without["status"])
    assert with_["clean_prediction"].tolist() == normalised.argmax(1).tolist()
    margins = bare[:, :, None] - bare[:, None, :]
    weight = network[1].weight
    apart = (weight[:, None] - weight[None]).norm(dim=2)
    right = bare.argmax(1)
    nearest = [(margins[n, y] / apart[y]).nan_to_num(nan=math.inf).min().item() for n, y in enumerate(right)]
    inside = [wall < 0.9 for wall in nearest]  # so near that no pixel meets its bounds
    assert sum(inside) >= 5
    assert without["norm_l2"][inside].tolist() == pytest.approx(np.array(nearest)[inside].tolist(), rel=0.03)
    assert torch.equal(classifier(pixels), normalised)


def test_the_2023_map_is_the_size_of_the_mean_over_channels():
    generator = torch.Generator().manual_seed(0)
    perturbations = torch.randn(3, 3, 6, 6, generator=generator)
    perturbations[2] = torch.tensor([1.0, -0.5, -0.5])[:, None, None]  # the channels cancel: a constant map
    maps = torch.rand(3, 6, 6, generator=generator)
    found = MeanMapAlignment().measure(AttackedShard(perturbations, {"human_ranks": average_ranks(maps.flatten(1))}))
    wanted = [
        spearmanr(np.abs(one.mean(0)).ravel(), human.ravel()).statistic
        for one, human in zip(perturbations.double().numpy()[:2], maps.numpy(), strict=False)
    ]
    assert found["rho_mean"][:2].tolist() == pytest.approx(wanted, abs=1e-9)
    assert found["rho_mean"][2].isnan()


def test_only_the_2023_protocols_have_the_2023_map():
    extra = "mean-map-alignment"
    inherited = set(protocol("fmn-fast").spec.metrics)
    assert extra not in inherited
    assert set(protocol("linsley2023-published").spec.metrics) == inherited | {extra}


@pytest.fixture(scope="module")
def project(sample_root, tmp_path_factory):
    return with_stimuli(sample_root, tmp_path_factory.mktemp("linsley") / "project")


def test_stimuli_are_labelled_with_classes(project):
    plain = load_stimuli(project)
    classes = StimulusClasses.open(project, read_classes(project.data / "classes.yaml"))
    items = classes.items(3, 9, 0)
    assert items.labels.tolist() == plain.manifest["class_index"].tolist()[3:9] == items.table["label"].tolist()
    assert len(set(classes.labels.tolist())) == 36
    assert torch.equal(items.pixels(lambda _: torch.zeros(0)), plain.images[3:9])
    assert classes.digest != plain.digest
    assert classes.listing()["label"].tolist() == plain.manifest["class_index"].tolist()


def test_an_evaluation_is_of_classes_and_is_compared(project):
    """A network that was made to know some of ten stimuli by heart: every step from the frozen images to the table."""
    classes = StimulusClasses.open(project, read_classes(project.data / "classes.yaml"))
    classifier = create_classifier("test_resnet", 36, 64, seed=0)
    images, labels = classes.images[:10], classes.labels[:10]
    optimiser = torch.optim.Adam(classifier.network.parameters(), 3e-3)
    classifier.network.eval()
    for _ in range(25):
        optimiser.zero_grad()
        nn.functional.cross_entropy(classifier.network(images), labels).backward()
        optimiser.step()
    save_untrained(project, NAME, classifier.eval())
    settings = load_settings(project.root)
    changes = {"protocol": "linsley2023-sphere", "companions": [], "metrics": [], "shard_size": 10, "threads": 1}
    settings = settings.model_copy(update={"evaluate": settings.evaluate.model_copy(update=changes)})
    evaluator = Evaluator(project, settings, limit=10)
    sources = [TrainedModel(project.checkpoints / NAME)]
    assert [outcome.state for outcome in Campaign(evaluator, sources, local(1)).run()] == ["evaluated"]
    rows = pd.read_parquet(evaluator.paths(NAME).rows)
    with torch.no_grad():
        bare = classifier.network(images).argmax(1)
    assert rows["label"].tolist() == labels.tolist()
    assert rows["clean_prediction"].tolist() == bare.tolist()
    right = bare == labels
    assert 3 <= right.sum() < 10
    assert (rows["status"] != "misclassified_clean").tolist() == right.tolist()
    told = json.loads(evaluator.paths(NAME).summary.read_text())["metrics"]
    valid = rows[rows["status"] == "ok"]
    assert told["adversarial_human_alignment_mean_map_raw"] == pytest.approx(valid["rho_mean"].mean())
    assert told["perturbation_tolerance"] == pytest.approx(valid["norm_l2"].mean())
    table, statistics = compare(project, settings, "linsley2023-sphere.first10")
    assert table["model"].tolist() == [NAME]
    assert table["pt"][0] == pytest.approx(valid["norm_l2"].mean())
    assert statistics["left_out"] == []
