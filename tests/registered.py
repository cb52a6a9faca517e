"""Registered versions with evaluations whose numbers are given, made in a second: no training, no attack."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

from advalign.data.classes import read_classes
from advalign.data.results import Paths, write_table
from advalign.data.sets.stimuli import load_stimuli
from advalign.evaluation.protocols import protocol
from advalign.files import Project, sha256
from advalign.models.checkpoints import CARD, HISTORY, read_card
from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.zoo import create_network
from advalign.tracking.results import Published
from advalign.workflows.publish import publish_checkpoint, publish_evaluation
from tests.conftest import save_untrained, with_stimuli

DATA = "0123456789abcdef.dir"
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


def make_project(sample_root: Path, root: Path) -> Project:
    """The tiny project with frozen stimuli, gates and a data.dvc."""
    project = with_stimuli(sample_root, root)
    project.gates.write_text(yaml.safe_dump(POLICY, sort_keys=False))
    (root / "data.dvc").write_text(yaml.safe_dump({"outs": [{"md5": DATA, "path": "data"}]}))
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
    card = json.loads((folder / CARD).read_text())
    card |= {"inputs_sha256": f"{name} {seed}", "data_md5": DATA, "seed": seed, **said_of(name)}
    card["settings"] = {"recipe": {"seeded": seed}, "train": {"epochs": 1}}
    (folder / CARD).write_text(json.dumps(card))
    (folder / HISTORY).write_text("epoch,step,loss,val_accuracy\n1,10,0.5,0.9\n")
    return folder


def evaluate(project: Project, name: str, *, pt: float, aa: float, accuracy: float, **changes: object) -> Path:
    """Files of an evaluation with these means: each stimulus has its own value, the same for every model.

    Args:
        project, name: which checkpoint.
        pt: mean l2 norm; aa: mean alignment, divided by the ceiling; accuracy: multi-label.
        changes: keys of the summary to be different.
    """
    stimuli = load_stimuli(project)
    manifest = stimuli.manifest[["stimulus", "category", "superclass", "label"]].reset_index(drop=True)
    spread = np.linspace(-0.3, 0.3, len(manifest))
    noise = np.random.default_rng(len(name)).normal(0, 0.02, len(manifest))
    rows = manifest.assign(
        model=name, protocol="fmn-fast", clean_prediction=0, status="ok", flags="", queries=100, largest_tried=1.0,
        norm_l2=pt * (1 + spread + noise - noise.mean()),
        rho_released=(aa + 0.2 * spread + noise - noise.mean()) * CEILING,
        rho_magnitude=0.1,
    )  # fmt: skip
    paths = Paths(project.evaluations / "fmn-fast", name)
    write_table(paths.rows, rows, "identity")
    paths.gallery.parent.mkdir(exist_ok=True)
    save_file({}, paths.gallery)
    summary = {
        "model": name,
        "architecture": "test_resnet",
        **said_of(name),
        "declared": None,
        "protocol": "fmn-fast",
        "protocol_sha256": protocol("fmn-fast").sha256,
        "inputs_sha256": "identity",
        "rows_sha256": sha256(paths.rows),
        "weights_sha256": read_card(project.checkpoints / name).weights_sha256,
        "data_md5": DATA,
        "stimuli_sha256": stimuli.digest,
        "n_stimuli": len(rows),
        "tasks": {"shard_size": 12, "threads": 1, "batch_size": None, "search_precision": "float32"},
        "seed": 0,
        "human_ceiling": CEILING,
        "flags": [],
        "metrics": {
            "perturbation_tolerance": pt,
            "adversarial_human_alignment": aa,
            "multilabel_accuracy": accuracy,
            "n_valid": float(len(rows)),
        },
        **changes,
    }
    paths.summary.write_text(json.dumps(summary))
    return paths.summary


def publish(project: Project, store, name: str, seed: int, **numbers) -> int:
    """Register a checkpoint and its evaluation; the version's number."""
    folder = save_version(project, name, seed)
    version = publish_checkpoint(project, store, folder, Published())
    summary = evaluate(project, name, **numbers)
    publish_evaluation(project, store, summary, load_stimuli(project), Published())
    return int(version.version)


def forget(project: Project, name: str) -> None:
    """Remove a checkpoint and its evaluation from disk; the store keeps them."""
    shutil.rmtree(project.checkpoints / name)
    Paths(project.evaluations / "fmn-fast", name).remove()
