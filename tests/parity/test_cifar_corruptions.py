"""Real images and networks under the 19 corruptions: errors known from a computation outside this project."""

import numpy as np
import pytest
import torch

from advalign.metrics.corruption_error import HEADLINE, benchmark_members
from advalign.tensors.corruptions.apply import corrupted
from advalign.tensors.corruptions.constants import NAMES
from tests.parity.networks import cifar, needs_cifar

pytestmark = [needs_cifar, pytest.mark.slow]
KNOWN = {
    "resnet20": {"noise": 0.48, "blur": 0.28, "weather": 0.18, "digital": 0.27},
    "resnet4b": {"noise": 0.21, "weather": 0.32},
}


@pytest.fixture(scope="module")
def versions():
    """(100, 95, 3, 32, 32) bytes."""
    _, images, _ = cifar("resnet20", 0, 100)
    return torch.from_numpy(corrupted((255 * images).round().byte().permute(0, 2, 3, 1).numpy())).permute(0, 1, 4, 2, 3)


@pytest.mark.parametrize("name", KNOWN)
@torch.no_grad()
def test_errors_by_category(versions, name):
    network, _, labels = cifar(name, 0, 100)
    predictions = torch.cat([network(one.float() / 255).argmax(1)[None] for one in versions])
    errors = (predictions != labels[:, None]).numpy().mean(0).reshape(len(NAMES), 5)
    found = {family: errors[members].mean() for family, members in benchmark_members().items()}
    for family, known in KNOWN[name].items():
        assert found[family] == pytest.approx(known, abs=0.04), family
    if name == "resnet20":
        assert errors[HEADLINE].mean() == pytest.approx(0.29, abs=0.02)
        assert (np.diff(errors[NAMES.index("contrast")]) > 0).all()
