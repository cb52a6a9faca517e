"""One of several processes that register and promote versions of the same models as fast as they can."""

import json
import time
from pathlib import Path

import torch

from advalign.errors import CheckFailed
from advalign.files import Project
from advalign.models.checkpoints import load_checkpoint, save_checkpoint
from advalign.tracking.locks import exclusive
from advalign.tracking.promotion import promote
from advalign.tracking.registered import register
from advalign.tracking.store import open_store

NAMES = ("soak_a", "soak_b")


def register_and_promote(root: Path, number: int, seconds: float) -> None:
    """Register distinct checkpoints and promote each, by force, until the time is over; report what was told as done.

    Args:
        root: the project; the report goes to root/soak-NUMBER.jsonl, one line per version.
        number: of this process.
        seconds: after which no new version is begun.
    """
    torch.set_num_threads(1)
    project = Project(root)
    store = open_store(project)
    classifier, card = load_checkpoint(project.runs / "test_resnet.baseline")
    fields = card.model_dump(exclude={"weights_sha256", "preprocessing"})
    weight = next(iter(classifier.network.parameters()))
    end, turn = time.monotonic() + seconds, 0
    with (root / f"soak-{number}.jsonl").open("w", buffering=1) as report:
        while time.monotonic() < end:
            turn += 1
            name = NAMES[(number + turn) % len(NAMES)]
            folder = root / "soak" / str(number)
            with torch.no_grad():
                weight.view(-1)[0] = number * 1000 + turn
            made = save_checkpoint(folder, classifier, {**fields, "name": name})
            run = store.client.create_run(store.experiment_ids["train"], run_name=name)
            with exclusive(store.uri, "publish"):
                version = int(register(store, made, folder, run.info.run_id, {}).version)
            try:
                outcome = promote(project, store, name, version, force=True, reason="soak").outcome
            except CheckFailed:  # somebody else moved the alias at the same time
                outcome = "lost"
            entry = {"name": name, "version": version, "weights": made.weights_sha256, "outcome": outcome}
            report.write(json.dumps(entry) + "\n")
