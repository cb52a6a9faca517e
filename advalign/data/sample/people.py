"""The people who clicked on the sample's test images, one by one: forty honest ones, and a few careless ones.

An honest participant's trial holds six of an image's simulated clicks, in the order in which they were drawn, so that
the ten trials of an image together are exactly the clicks behind its heatmap. Who clicked what is drawn from a stream
of its own: images and heatmaps do not depend on it.

**Planted faults**, for cleaning to find, each under a name that says it: the constants below count them. All of them
come in addition to the honest trials, whose clicks they leave as they are.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from advalign.data.participants import IMAGES, IMAGES_SCHEMA, TRIALS, TRIALS_SCHEMA
from advalign.data.sample.scene import Scene
from advalign.files import replacing

PARTICIPANTS = 40  # honest ones
PER_IMAGE = 10
PASSED = (0.95, 1.0)  # share of catch trials that an honest participant passes; the lower one is just enough

RANDOM_CLICKERS = ("clicks-anywhere-1", "clicks-anywhere-2")  # attentive in catch trials, but click anywhere
RANDOM_TRIALS = 48  # of each of them
INATTENTIVE, INATTENTIVE_TRIALS, INATTENTIVE_CATCH = "fails-catch-trials", 12, 0.8
ON_A_PHONE = "on-a-phone"  # one trial
HASTY, HASTY_CLICKS = "one-click-only", 1  # one trial, of so many clicks
REPEATED = 1  # honest trials that are submitted a second time, with other clicks
OUTSIDE_TRIALS, OUTSIDE_CLICKS = 1, 3  # honest trials with clicks outside the image, and how many these are


@dataclass(frozen=True)
class Clicked:
    """An image that people clicked on.

    Attributes:
        name: of its file.
        sha256: of its file's bytes.
        scene: what was drawn, with its clicks.
    """

    name: str
    sha256: str
    scene: Scene


@dataclass
class _Trial:
    image: int
    participant: str
    clicks: NDArray[np.int64]  # (n, 2), x and y
    catch: float = 1.0
    mobile: bool = field(default=False)


def name_of(number: int) -> str:
    """File name of a test image, which lies in a shard: numbered from 1."""
    return f"SAMPLE_test_{number:08d}.JPEG"


def write_participants(folder: Path, images: Sequence[tuple[Scene, bytes]], seed: Sequence[int]) -> None:
    """Write trials.parquet and images.parquet, as `advalign data import clicks` leaves them.

    Args:
        folder: data/participants.
        images: every test image in the shard's order, drawn and as the bytes in the shard.
        seed: of the split's stream.
    """
    clicked = [
        Clicked(name_of(number), hashlib.sha256(stored).hexdigest(), scene)
        for number, (scene, stored) in enumerate(images, start=1)
    ]
    trials = list(_honest(clicked, seed))
    trials += _planted(clicked, trials, np.random.default_rng([*seed, 0, 2]))
    rows = sorted(range(len(trials)), key=lambda row: (trials[row].image, row))
    _write(folder / TRIALS, TRIALS_SCHEMA, [_row(trials[row], row + 1, clicked) for row in rows])
    _write(
        folder / IMAGES,
        IMAGES_SCHEMA,
        [
            {
                "image": one.name,
                "sha256": one.sha256,
                "width": one.scene.image.shape[1],
                "height": one.scene.image.shape[0],
                "label": one.scene.categories[0],
            }
            for one in clicked
        ],
    )


def _honest(images: Sequence[Clicked], seed: Sequence[int]) -> Iterator[_Trial]:
    """Deal every image's clicks out to ten participants."""
    for number, image in enumerate(images):
        rng = np.random.default_rng([*seed, number, 1])
        people = rng.choice(PARTICIPANTS, PER_IMAGE, replace=False)
        owner = rng.permutation(np.arange(len(image.scene.clicks)) % PER_IMAGE)
        for place, person in enumerate(people):
            yield _Trial(number, _honest_name(person), image.scene.clicks[owner == place], PASSED[person % 2])


def _honest_name(person: int) -> str:
    return f"participant-{person + 1:02d}"


def _planted(images: Sequence[Clicked], honest: list[_Trial], rng: np.random.Generator) -> list[_Trial]:
    """Careless trials; one honest trial gets clicks outside the image behind its own."""
    side = images[0].scene.image.shape[0]

    def some(count: int) -> list[int]:
        return [int(number) for number in rng.choice(len(images), count, replace=False)]

    def anywhere(count: int) -> NDArray[np.int64]:
        return rng.integers(0, side, (count, 2))

    def as_others(image: int, count: int) -> NDArray[np.int64]:
        clicks = images[image].scene.clicks
        return clicks[rng.choice(len(clicks), count, replace=False)]

    size = len(images[0].scene.clicks) // PER_IMAGE
    found = [_Trial(image, name, anywhere(size)) for name in RANDOM_CLICKERS for image in some(RANDOM_TRIALS)]
    found += [_Trial(image, INATTENTIVE, anywhere(size), INATTENTIVE_CATCH) for image in some(INATTENTIVE_TRIALS)]
    (image,) = some(1)
    found.append(_Trial(image, ON_A_PHONE, as_others(image, size), mobile=True))
    (image,) = some(1)
    found.append(_Trial(image, HASTY, as_others(image, HASTY_CLICKS)))
    for place in rng.choice(len(honest), REPEATED, replace=False):
        first = honest[place]
        found.append(_Trial(first.image, first.participant, as_others(first.image, size), first.catch))
    for place in rng.choice(len(honest), OUTSIDE_TRIALS, replace=False):
        outside = side + rng.integers(1, side, (OUTSIDE_CLICKS, 2))
        honest[place].clicks = np.concatenate([honest[place].clicks, outside])
    return found


def _row(trial: _Trial, row: int, images: Sequence[Clicked]) -> dict[str, object]:
    return {
        "image": images[trial.image].name,
        "participant": trial.participant,
        "x": trial.clicks[:, 0].astype(float).tolist(),
        "y": trial.clicks[:, 1].astype(float).tolist(),
        "catch": trial.catch,
        "mobile": trial.mobile,
        "row": row,
    }


def _write(path: Path, schema: pa.Schema, rows: list[dict[str, object]]) -> None:
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema), temporary, compression="zstd")
