"""A study of guided models: areas against all their controls, over seeds, from trainings to a verdict.

Models and results are in outputs/guidance, so that the registry and the pipeline do not treat the models as published.
Finished ones are kept, an interrupted study resumes. Studies of one project share the models that both need.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from advalign import provenance
from advalign.analysis.guidance.measured import DEGRADED, RANDOM, Results
from advalign.analysis.guidance.page import write_guidance
from advalign.analysis.guidance.verdict import Judgement
from advalign.data.reliability import reliability
from advalign.data.responses import ResponseStore, need_responses, responses_digest
from advalign.data.results import read_rows, read_summary
from advalign.errors import CheckFailed, InputError, shown, unknown_name
from advalign.evaluation.campaign import Campaign, TrainedModel
from advalign.evaluation.engines import create_engine
from advalign.evaluation.runner import Evaluator
from advalign.files import Project
from advalign.models.checkpoints import read_card
from advalign.progress import progress
from advalign.rows import NORMS, SCALES, STATUS, Status
from advalign.settings import GuidanceSettings, Settings, Training
from advalign.training.plan import plan, resolve
from advalign.training.world import choose_device
from advalign.workflows.guidance_arms import Arm, arms
from advalign.workflows.guidance_fit import Fits
from advalign.workflows.guidance_targets import write_degraded, write_random
from advalign.workflows.guidance_training import Job, train_all

RESAMPLES = 200  # of reliability
GEOMETRY = {
    "capacity": "manifold_capacity",
    "radius": "manifold_radius",
    "dimension": "manifold_dimension",
    "separability": "linear_separability",
}


@dataclass(frozen=True)
class Guidance(Project):
    """A project with its evaluations in the folder of its studies; data and responses are the project's."""

    name: str

    @property
    def folder(self) -> Path:
        """Folder of the study's files."""
        return self.root / "outputs" / "guidance" / self.name

    @property
    def models(self) -> Path:
        """Checkpoints of all studies."""
        return self.root / "outputs" / "guidance" / "models"

    @property
    def evaluations(self) -> Path:
        """Rows and summaries of all studies."""
        return self.root / "outputs" / "guidance" / "evaluations"


def chosen(settings: Settings, name: str | None) -> tuple[str, GuidanceSettings]:
    """A study of params.yaml by its name; None: the only one.

    Raises:
        InputError: there is none, no such one, several and no name, or its folder would be that of all studies' models.
    """
    studies = settings.guidance
    if not studies:
        raise InputError("params.yaml has no guidance: describe a study there, as experiments/neural does")
    if name is None:
        if len(studies) > 1:
            raise InputError(f"params.yaml has several studies: name one of {', '.join(sorted(studies))}")
        name = next(iter(studies))
    if name not in studies:
        raise unknown_name("study", name, studies)
    if name in ("models", "evaluations"):
        raise InputError(f"guidance.{name}: outputs/guidance/{name} is for the {name} of all studies; rename the study")
    return name, studies[name]


def run_guidance(
    project: Project, settings: Settings, name: str, asked: GuidanceSettings, device: str = "auto"
) -> list[Judgement]:
    """Train and evaluate every arm over its seeds, keep finished ones, and write tables, figures and the verdict.

    Args:
        project, settings: whose values are those of every arm.
        name, asked: from `chosen`.
        device: "auto", "cpu", "cuda", ...

    Returns:
        A judgement per norm.

    Raises:
        InputError: no such responses, areas, subjects or protocols.
        CheckFailed: trainings or evaluations failed; the others are finished.
    """
    study = Guidance(project.root, name)
    device = str(choose_device(device))
    evaluators: dict[str, Evaluator] = {  # before the trainings, since they check their arguments
        what: Evaluator(study, settings, protocol, asked.images if what in NORMS else None, device)
        for what, protocol in asked.protocols.named().items()
    }
    _check_norms(evaluators)
    store = ResponseStore.open(need_responses(project, asked.responses))
    plan(project, settings, Training(model=asked.model, recipe="baseline", train=asked.train))  # refuses what cannot be
    reliable, table = _reliable(store, asked, settings.seed)
    fits = Fits(evaluators.get("fit"), store, asked, reliable)
    weighs_less = bool(reliable) and not _keeps_weight(settings, asked, reliable[0])
    listed = arms(name, asked, reliable, settings.train, weighs_less)
    notes = _notes(asked, reliable, weighs_less, listed)
    if any(arm.role == RANDOM for arm in listed):
        write_random(project, settings, asked)
    if any(arm.role == DEGRADED for arm in listed):
        notes.append(write_degraded(project, name, asked, store, reliable, settings.seed))
    _train(study, asked, listed, device)
    for evaluator in evaluators.values():
        _evaluate(study, evaluator, listed, settings)
    notes.append(fits.told)
    results = Results(
        _models(study, evaluators, listed, fits), _norms(evaluators, listed), asked.areas, store.provenance, table
    )
    return write_guidance(
        study.folder, results, resamples=settings.compare.bootstrap, seed=settings.seed,
        facts=_facts(project, store, asked), notes=notes,
    )  # fmt: skip


def _check_norms(evaluators: Mapping[str, Evaluator]) -> None:
    """Refuse a protocol that does not search for minimum norms in the norm that it is named for."""
    for norm in (name for name in NORMS if name in evaluators):
        protocol = evaluators[norm].protocol
        attack = protocol.probe.attack
        if attack is None or not protocol.minimum_norm or attack.norm != norm:
            raise InputError(
                f"protocols: {protocol.name} searches no {norm} norms: name another protocol for {norm}, or null"
            )


def _reliable(store: ResponseStore, asked: GuidanceSettings, seed: int) -> tuple[list[str], pd.DataFrame]:
    """The areas that may guide, and the reliability of those that are asked for."""
    for kind, wanted, there in (("area", asked.areas, store.rois), ("subject", asked.subjects, store.subjects)):
        if unknown := [one for one in wanted if one not in there]:
            raise unknown_name(f"{kind} of {store.path.stem}", unknown[0], set(there))
    if not len(store.trials):
        raise InputError(f"{store.path} holds dissimilarities: guidance needs responses to single images")
    table = pd.DataFrame([one.as_json() for one in reliability(store, RESAMPLES, seed)[0]])
    own = table[table["roi"].isin(asked.areas)]
    own = own[own["subject"].isin(asked.subjects)] if asked.subjects else own
    poor = {row["roi"] for _, row in own.iterrows() if row["above_zero"] is False}
    return [area for area in asked.areas if area not in poor], own.reset_index(drop=True)


def _keeps_weight(settings: Settings, asked: GuidanceSettings, area: str) -> bool:
    """Whether the guided recipe's cross-entropy has the weight of unguided training."""
    training = next(arm.training for arm in arms("", asked, [area], settings.train, False) if arm.role == "area")
    recipe, _ = resolve(settings, training)
    return bool(recipe.settings.normalise_ce)


def _notes(asked: GuidanceSettings, reliable: Sequence[str], weighs_less: bool, listed: Sequence[Arm]) -> list[str]:
    notes = []
    if left_out := [area for area in asked.areas if area not in reliable]:
        notes.append(f"Not trained, since the reliability is not above zero: {', '.join(left_out)}.")
    if not weighs_less:
        notes.append(
            "The guided cross-entropy has weight 1, as that of unguided training: no further control is needed."
        )
    few = sorted({arm.seeds for arm in listed})
    if len(few) > 1:
        notes.append(f"Some controls have {few[0]} seeds, the areas {asked.seeds}.")
    if asked.images is not None:
        notes.append(f"Minimum norms are of the first {asked.images} images.")
    return notes


def _each(listed: Sequence[Arm]) -> list[tuple[Arm, int]]:
    """Every model, seed by seed, so that an interrupted study has whole seeds."""
    most = max(arm.seeds for arm in listed)
    return [(arm, seed) for seed in range(most) for arm in listed if seed < arm.seeds]


def _train(study: Guidance, asked: GuidanceSettings, listed: Sequence[Arm], device: str) -> None:
    jobs = [
        Job(study.root, arm.model(seed), arm.training, seed, study.models / arm.model(seed), device)
        for arm, seed in _each(listed)
    ]
    with progress(f"training {len(jobs)} models") as advance:
        train_all(jobs, asked.workers, advance)


def _evaluate(study: Guidance, evaluator: Evaluator, listed: Sequence[Arm], settings: Settings) -> None:
    sources = [TrainedModel(study.models / arm.model(seed)) for arm, seed in _each(listed)]
    engine = create_engine("local", evaluator.device, settings.evaluate.threads)
    with progress(f"{evaluator.protocol.name}: {len(sources)} models") as advance:
        outcomes = Campaign(evaluator, sources, engine, advance).run()
    failed = [f"{one.name}: {one.error}" for one in outcomes if not one.measured]
    if failed:
        raise CheckFailed(f"{len(failed)} of {len(outcomes)} models failed: {'; '.join(failed[:3])}")


def _models(study: Guidance, evaluators: Mapping[str, Evaluator], listed: Sequence[Arm], fits: Fits) -> pd.DataFrame:
    rows = []
    for arm, seed in _each(listed):
        card = read_card(study.models / arm.model(seed))
        row: dict[str, Any] = {"arm": arm.name, "role": arm.role, "area": arm.area, "subject": arm.subject}
        row |= {"seed": seed, "accuracy": float(card.metrics["val_accuracy"])}
        if "geometry" in evaluators:
            found = read_summary(evaluators["geometry"].paths(arm.model(seed)))["metrics"]
            row |= {short: found.get(name) for short, name in GEOMETRY.items()}
        if "fit" in evaluators:
            row |= fits.of(read_summary(evaluators["fit"].paths(arm.model(seed)))["metrics"], arm.area, arm.subject)
        rows.append(row)
    return pd.DataFrame(rows)


def _norms(evaluators: Mapping[str, Evaluator], listed: Sequence[Arm]) -> pd.DataFrame:
    """Minimum norms of the images that each model gets right, those of linf in 1/255."""
    tables = []
    for arm, seed in _each(listed):
        columns = {}
        for norm in (name for name in NORMS if name in evaluators):
            rows = read_rows(evaluators[norm].paths(arm.model(seed)).rows)
            item = "stimulus" if "stimulus" in rows else "image"
            right = rows[rows[STATUS] == Status.OK].set_index(item)
            columns[norm] = right[NORMS[norm]] * SCALES[norm]
        table = pd.DataFrame(columns).rename_axis("image").reset_index()
        tables.append(table.assign(arm=arm.name, subject=arm.subject, seed=seed))
    return pd.concat(tables, ignore_index=True)


def _facts(project: Project, store: ResponseStore, asked: GuidanceSettings) -> dict[str, str]:
    commit, dirty = provenance.git_state(project.root)
    return {
        "responses": f"{shown(asked.responses)}, SHA-256 {responses_digest(store.path)[:12]}",
        "what they are": store.description or "not said",
        "areas": " < ".join(asked.areas),
        "models": f"{asked.model}, recipe {asked.recipe}, {asked.seeds} seeds",
        "protocols": ", ".join(asked.protocols.named().values()),
        "code (git)": f"{commit}{' with changes' if dirty else ''}" if commit else "not under git",
    }
