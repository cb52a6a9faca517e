"""Synchronised batch norm: two processes equal one with the whole batch, by value, up to the second derivative."""

import copy
import pickle
from datetime import timedelta
from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, EvoNorm2dB0
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from advalign.data.batches import Batch
from advalign.errors import InputError
from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.zoo import create_network, make_twice_differentiable
from advalign.recipes.base import Position
from advalign.recipes.harmonized import Harmonized
from advalign.training.synced_batch_norm import SumOverRanks, SyncedBatchNorm2d, synchronise_batch_norms
from tests.team.processes import Process

torch.set_num_threads(1)

SIZE, CLASSES = 32, 5
TIMM = ("resnet18", "test_resnet", "test_efficientnet", "mobilenetv3_small_050")
LAYERS = {  # arguments of a single layer
    "plain": {},
    "no affine": {"affine": False},
    "no tracking": {"track_running_stats": False},
    "cumulative": {"momentum": None},
}
NETWORKS = [  # name, dtype, images of each rank, tolerances: outputs and statistics, gradients of weights
    ("small", torch.float32, (5, 3), 1e-5, 1e-5),
    ("small", torch.float64, (4, 4), 1e-10, 1e-10),
    ("test_resnet", torch.float32, (5, 3), 1e-5, 5e-5),  # torch's own gradients are 2e-5 and 3e-5 off float64's here
    ("test_resnet", torch.float64, (4, 4), 1e-10, 1e-10),
    ("test_efficientnet", torch.float32, (4, 4), 1e-5, 5e-5),
    ("test_efficientnet", torch.float64, (1, 7), 1e-10, 1e-10),
    ("mobilenetv3_small_050", torch.float64, (5, 3), 1e-10, 1e-10),
]


def network(name, dtype=torch.float32):
    """Random weights, the same in every process, with batch norms that are not the identity."""
    torch.manual_seed(0)
    if name == "small":
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 8, 3, stride=2, bias=False),
            nn.BatchNorm2d(8, momentum=None), nn.SiLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, CLASSES),
        )  # fmt: skip
    else:
        net = create_network(name, CLASSES, SIZE)
    make_twice_differentiable(net)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return net.to(dtype).train()


def images(count, dtype=torch.float32):
    """Pixels and labels; the first images are brighter, so that the ranks' statistics differ."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(count, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
    pixels[: count // 2] += 0.7
    return pixels.to(dtype), torch.randint(0, CLASSES, (count,), generator=generator)


def slices(sizes):
    """Where each rank's images are in the whole batch."""
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def gradients(net):
    return {name: value.grad.clone() for name, value in net.named_parameters()}


def values_of_network(net, model, pixels, labels, parts):
    """First and second order, each in a training step of its own, of the mean of the parts' mean losses."""

    def loss(logits):
        return torch.stack([F.cross_entropy(logits[part], labels[part]) for part in parts]).mean()

    pixels = pixels.clone().requires_grad_()
    logits = model(pixels)
    (of_images,) = torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), pixels, retain_graph=True)
    loss(logits).backward()
    first = gradients(net)

    net.zero_grad()
    logits = model(pixels)
    (slope,) = torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), pixels, create_graph=True)
    norm = torch.stack([slope[part].square().sum((1, 2, 3)).mean() for part in parts]).mean()
    (norm + 0 * loss(logits)).backward()  # the zero reaches the last bias, which DistributedDataParallel waits for
    return {
        "by image": {"output": logits.detach(), "input gradient": of_images, "slope": slope.detach()},
        "shared": {"first": first, "second": gradients(net), "buffers": {k: v.clone() for k, v in net.named_buffers()}},
    }


def values_of_recipe(net, wrap, part, whole=8):
    """A harmonized training step on a part of the whole batch."""
    pixels, labels = images(whole)
    generator = torch.Generator().manual_seed(2)
    maps = torch.rand(whole, SIZE, SIZE, generator=generator)
    has = torch.arange(whole) % 3 != 0
    batch = Batch(images=pixels[part], labels=labels[part], heatmaps=maps[part], has_heatmap=has[part])
    classifier = Classifier(net, Preprocessing(input_size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3)).train()
    model = wrap(classifier)  # held until the backward: DistributedDataParallel's hooks die with it
    result = Harmonized(Harmonized.Settings())(model, batch, Position(0, 1))
    result["loss"].backward()
    return {
        "by image": {"output": result["logits"].detach()},
        "shared": {"gradients": gradients(net), "buffers": dict(net.named_buffers())},
    }


def values_of_layer(layer, pixels, dtype=torch.float64):
    """Two steps of one layer alone; a rank's gradients of its weights are its share of the whole batch's."""
    shares = {}
    for step in range(2):
        layer.zero_grad()
        values = (pixels * (step + 1)).to(dtype).requires_grad_()
        output = layer(values)
        (slope,) = torch.autograd.grad(output.float().square().sin().sum(), values, create_graph=True)
        slope.float().square().sum().backward()
        shares = {name: value.grad.clone() for name, value in layer.named_parameters()}
    by_image = {"output": output.detach(), "slope": slope.detach(), "second": values.grad}
    return {"by image": by_image, "shares": shares, "buffers": dict(layer.named_buffers())}


def layer_cases():
    """(name, arguments of the layer, pixels, sizes, dtype)."""
    pixels = images(6, torch.float64)[0][:, :, :5, :5]
    for name, arguments in LAYERS.items():
        yield name, arguments, pixels, (4, 2), torch.float64
    yield "an empty rank", {}, pixels, (6, 0), torch.float64
    yield "one value a rank", {}, pixels[:2, :, :1, :1], (1, 1), torch.float64
    yield "bfloat16", {}, pixels, (4, 2), torch.bfloat16


def far_from_zero():
    """Values whose mean is a thousand times their spread: squares about zero would lose all digits of the variance."""
    return 1000 + torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def one_layer(arguments, dtype):
    return nn.Sequential(nn.BatchNorm2d(3, **arguments)).to(torch.promote_types(dtype, torch.float32))


def join(folder, rank, ranks):
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=ranks, timeout=timedelta(seconds=300)
    )


def worker(rank, folder):
    """One of two processes: every case, saved for the tests to compare."""
    torch.set_num_threads(1)
    join(folder, rank, 2)
    saved = {}
    for name, dtype, sizes, *_ in NETWORKS:
        net = network(name, dtype)
        synchronise_batch_norms(net)
        pixels, labels = (both[slices(sizes)[rank]] for both in images(sum(sizes), dtype))
        saved[name, dtype] = values_of_network(net, DistributedDataParallel(net), pixels, labels, [slice(None)])
    for name in ("small", "test_efficientnet"):
        net = network(name)
        synchronise_batch_norms(net)
        saved["recipe", name] = values_of_recipe(net, DistributedDataParallel, slices((4, 4))[rank])
    for name, arguments, pixels, sizes, dtype in layer_cases():
        layer = one_layer(arguments, dtype)
        synchronise_batch_norms(layer)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            saved["layer", name] = values_of_layer(layer, pixels[slices(sizes)[rank]], dtype)
    saved["far"] = SyncedBatchNorm2d(3)(far_from_zero()[slices((40, 24))[rank]]).detach()
    torch.save(saved, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What both ranks saved."""
    folder = tmp_path_factory.mktemp("ranks")
    ranks = [Process(folder, {"OMP_NUM_THREADS": "1"}, worker, rank, folder) for rank in range(2)]
    assert [rank.wait() for rank in ranks] == [0, 0], [rank.errors() for rank in ranks]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.fixture
def alone(tmp_path):
    """A process group of this process only."""
    join(tmp_path, 0, 1)
    yield
    dist.destroy_process_group()


def check(got, expected, tolerance, what, floor=0.0):
    """Largest difference of each tensor, relative to its largest value or that share of the largest of them all."""
    assert got.keys() == expected.keys()
    lowest = floor * max([value.abs().max().item() for value in expected.values()], default=0)
    for name, value in expected.items():
        assert got[name].dtype == value.dtype
        worst = (got[name] - value).abs().max() / value.abs().max().clamp(min=max(lowest, 1e-30))
        assert worst <= tolerance, f"{what}, {name}: {worst:.1e}"


def check_case(ranks, expected, tolerance, of_weights):
    together = {name: torch.cat([rank["by image"][name] for rank in ranks]) for name in expected["by image"]}
    check(together, expected["by image"], tolerance, "by image")
    for what, values in expected["shared"].items():
        for name, value in values.items():  # no drift of the ranks, to the bit
            assert all(torch.equal(rank["shared"][what][name], ranks[0]["shared"][what][name]) for rank in ranks), name
            assert value.isfinite().all()
        got = ranks[0]["shared"][what]
        if what == "buffers":
            check(got, values, tolerance, what)
        else:  # a bias between a convolution and the next batch norm has no gradient but rounding: hence the floor
            check(got, values, of_weights, what, floor=1e-2)


group = pytest.mark.xdist_group("synced-batch-norm")


@group
@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype", "sizes", "tolerance", "of_weights"), NETWORKS)
def test_two_processes_equal_one(two_processes, name, dtype, sizes, tolerance, of_weights):
    net = network(name, dtype)
    expected = values_of_network(net, net, *images(sum(sizes), dtype), slices(sizes))
    check_case([rank[name, dtype] for rank in two_processes], expected, tolerance, of_weights)


@group
@pytest.mark.slow
@pytest.mark.parametrize(("name", "of_weights"), [("small", 1e-5), ("test_efficientnet", 5e-5)])
def test_a_harmonized_step_of_two_processes_equals_one(two_processes, name, of_weights):
    expected = values_of_recipe(network(name), lambda classifier: classifier, slice(None))
    check_case([rank["recipe", name] for rank in two_processes], expected, 1e-5, of_weights)


@group
@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments", "pixels", "sizes", "dtype"), list(layer_cases()))
def test_layer(two_processes, name, arguments, pixels, sizes, dtype):
    layer = one_layer(arguments, dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        expected = values_of_layer(layer, pixels, dtype)
    ranks = [rank["layer", name] for rank in two_processes]
    low = dtype == torch.bfloat16
    together = {key: torch.cat([rank["by image"][key] for rank in ranks]) for key in expected["by image"]}
    check(together, expected["by image"], 2**-7 if low else 1e-6, "by image")
    shares = {key: sum(rank["shares"][key] for rank in ranks) for key in expected["shares"]}
    check(shares, expected["shares"], 1e-2 if low else 1e-6, "weights")
    for rank in ranks:
        check(rank["buffers"], expected["buffers"], 1e-6, "buffers")  # float32 also under autocast


@group
@pytest.mark.slow
def test_the_variance_of_values_far_from_zero(two_processes):
    values = far_from_zero()
    exact = nn.BatchNorm2d(3).double()(values.double()).detach()
    error = (torch.cat([rank["far"] for rank in two_processes]) - exact).abs().max()
    assert error <= 2 * (nn.BatchNorm2d(3)(values) - exact).abs().max() + 1e-4


def test_the_sum_can_be_differentiated_twice(alone):
    values = torch.rand(3, 2, dtype=torch.float64, requires_grad=True)

    def cubed(values):
        return SumOverRanks.apply(values) ** 3

    assert torch.autograd.gradcheck(cubed, values)
    assert torch.autograd.gradgradcheck(cubed, values)


@pytest.mark.parametrize("affine", [True, False])
def test_the_layer_can_be_differentiated_twice(alone, affine):
    layer = SyncedBatchNorm2d(2, affine=affine, track_running_stats=False).double()
    values = torch.rand(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(layer._synced, values)


def bitwise(name):
    """Outputs, gradients and buffers of a step with torch's batch norm, and with the synchronised one."""
    results = []
    for synced in (False, True):
        net = network(name)
        if synced:
            synchronise_batch_norms(net)
        result = values_of_network(net, net, *images(4), [slice(None)])
        with torch.no_grad():
            evaluated = net.eval()(images(4)[0])
        results.append([*result["by image"].values(), evaluated])
        results[-1] += [value for part in result["shared"].values() for value in part.values()]
    return results


@pytest.mark.parametrize("name", ["small", "test_efficientnet"])
def test_without_a_process_group_nothing_changes(name):
    assert all(map(torch.equal, *bitwise(name)))


def test_alone_in_a_process_group_nothing_changes(alone):
    assert all(map(torch.equal, *bitwise("test_efficientnet")))


@pytest.mark.parametrize("name", TIMM)
def test_the_swap_keeps_all_but_the_class(name):
    net = network(name)
    keys, weights = list(net.state_dict()), dict(net.named_parameters())
    modules = list(net.modules())
    norms = [module for module in modules if isinstance(module, nn.BatchNorm2d)]
    then = ("drop", "act") if isinstance(norms[0], BatchNormAct2d) else ()
    for _ in range(2):  # the second time there is nothing to do
        synchronise_batch_norms(net)
        assert list(net.state_dict()) == keys
        assert all(value is weights[key] for key, value in net.named_parameters())
        assert all(map(lambda new, old: new is old, net.modules(), modules))
        assert {(type(norm), norm.then) for norm in norms} == {(SyncedBatchNorm2d, then)}
    for copied in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):  # noqa: S301  our own bytes
        assert torch.equal(copied.eval()(images(2)[0]), net.eval()(images(2)[0]))


class Centred(nn.BatchNorm2d):
    def forward(self, input):
        return super().forward(input - 1)


class Frozen(nn.BatchNorm2d):  # its forward is torch's, and yet it would be lost
    def train(self, mode=True):
        return super().train(False)


@pytest.mark.parametrize(
    "make",
    [Centred, Frozen, nn.SyncBatchNorm, nn.BatchNorm1d, EvoNorm2dB0, partial(nn.LazyBatchNorm2d, device="cpu")],
)
def test_a_class_it_cannot_vouch_for(make):
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(make(3) if not isinstance(make, partial) else make()))
    with pytest.raises(InputError, match=r"^layer '1.0' is a .*: train in one process, or build .*$") as caught:
        synchronise_batch_norms(net)
    assert "\n" not in str(caught.value)
    assert type(net[0]) is nn.BatchNorm2d


def test_a_forward_of_the_instance_is_not_vouched_for():
    net = nn.Sequential(nn.BatchNorm2d(3))
    net[0].forward = lambda values: values
    with pytest.raises(InputError, match="layer '0'"):
        synchronise_batch_norms(net)


def test_wrong_dimensions(alone):
    with pytest.raises(ValueError, match="4D"):
        SyncedBatchNorm2d(3)._synced(torch.rand(2, 3))
