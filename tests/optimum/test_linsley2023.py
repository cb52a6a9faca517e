"""The 2023 attack in closed form: what three steps reach on a linear classifier, and which eps bisection ends at."""

import math

import numpy as np
import pytest
import torch

from advalign.attacks.linsley2023 import Linsley2023
from advalign.errors import InputError
from advalign.evaluation.protocols import protocol

torch.set_num_threads(1)

SIDE = 48
STEPS, STEP = 3, 0.5
REACHES = {"published": lambda eps: STEPS * (STEP + eps), "sphere": lambda eps: eps}  # where the box is out of reach
CASES = {"published": [0.2, 1.5, 1.6, 2.9, 4.4, 4.6, 12.0, 31.0], "sphere": [0.005, 0.3, 0.98, 1.02, 4.0, 9.95]}


def attack(variant, **settings):
    return Linsley2023(Linsley2023.Settings(variant=variant, **settings))


def hyperplane(scale=1.0):
    """A unit normal with entries of one size, and the classifier scale * normal . (x - 0.5) as two logits."""
    signs = torch.randint(0, 2, (3 * SIDE * SIDE,), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    normal = signs / signs.norm()

    def classifier(images):
        side = scale * ((images.flatten(1) - 0.5) @ normal)
        return torch.stack([-side, side], 1)

    return normal, classifier


def placed(distances, normal):
    """Images at these distances from the plane, and their class."""
    images = torch.stack([0.5 + distance * normal for distance in distances]).reshape(-1, 3, SIDE, SIDE)
    assert images.min() >= 0
    assert images.max() <= 1
    return images, torch.ones(len(distances), dtype=torch.int64)


def bisected(flips):
    """The smallest eps found by halving, as the released code does it."""
    low, high, precision = (0.001, 1.0, 0.01) if flips(1.0) else (1.0, 10.0, 0.1)
    while high - low >= precision:
        middle = low + (high - low) / 2
        low, high = (low, middle) if flips(middle) else (middle, high)
    return high


@pytest.mark.parametrize("variant", REACHES)
def test_norms_on_a_linear_classifier_are_those_of_the_formula(variant):
    normal, classifier = hyperplane()
    distances, reach = CASES[variant], REACHES[variant]
    images, labels = placed(distances, normal)
    result = attack(variant).run(classifier, images, labels)
    assert result.status == ["ok"] * len(distances)
    eps = [bisected(lambda tried, wall=wall: reach(tried) > wall) for wall in distances]
    assert result.norms.tolist() == pytest.approx([reach(one) for one in eps], rel=1e-5, abs=3e-6)
    moved = (images - result.adversarials).flatten(1) @ normal
    torch.testing.assert_close(moved.double(), result.norms, rtol=1e-4, atol=0)  # straight at the plane
    # 9 values of eps, 3 gradients and a look each; the clean image and the verification
    assert result.queries.tolist() == [1 + 9 * 4 + 1] * len(distances)


@pytest.mark.parametrize("variant", REACHES)
def test_eps_is_found_to_the_precision_of_its_range(variant):
    normal, classifier = hyperplane()
    images, labels = placed(CASES[variant], normal)
    norms = attack(variant).run(classifier, images, labels).norms.tolist()
    slope = STEPS if variant == "published" else 1
    for norm, distance in zip(norms, CASES[variant], strict=True):
        least = (distance - REACHES[variant](0)) / slope
        excess = (norm - REACHES[variant](0)) / slope - max(least, 0.001)
        assert 0 <= excess < (0.01 if least < 1 else 0.1), (distance, norm)


def test_the_published_variant_has_a_floor_of_three_half_steps():
    normal, classifier = hyperplane()
    images, labels = placed([0.001, 0.1, 1.0, 1.5], normal)
    smallest = 0.001 + 0.999 / 2**7  # eps that bisection tries last
    result = attack("published").run(classifier, images, labels)
    assert result.norms.tolist() == pytest.approx([1.5 + 3 * smallest] * 4, rel=1e-5)
    assert attack("sphere").run(classifier, images[:1], labels[:1]).norms.tolist() == pytest.approx(
        [smallest], rel=3e-4
    )


@pytest.mark.parametrize(("variant", "within", "beyond"), [("published", 31.4, 31.6), ("sphere", 9.99, 10.01)])
def test_what_the_largest_eps_does_not_flip_is_a_failure(variant, within, beyond):
    normal, classifier = hyperplane()
    images, labels = placed([within, beyond], normal)
    result = attack(variant).run(classifier, images, labels)
    assert result.status == ["ok", "attack_failed"]
    assert math.isnan(result.norms[1])
    assert float(result.largest_tried[1]) == pytest.approx(REACHES[variant](10.0), rel=1e-5)
    assert result.queries.tolist()[1] == 1 + 4 + 1  # no other eps is tried, and no perturbation is stretched


def test_images_that_are_wrong_already_are_not_attacked():
    normal, classifier = hyperplane()
    images, labels = placed([0.3, 0.3], normal)
    result = attack("published").run(classifier, images, torch.stack([labels[0], 1 - labels[1]]))
    assert result.status == ["ok", "misclassified_clean"]
    assert result.queries.tolist()[1] == 1
    assert torch.equal(result.adversarials[1], images[1])


@pytest.mark.parametrize("variant", REACHES)
def test_the_box_clips_every_step(variant):
    """Images in corners of the box, against loops in float64: below the floor, since clipping shortens."""
    size = 3 * 8 * 8
    rng = np.random.default_rng(1)
    normal = rng.normal(size=size)
    normal /= np.linalg.norm(normal)
    images = rng.integers(0, 2, (24, size)).astype(np.float64)
    sides = np.where((images - 0.5) @ normal > 0, 1, -1)

    def stepped(image, side, eps):
        point = image
        for _ in range(STEPS):
            along = point - STEP * side * normal
            away = (along - image) / np.linalg.norm(along - image)
            point = np.clip((along if variant == "published" else image) + eps * away, 0, 1)
        return point

    norms = []
    for image, side in zip(images, sides, strict=True):
        flips = lambda eps, image=image, side=side: (stepped(image, side, eps) - 0.5) @ normal * side < 0  # noqa: E731
        norms.append(np.linalg.norm(stepped(image, side, bisected(flips)) - image) if flips(10.0) else np.nan)

    def classifier(points):
        side = (points.flatten(1) - 0.5) @ torch.tensor(normal, dtype=torch.float32)
        return torch.stack([-side, side], 1)

    inputs, labels = torch.tensor(images, dtype=torch.float32).reshape(-1, 3, 8, 8), torch.tensor((sides + 1) // 2)
    result = attack(variant).run(classifier, inputs, labels)
    assert result.norms.tolist() == pytest.approx(norms, rel=1e-3, nan_ok=True)
    assert np.isfinite(norms).sum() >= 12
    if variant == "published":
        assert np.nanmin(norms) < STEPS * STEP


def test_a_confident_network_s_tiny_gradient_still_gives_whole_steps():
    normal, plain = hyperplane()
    _, confident = hyperplane(scale=40.0)  # margins of 40 and more: gradients below 1e-16
    images, labels = placed([0.5, 0.8], normal)
    expected = attack("published").run(plain, images, labels)
    result = attack("published").run(confident, images, labels)
    torch.testing.assert_close(result.norms, expected.norms, rtol=1e-4, atol=0)


def test_two_protocols_are_settings_of_one_attack():
    published, sphere = protocol("linsley2023-published"), protocol("linsley2023-sphere")
    assert published.attack.settings == Linsley2023.Settings() == protocol("linsley2023").attack.settings
    assert sphere.attack.settings == Linsley2023.Settings(variant="sphere")
    assert published.sha256 != sphere.sha256
    assert not published.minimum_norm
    for one in (published, sphere):
        assert (one.spec.probe, one.spec.image_set) == ("minimum-norm-unnormalised", "stimuli-classes")
    with pytest.raises(InputError, match=r"'linsley2023-cube': variant: .*'published' or 'sphere'") as caught:
        protocol("linsley2023-cube")
    assert "\n" not in str(caught.value)
