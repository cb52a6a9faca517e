"""Registered versions with evaluations whose numbers are given, made in a second: no training, no attack."""

import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
import yaml

from advalign.data.classes import read_classes
from advalign.data.results import Paths, write_kept, write_table
from advalign.data.sets.stimuli import COLUMNS, load_stimuli
from advalign.evaluation.runner import Evaluator
from advalign.files import Project, sha256
from advalign.inputs import folder_md5
from advalign.models.checkpoints import HISTORY
from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.zoo import create_network
from advalign.provenance import data_md5
from advalign.rows import NORMS, SCALES
from advalign.settings import load_settings
from advalign.tracking.database import DATABASE, create
from advalign.tracking.registry.evidence import evaluated_zoo, read_evidence
from advalign.tracking.results import Published
from advalign.workflows.publish import publish_checkpoint, publish_evaluation
from tests.conftest import edit_card, save_untrained, with_stimuli

CEILING = 0.8
POLICY = {
    "champion": {
        "protocol": "fmn-fast",
        "bounds": {"n_valid": {"at_least": 20}},
        "against": {
            "baseline": {
                "adversarial_human_alignment": {"better_by": 0.05},
                "perturbation_tolerance": {"not_below": 0.85},
                "multilabel_accuracy": {"drop_at_most": 0.02},
            },
            "holder": {"multilabel_accuracy": {"drop_at_most": 0.01}},
        },
    },
}


@cache
def empty_store() -> bytes:
    """A project's database as MLflow makes it, without experiments: made once, since that takes a second."""
    with TemporaryDirectory() as folder:
        create(Path(folder) / DATABASE)
        return (Path(folder) / DATABASE).read_bytes()


def make_project(sample_root: Path, root: Path) -> Project:
    """The tiny project with frozen stimuli, gates, a data.dvc and an empty store."""
    project = with_stimuli(sample_root, root)
    (root / DATABASE).write_bytes(empty_store())
    project.gates.write_text(yaml.safe_dump(POLICY, sort_keys=False))
    (root / "data" / "clickme" / "ceiling.yaml").write_text(f"human_ceiling: {CEILING}\n")
    (root / "data.dvc").write_text(
        yaml.safe_dump({"outs": [{"md5": folder_md5(root / "data", None), "hash": "md5", "path": "data"}]})
    )
    return project


def said_of(name: str) -> dict[str, str | None]:
    """What a recipe would say of a model: these tests name an architecture, and .baseline or .harmonized."""
    stem, _, recipe = name.rpartition(".")
    if recipe == "baseline":
        return {"recipe": recipe, "group": "cnn", "baseline": None}
    return {"recipe": "harmonized", "group": "harmonized", "baseline": f"{stem}.baseline"}


def save_version(project: Project, name: str, seed: int) -> Path:
    """A checkpoint with weights of its own, complete with history."""
    torch.manual_seed(seed)
    preprocessing = Preprocessing(input_size=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    classes = len(read_classes(project.data / "classes.yaml").entries)
    save_untrained(project, name, Classifier(create_network("test_resnet", classes, 64, {}), preprocessing))
    folder = project.checkpoints / name
    said = {"inputs_sha256": f"{name} {seed}", "data_md5": data_md5(project.root), "seed": seed, **said_of(name)}
    (folder / HISTORY).write_text("epoch,step,loss,val_accuracy\n1,10,0.5,0.9\n")
    said["history_sha256"] = sha256(folder / HISTORY)
    edit_card(folder, settings={"recipe": {"seeded": seed}, "train": {"epochs": 1}}, **said)
    return folder


def evaluate(
    project: Project,
    name: str,
    *,
    pt: float,
    aa: float,
    accuracy: float,
    protocol: str = "fmn-fast",
    predicted: Mapping[str, object] | None = None,
    **columns: object,
) -> Path:
    """Files of an evaluation with these means: each stimulus has its own value, the same for every model.

    Args:
        project, name: which checkpoint.
        pt: mean norm, of linf in 1/255; aa: mean alignment, divided by the ceiling; accuracy: multi-label, as near as
            images allow.
        protocol: of the rows.
        predicted: further columns of the companion's rows, with a value for all.
        columns: further ones of the rows, with a value for all.
    """
    evaluator = Evaluator(project, load_settings(project.root), protocol)
    norm = evaluator.protocol.attack.norm
    subject = evaluator.subject(project.checkpoints / name)
    spread = np.linspace(-0.3, 0.3, evaluator.count)
    noise = np.random.default_rng(len(name)).normal(0, 0.02, evaluator.count)
    rows = evaluator.image_set.listing()[COLUMNS].assign(
        model=name, protocol=protocol, clean_prediction=0, status="ok", queries=100, largest_tried=1.0,
        **{NORMS[norm]: pt / SCALES[norm] * (1 + spread + noise - noise.mean())}, second_start=1.0,
        rho_released=(aa + 0.2 * spread + noise - noise.mean()) * CEILING,
        rho_magnitude=0.1, rho_shuffled=0.0, rho_partial=0.1, energy_top10=0.2, **{"flags": "", **columns},
    )  # fmt: skip
    images = evaluator.parts["predictions"].image_set.listing()
    right = np.arange(len(images)) < round(accuracy * len(images))
    labels = images["correct"].str[0]
    companion = images.assign(
        model=name, protocol="predictions", prediction=np.where(right, labels, (labels + 1) % 36),
        probability_label=0.5, probability_top=0.5, log_loss=0.7, brier=0.5,
        **(predicted or {}),
    )  # fmt: skip
    for part, table in ((protocol, rows), ("predictions", companion)):
        paths, identity = evaluator.paths(name, part), subject.identities[part]
        write_table(paths.rows, table, identity, probe=evaluator.parts[part].protocol.spec.probe)
        write_kept(paths.gallery, {}, identity)
    evaluator.summarise(subject)
    return evaluator.paths(name).summary


def publish(project: Project, store, name: str, seed: int, **numbers) -> int:
    """Register a checkpoint and its evaluation; the version's number."""
    folder = save_version(project, name, seed)
    version = publish_checkpoint(project, store, folder, Published())
    summary = evaluate(project, name, **numbers)
    publish_evaluation(project, store, summary, load_stimuli(project), Published())
    return int(version.version)


def zoo_beside(project: Project, store, name: str, left_out: str = "") -> pd.DataFrame:
    """The zoo that a promotion of a model's first version would be judged on."""
    settings = load_settings(project.root).evaluate
    evidence = read_evidence(store, store.client.get_model_version(name, "1"), "fmn-fast", settings)
    return evaluated_zoo(store, "fmn-fast", evidence, left_out, settings)


def forget(project: Project, name: str) -> None:
    """Remove a checkpoint and its evaluation from disk; the store keeps them."""
    shutil.rmtree(project.checkpoints / name)
    Paths(project.evaluations / "fmn-fast", name).remove()
