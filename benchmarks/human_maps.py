"""Human maps: trials per second of maps and ceilings, beside NumPy and SciPy; and a CSV of a million trials."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import torch
import torch.nn.functional as F
import yaml
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata, spearmanr

from advalign.data.human_maps import ceilings
from advalign.data.human_maps.blocks import ImageTrials
from advalign.data.human_maps.maps import participant_maps
from advalign.data.human_maps.sides import both_ways
from advalign.errors import CheckFailed
from advalign.settings import HumanMapSettings
from benchmarks.attacks import markdown

LEAST_RATIO = 5.0
IMAGES, PARTICIPANTS, CLICKS = 4, 20, 12
WIDTH, HEIGHT = 320, 240
SETTINGS = HumanMapSettings.model_validate({"min_clicks": 2})


def report(images: int) -> Iterator[str]:
    """Two tables: this code beside plain NumPy and SciPy, and from CSV to agreement.

    Args:
        images: of the CSV, with 50 trials each; 0: leave it out.

    Raises:
        CheckFailed: this code is less than five times as fast.
    """
    trials = [_trials(number) for number in range(IMAGES)]
    seconds = {"this code": 0.0, "NumPy and SciPy": 0.0}
    found: dict[str, list[list[float]]] = {name: [] for name in seconds}
    for name, work in (("this code", _ours), ("NumPy and SciPy", _plain), ("this code", _ours)):
        start = time.process_time()  # of this core: others may be busy
        found[name] = work(trials)
        seconds[name] = time.process_time() - start  # of the later run: the first one warms up
    off = np.abs(np.array(found["this code"]) - np.array(found["NumPy and SciPy"])).max()
    ratio = seconds["NumPy and SciPy"] / seconds["this code"]
    rows = [(name, f"{IMAGES * PARTICIPANTS / taken:.0f}") for name, taken in seconds.items()]
    title = (
        f"maps; ceiling and floor by Spearman, AUC, NSS over {SETTINGS.splits} splits; {PARTICIPANTS} trials an image"
    )
    yield markdown((title, "trials per second and core"), rows)
    yield f"{ratio:.1f} times as fast; means over splits differ by {off:.1e} at most"
    if ratio < LEAST_RATIO:
        raise CheckFailed(f"human maps are {ratio:.1f} times as fast as NumPy and SciPy, wanted {LEAST_RATIO:g}")
    if images:
        yield from _from_csv(images)


def _trials(number: int) -> ImageTrials:
    rng = np.random.default_rng(number)
    centres = rng.random((3, 2)) * (WIDTH, HEIGHT)
    clicks = []
    for _ in range(PARTICIPANTS):
        places = centres[rng.integers(3, size=CLICKS)] + 20 * rng.standard_normal((CLICKS, 2))
        x, y = places.T.astype(np.float32)
        clicks.append((x.clip(0, WIDTH - 1), y.clip(0, HEIGHT - 1)))
    return ImageTrials(f"{number}", "", (WIDTH, HEIGHT), tuple(map(str, range(PARTICIPANTS))), tuple(clicks))


def _splits(number: int) -> NDArray[np.bool_]:
    return ceilings.random_halves(PARTICIPANTS, SETTINGS.splits, np.random.default_rng(number))


def _ours(images: list[ImageTrials]) -> list[list[float]]:
    """Ceiling and floor of every image by Spearman, AUC and NSS."""
    halves = [ceilings.Halves.of(participant_maps(one, SETTINGS), _splits(n)) for n, one in enumerate(images)]
    rows = []
    for place, one in enumerate(halves):
        found = [both_ways(one.first, other.second, emd_first=0) for other in (one, halves[place - 1])]
        rows.append([float(values[measure].mean()) for values in found for measure in ("spearman", "auc", "nss")])
    return rows


def _plain(images: list[ImageTrials]) -> list[list[float]]:
    """The same as one writes it with NumPy and SciPy: a grid per participant, a filter, a loop over the splits."""
    halves = []
    for number, image in enumerate(images):
        maps = np.stack([_filtered(x, y) for x, y in image.clicks])
        halves.append([(maps[half].mean(0).ravel(), maps[~half].mean(0).ravel()) for half in _splits(number)])
    rows = []
    for place, own in enumerate(halves):
        pairs = (
            [(first, second) for first, second in own],
            [(a[0], b[1]) for a, b in zip(own, halves[place - 1], strict=True)],
        )
        rows.append([float(value) for part in pairs for value in np.mean([_agreement(*pair) for pair in part], axis=0)])
    return rows


def _agreement(first: NDArray[np.float32], second: NDArray[np.float32]) -> tuple[float, float, float]:
    """Spearman, and the means of both directions of AUC and NSS, of two flat maps."""
    auc, nss = 0.0, 0.0
    clicks, pixels = round(0.1 * len(first)), len(first)
    for model, human in ((first, second), (second, first)):
        top = np.argsort(-human, kind="stable")[:clicks]
        wins = rankdata(model)[top].sum() - clicks * (clicks + 1) / 2
        auc += wins / (clicks * (pixels - clicks)) / 2
        nss += float(((model - model.mean()) / model.std())[top].mean()) / 2
    return spearmanr(first, second).statistic, auc, nss


def _filtered(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    kept = round(SETTINGS.resize * SETTINGS.crop)
    grid = np.zeros((SETTINGS.resize, round(WIDTH * SETTINGS.resize / HEIGHT)), np.float32)
    rows, columns = ((y + 0.5) * (len(grid) / HEIGHT)).astype(int), ((x + 0.5) * (grid.shape[1] / WIDTH)).astype(int)
    np.add.at(grid, (rows, columns), 1)
    blurred = gaussian_filter(grid, SETTINGS.window**0.5, radius=SETTINGS.window // 2)
    top, left = ((length - kept) // 2 for length in grid.shape)
    cropped = torch.from_numpy(blurred[top : top + kept, left : left + kept])[None, None]
    size = (SETTINGS.side, SETTINGS.side)
    return F.interpolate(cropped, size=size, mode="bilinear", antialias=True)[0, 0].numpy()


def _from_csv(images: int) -> Iterator[str]:
    """A CSV of 50 trials an image -> data/participants -> outputs/maps: seconds, and the most memory."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "images").mkdir()
        params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
        params["human_maps"] = {}  # as at full size: 256 pixels
        (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        rng = np.random.default_rng(0)
        with (root / "trials.csv").open("w", encoding="utf-8") as file:
            file.write("image_path,clicks,user_id\n")
            for number in range(images):
                path = root / "images" / f"{number:06d}.jpg"
                Image.fromarray(np.full((8, 8, 3), number % 256, np.uint8)).resize((WIDTH, HEIGHT)).save(path)
                centres = rng.random((3, 2)) * (WIDTH, HEIGHT)
                for who in rng.choice(5000, 50, replace=False):
                    places = centres[rng.integers(3, size=CLICKS)] + 20 * rng.standard_normal((CLICKS, 2))
                    pairs = ",".join(
                        f'""({x:d},{y:d})""' for x, y in places.clip(0, (WIDTH - 1, HEIGHT - 1)).astype(int)
                    )
                    file.write(f'{path.name},"{{{pairs}}}",user{who}\n')
        steps = {
            "import": [*_ADVALIGN, "data", "import", "clicks", "trials.csv", "--images", "images"],
            "maps": [sys.executable, "-m", "pipelines.maps"],
        }
        rows = []
        for step, words in steps.items():
            start = time.perf_counter()
            largest = _memory_of(words, root)
            rows.append((step, f"{time.perf_counter() - start:.0f}", f"{largest / 2**30:.2f}"))
        told = json.loads((root / "outputs" / "maps" / "summary.json").read_text())
    title = f"{told['trials']} trials on {told['images']} images"
    yield markdown((title, "seconds", "most memory of all processes together, GiB"), rows)


def _memory_of(words: list[str], root: Path) -> int:
    """Run a command; the most bytes that it and its workers held at once.

    Raises:
        CheckFailed: it failed.
    """
    largest = 0
    with subprocess.Popen(words, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        told = psutil.Process(process.pid)
        while process.poll() is None:
            held = 0
            for one in [told, *told.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    held += one.memory_info().rss
            largest = max(largest, held)
            time.sleep(0.1)
        if process.returncode:
            assert process.stderr is not None
            raise CheckFailed(f"{' '.join(words)}: {process.stderr.read().strip()[-500:]}")
    return largest


_ADVALIGN = [sys.executable, "-m", "advalign.cli.main"]
