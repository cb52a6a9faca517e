"""Simulated participants whose agreement is known, and tables of their trials."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy.ndimage import gaussian_filter

from advalign.data.participants import IMAGES, IMAGES_SCHEMA, TRIALS, TRIALS_SCHEMA

SIDE = 24


def fields(rng, count, side=SIDE):
    """Gaussian random fields, all alike: zero mean, unit variance, correlated over some pixels."""
    smooth = gaussian_filter(rng.standard_normal((count, side, side)), (0, 1.5, 1.5), mode="wrap")
    return smooth / smooth.std()


def people(rng, truth, count, shared):
    """Maps of participants who have `truth` in common: any two correlate by `shared`, but for chance."""
    own = fields(rng, count, truth.shape[-1])
    return torch.from_numpy((shared**0.5 * truth + (1 - shared) ** 0.5 * own + 50).astype(np.float32))


def clickers(rng, truth, count, clicks=8):
    """Clicks of participants who click where `truth` (side, side) is large: pairs (x, y)."""
    chance = np.exp(2 * truth).ravel()
    places = [rng.choice(chance.size, clicks, p=chance / chance.sum()) for _ in range(count)]
    return [((place % SIDE).astype(np.float32), (place // SIDE).astype(np.float32)) for place in places]


def write_participants(project, images, rng, participants=12, per_image=8, careless=()):
    """data/participants of that many images; careless participants click anywhere, on all images."""
    rows = []
    for number in range(images):
        truth = fields(rng, 1)[0]
        chosen = sorted(rng.choice(participants, per_image, replace=False))
        named = [(f"p{who:02d}", clicks) for who, clicks in zip(chosen, clickers(rng, truth, per_image), strict=True)]
        named += [(who, clickers(rng, np.zeros_like(truth), 1)[0]) for who in careless]
        rows += [(f"{number:03d}.JPEG", who, x, y, 1.0, False) for who, (x, y) in named]
    columns = [*zip(*[(*row, place + 1) for place, row in enumerate(rows)], strict=True)]
    project.participants.mkdir(parents=True)
    trials = pa.table(dict(zip(TRIALS_SCHEMA.names, map(list, columns), strict=True)), schema=TRIALS_SCHEMA)
    pq.write_table(trials, project.participants / TRIALS)
    known = [[f"{n:03d}.JPEG" for n in range(images)], [f"{n:064x}" for n in range(images)]]
    known += [[SIDE] * images, [SIDE] * images, [0] * images]
    pq.write_table(
        pa.table(dict(zip(IMAGES_SCHEMA.names, known, strict=True)), schema=IMAGES_SCHEMA),
        project.participants / IMAGES,
    )
