"""One of several processes that register and promote versions of the same models as fast as they can."""

import json
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import torch

from advalign.errors import CheckFailed
from advalign.files import Project
from advalign.models.checkpoints import load_checkpoint, save_checkpoint
from advalign.tracking.locks import exclusive
from advalign.tracking.registry.promotion import promote
from advalign.tracking.registry.registered import register
from advalign.tracking.store import Store, open_store

NAMES = ("soak_a", "soak_b")


def register_and_promote(root: Path, number: int, seconds: float, names: tuple[str, ...], *, alone: bool) -> None:
    """Register distinct checkpoints and promote each, by force, until the time is over; report what was told as done.

    Args:
        root: the project; the report goes to root/soak-NUMBER.jsonl, one line per version.
        number: of this process.
        seconds: after which no new version is begun.
        names: of the models.
        alone: whether it has locks of its own, as on a machine of its own.
    """
    torch.set_num_threads(1)
    folder = root / "soak" / str(number)
    folder.mkdir(parents=True)
    if alone:
        tempfile.tempdir = str(folder)
    project = Project(root)
    store = open_store(project)
    classifier, card = load_checkpoint(project.runs / "test_resnet.baseline")
    fields = card.model_dump(exclude={"weights_sha256", "code_sha256", "preprocessing"})
    weight = next(iter(classifier.network.parameters()))
    end, turn = time.monotonic() + seconds, 0
    with (root / f"soak-{number}.jsonl").open("w", buffering=1) as report:
        while time.monotonic() < end:
            turn += 1
            name = names[(number + turn) % len(names)]
            with torch.no_grad():
                weight.view(-1)[0] = number * 1000 + turn
            made = save_checkpoint(folder / "checkpoint", classifier, {**fields, "name": name})
            run = store.client.create_run(store.experiment_ids["train"], run_name=name)
            with nullcontext() if alone else exclusive(store.uri, "publish"):
                version = int(register(store, made, folder / "checkpoint", run.info.run_id, {}).version)
            told = promoted_or_lost(project, store, name, version, end)
            entry = {"name": name, "version": version, "weights": made.weights_sha256, **told}
            report.write(json.dumps(entry) + "\n")


def promoted_or_lost(project: Project, store: Store, name: str, version: int, end: float) -> dict[str, object]:
    """Promote a version, again where somebody else was at it, until the time is over; what was told in the end."""
    lost: list[str] = []
    while True:
        try:
            outcome = promote(project, store, name, version, force=True, reason="soak").outcome
        except CheckFailed as error:
            lost.append(str(error))
            if time.monotonic() < end:
                continue
            outcome = "lost"
        return {"outcome": outcome, "lost": lost}
