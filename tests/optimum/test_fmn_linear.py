"""FMN against linear classifiers, whose smallest perturbations are known: a formula, a bisection, an exact small QP."""

import numpy as np
import pytest
import torch
from scipy import optimize

from advalign.attacks.base import Status
from advalign.evaluation.protocols import protocol
from advalign.models.superclasses import GroupedClassifier

torch.set_num_threads(1)

SHAPE = (3, 4, 4)
SIZE = 48
COUNT = 48
BELOW = 1e-5  # how far under the optimum a norm may lie: float32
# name, largest ratio to the optimum, least success rate
PROTOCOLS = [("fmn-fast", 1.005, 1.0), ("fmn-fast-fast", 1.005, 1.0), ("fmn", 1.005, 1.0), ("fmn-100", 1.02, 0.95)]
each_protocol = pytest.mark.parametrize(("name", "above", "success"), PROTOCOLS)


def linear(weights, bias):
    """Logits of flattened images, (K, P) weights and (K,) bias in float32."""
    weights, bias = torch.tensor(weights).float(), torch.tensor(bias).float()
    return lambda images: images.flatten(1) @ weights.T + bias


def binary(seed, images, scale=1.0):
    """A hyperplane through the middle of the images: its classifier, normal, signed distances and labels."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=SIZE).astype(np.float32).astype(np.float64)
    normal /= np.linalg.norm(normal)
    bias = -normal @ images.reshape(len(images), -1).mean(0) + 0.05 * rng.normal()
    distance = images.reshape(len(images), -1).astype(np.float64) @ normal + bias
    classifier = linear(np.stack([0 * normal, scale * normal]), [0.0, scale * bias])
    return classifier, normal, distance, torch.tensor((distance > 0).astype(np.int64))


def pictures(kind, seed, count=COUNT):
    """(N, 3, 4, 4) images well inside the box, anywhere in it, or at its corners."""
    rng = np.random.default_rng(seed)
    if kind == "corners":
        return rng.integers(0, 2, (count, *SHAPE)).astype(np.float32)
    low, high = (0.35, 0.65) if kind == "inside" else (0.0, 1.0)
    return rng.uniform(low, high, (count, *SHAPE)).astype(np.float32)


def boxed_optimum(image, normal, distance):
    """Smallest ||d|| with normal . d = -distance and image + d in [0, 1]: d = clip(-lambda g), lambda by bisection."""
    image, g = image.ravel().astype(np.float64), normal * np.sign(distance)

    def step(multiplier):
        return np.clip(-multiplier * g, -image, 1 - image)

    low, high = 0.0, 1e6
    assert abs(distance) + g @ step(high) < 0, "the box does not reach the boundary"
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if abs(distance) + g @ step(middle) > 0 else (low, middle)
    return float(np.linalg.norm(step(high)))


def polytope_optimum(normals, gaps):
    """Smallest ||d|| with normals @ d >= gaps: least distance programming as NNLS (Lawson and Hanson, chapter 23)."""
    system = np.vstack([normals.T, gaps])
    target = np.zeros(len(system))
    target[-1] = 1.0
    weights, _ = optimize.nnls(system, target)
    residual = system @ weights - target
    return float(np.linalg.norm(residual[:-1] / residual[-1]))


def check(result, optimum, above, success):
    """Enough were found, none below the optimum, none far above it (`above` None: the search is greedy there)."""
    found = np.array([status is Status.OK for status in result.status])
    assert Status.MISCLASSIFIED_CLEAN not in result.status
    assert found.mean() >= success, f"{(~found).sum()} of {len(found)} attacks failed although the optimum exists"
    norms = result.norms.numpy()
    assert (norms[found] >= optimum[found] - BELOW).all()
    if above is not None:
        assert (norms[found] <= optimum[found] * above + BELOW).all()


def test_the_references_agree_with_a_general_solver():
    images = pictures("corners", 3, 4)
    _, normal, distance, _ = binary(3, images)
    for image, length in zip(images, distance, strict=True):
        flat, reach = image.ravel().astype(np.float64), normal * np.sign(length)
        solved = optimize.minimize(
            lambda d: d @ d,
            np.where(reach > 0, -flat, 1 - flat) / 2,
            jac=lambda d: 2 * d,
            bounds=list(zip(-flat, 1 - flat, strict=True)),
            constraints={
                "type": "ineq",
                "fun": lambda d, r=reach, at=length: -r @ d - abs(at),
                "jac": lambda d, r=reach: -r,
            },
            method="SLSQP",
            options={"ftol": 1e-12, "maxiter": 500},
        )
        assert solved.success
        assert boxed_optimum(image, normal, length) == pytest.approx(np.sqrt(solved.fun), rel=1e-4)
    assert polytope_optimum(np.array([[3.0, 4.0]]), np.array([10.0])) == pytest.approx(2.0)
    assert polytope_optimum(np.eye(2), np.array([3.0, 4.0])) == pytest.approx(5.0)


@each_protocol
@pytest.mark.parametrize("seed", range(3))
def test_binary_where_the_box_is_inactive(name, above, success, seed):
    images = pictures("inside", seed)
    classifier, _, distance, labels = binary(seed, images)
    result = protocol(name).attack.run(classifier, torch.tensor(images), labels)
    check(result, np.abs(distance), above, success)


@each_protocol
@pytest.mark.parametrize("kind", ["anywhere", "corners"])
@pytest.mark.parametrize("seed", range(2))
def test_binary_where_the_box_is_active(name, above, success, kind, seed):
    images = pictures(kind, seed)
    classifier, normal, distance, labels = binary(seed, images)
    optimum = np.array([boxed_optimum(*row, at) for *row, at in zip(images, [normal] * COUNT, distance, strict=True)])
    if kind == "corners":
        assert np.mean(optimum / np.abs(distance)) > 1.2, "the box must matter for this test to say anything"
    result = protocol(name).attack.run(classifier, torch.tensor(images), labels)
    check(result, optimum, above, success)


def test_the_scale_of_the_logits_does_not_matter():
    images = pictures("inside", 7)
    for scale in (1e-3, 1.0, 1e3):
        classifier, _, distance, labels = binary(7, images, scale)
        check(protocol("fmn").attack.run(classifier, torch.tensor(images), labels), np.abs(distance), 1.005, 1.0)


def test_an_image_close_to_the_boundary():
    images = pictures("inside", 11)
    _, normal, distance, _ = binary(11, images)
    wanted = np.geomspace(1e-3, 0.3, COUNT)  # move every image along the normal to a settled distance
    moved = (images.reshape(COUNT, -1) + np.outer(wanted - distance, normal)).astype(np.float32)
    bias = np.mean(distance - images.reshape(COUNT, -1) @ normal)
    exact = moved.astype(np.float64) @ normal + bias
    classifier = linear(np.stack([0 * normal, normal]), [0.0, bias])
    result = protocol("fmn").attack.run(
        classifier, torch.tensor(moved).reshape(COUNT, *SHAPE), torch.ones(COUNT, dtype=torch.int64)
    )
    check(result, exact, 1.005, 1.0)


def many_classes(seed, classes, orthonormal):
    """A linear model with its images, predictions and logits in float64."""
    rng = np.random.default_rng(seed)
    images = pictures("inside", seed)
    weights = rng.normal(size=(SIZE, classes))
    weights = (np.linalg.qr(weights)[0] if orthonormal else weights / np.sqrt(SIZE)).T
    weights = weights.astype(np.float32).astype(np.float64)
    flat = images.reshape(COUNT, -1).astype(np.float64)
    bias = -weights @ flat.mean(0)
    logits = flat @ weights.T + bias
    return linear(weights, bias), torch.tensor(images), weights, logits


@each_protocol
def test_many_classes_reach_the_closest_hyperplane(name, above, success):
    """Rows of equal length and right angles: the nearest hyperplane is the runner-up's, |z_y - z_k| / sqrt(2) away."""
    classifier, images, _, logits = many_classes(0, 6, orthonormal=True)
    ordered = np.sort(logits, axis=1)
    optimum = (ordered[:, -1] - ordered[:, -2]) / np.sqrt(2)
    result = protocol(name).attack.run(classifier, images, torch.tensor(logits.argmax(1)))
    check(result, optimum, above, success)


def test_many_classes_of_any_shape_never_beat_the_closest_hyperplane():
    classifier, images, weights, logits = many_classes(1, 5, orthonormal=False)
    labels = logits.argmax(1)
    optimum = np.array(
        [
            min((row[y] - row[k]) / np.linalg.norm(weights[y] - weights[k]) for k in range(5) if k != y)
            for row, y in zip(logits, labels, strict=True)
        ]
    )
    result = protocol("fmn").attack.run(classifier, images, torch.tensor(labels))
    check(result, optimum, None, 1.0)  # a greedy search may end at another hyperplane than the closest one ...
    assert np.median(result.norms.numpy() / optimum) < 1.005  # ... but seldom does


@each_protocol
def test_groups_reach_the_closest_pair_across_groups(name, above, success):
    """A group flips where one class of the other group passes every class of the right one: a small exact QP each."""
    groups = np.array([0, 0, 0, 1, 1, 1])
    classifier, images, weights, logits = many_classes(2, 6, orthonormal=True)
    decision = groups[logits.argmax(1)]
    optimum, closest_pair = np.empty(COUNT), np.empty(COUNT)
    for number, (row, own) in enumerate(zip(logits, decision, strict=True)):
        mine, others = np.flatnonzero(groups == own), np.flatnonzero(groups != own)
        optimum[number] = min(polytope_optimum(weights[k] - weights[mine], row[mine] - row[k]) for k in others)
        closest_pair[number] = (row[mine].max() - row[others].max()) / np.sqrt(2)
    simple = np.isclose(optimum, closest_pair, rtol=1e-6)  # one pair decides: the formula holds and no kink is met
    assert simple.sum() >= 20
    assert (optimum >= closest_pair - 1e-9).all()
    grouped = GroupedClassifier(classifier, groups.tolist())
    result = protocol(name).attack.run(grouped, images, torch.tensor(decision))
    check(result, optimum, None, success)  # where several own classes tie, the signed-distance formula is a bound only
    norms = result.norms.numpy()
    assert np.nanmax(norms[simple] - above * closest_pair[simple]) <= BELOW


def test_what_is_returned_lies_on_the_boundary_in_the_box():
    images = torch.tensor(pictures("corners", 5))
    classifier, _, _, labels = binary(5, images.numpy())
    result = protocol("fmn").attack.run(classifier, images, labels)
    assert result.adversarials.min() >= 0
    assert result.adversarials.max() <= 1
    margin = classifier(result.adversarials)
    margin = (margin[:, 1] - margin[:, 0]).abs()
    clean = classifier(images)
    clean = (clean[:, 1] - clean[:, 0]).abs()
    assert (margin <= 0.005 * clean + BELOW).all()
