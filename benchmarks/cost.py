"""Cost against the device's limit: FLOP/s relative to a matrix product, growth of cost, and cost of the zoo."""

import statistics
import time
from collections.abc import Callable, Iterator

import torch

from advalign.analysis.table import STANDARD
from advalign.attacks.base import Oracle
from advalign.evaluation.arithmetic import pass_flops
from advalign.evaluation.protocols import protocol
from advalign.files import Project
from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.declared import read_zoo
from advalign.models.origins import origin_of
from advalign.models.stand_in import Precision, stand_in
from advalign.models.zoo import create_network
from benchmarks.attacks import markdown

MATRIX = {"cpu": 2048, "cuda": 8192}
SIZES = (64, 128, 224)
MODELS = ("resnet18", "resnet50", "vit_tiny_patch16_224", "vit_base_patch16_224", "mobilenetv3_small_050")
BATCH = {"cpu": 8, "cuda": 128}
STIMULI = 960
DEVICE = 1e14  # FLOP/s of matrix products of the device that the zoo is estimated for
HALF = (0.5, 0.5, 0.5)


def best_time(work: Callable[[], object], turns: int = 5) -> float:
    """Shortest of several turns, in seconds; the first warms up."""
    times = []
    for _ in range(turns + 1):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def matmul_peak(device: str, dtype: torch.dtype) -> float:
    """FLOP/s of a large square matrix product."""
    side = MATRIX[device]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / best_time(lambda: left @ right)


def random_classifier(name: str, size: int, device: str) -> Classifier:
    """An untrained timm model at an input size."""
    with torch.device(device):
        network = create_network(name, 1000, size).eval().requires_grad_(False)
        classifier = Classifier(network, Preprocessing(input_size=size, mean=HALF, std=HALF)).eval()
    return classifier.to(device).to(memory_format=torch.channels_last)


def pass_cost(name: str, size: int, device: str, precision: Precision) -> tuple[float, float]:
    """FLOP and seconds of a pass (forward and input gradient) per image, as fmn-fast makes them."""
    classifier = random_classifier(name, size, device)
    images = torch.rand(BATCH[device], 3, size, size, device=device)
    labels = torch.zeros(len(images), dtype=torch.int64, device=device)
    search = stand_in(classifier, images[:2], precision)
    oracle = Oracle(classifier, images, labels, search=search)
    index, temperatures = torch.arange(len(images), device=device), torch.ones(len(images), device=device)
    seconds = best_time(lambda: oracle.step(images, index, temperatures)) / len(images)
    return pass_flops(classifier, images[:1]), seconds


def report(project: Project) -> Iterator[str]:
    """Shares of the peak by model and by image size, then the zoo."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision: Precision = "bfloat16" if device == "cuda" else "float32"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    peak = matmul_peak(device, dtype)
    yield f"Matrix product on this device ({precision}): {peak / 1e9:.0f} GFLOP/s.\n"
    rows, shares = [], []
    for name, size in [*((model, 224) for model in MODELS), *(("resnet18", size) for size in SIZES[:-1])]:
        flop, seconds = pass_cost(name, size, device, precision)
        shares.append(flop / seconds / peak)
        rows.append((name, f"{size}", f"{flop / 1e9:.2f}", f"{1 / seconds:.1f}", f"{100 * shares[-1]:.0f} %"))
    yield markdown(("model", "image", "GFLOP per pass", "passes/s", "of the peak"), rows)
    yield from zoo_cost(project, statistics.median(shares))


def zoo_cost(project: Project, share: float) -> Iterator[str]:
    """What the zoo's evaluation takes on 960 stimuli, from counted FLOP and the measured share of the peak."""
    passes = protocol("fmn-fast").attack.passes
    assert passes is not None
    flops = [_own_size_flops(name) for name in _zoo(project)]
    total = sum(flops) * STIMULI * passes
    yield (
        f"{len(flops)} models, each at its own input size, on {STIMULI} stimuli under fmn-fast: {total:.3g} FLOP (mean "
        f"{statistics.mean(flops) / 1e9:.0f}, median {statistics.median(flops) / 1e9:.0f} GFLOP per pass); at the "
        f"median share above of {DEVICE:.0e} FLOP/s that is {total / (share * DEVICE) / 3600:.1f} hours.\n"
    )


def _zoo(project: Project) -> list[str]:
    """The standard models of the declared zoo."""
    return [name for name, entry in read_zoo(project.zoo).models.items() if entry.group in STANDARD]


def _own_size_flops(name: str) -> float:
    """Counted without computing anything."""
    size = origin_of(name).preprocessing()["input_size"]
    return pass_flops(random_classifier(name, size, "meta"), torch.empty(1, 3, size, size, device="meta"))
