"""A study: both remedies against each alone, over a grid of lambda_1 and eps, from trainings to a figure.

Models and results are in their own folder (outputs/studies/NAME), so that the zoo's table, the registry and the
pipeline do not treat the models as published ones.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from advalign.analysis.drawing import save
from advalign.analysis.study import Cell, against_parents, answer, study_figure, study_norm, study_table
from advalign.analysis.zoo import plain
from advalign.data.results import read_rows, read_summary
from advalign.errors import CheckFailed
from advalign.evaluation.campaign import Campaign, TrainedModel
from advalign.evaluation.engines import create_engine
from advalign.evaluation.runner import Evaluator
from advalign.files import Project, replacing, write_text
from advalign.names import check_name, plain_architecture
from advalign.progress import progress
from advalign.settings import Settings, Training
from advalign.training.plan import Plan, plan
from advalign.training.world import choose_device, is_first, joined
from advalign.workflows.tracked_training import train_tracked


@dataclass(frozen=True)
class Study(Project):
    """A project with its evaluations in the study's folder; data and stimuli are the project's."""

    name: str

    @property
    def folder(self) -> Path:
        """Folder of the study's files."""
        return self.root / "outputs" / "studies" / plain_architecture(self.name)

    @property
    def evaluations(self) -> Path:
        """Rows and summaries of the cells."""
        return self.folder / "evaluations"


@dataclass(frozen=True)
class Grid:
    """The grid of a study.

    Attributes:
        model: a timm name.
        lambda_1: weights of the map term; 0 omits the term.
        eps: radii of the l2 ball; 0 omits adversarial training.
        changes: further values of the settings that all recipes share.
    """

    model: str
    lambda_1: Sequence[float]
    eps: Sequence[float]
    changes: dict[str, Any]

    def trainings(self) -> dict[tuple[float, float], Training]:
        """(lambda_1, eps) -> the training of the cell; the two values determine its recipe."""
        return {(weight, eps): self._training(weight, eps) for eps in self.eps for weight in self.lambda_1}

    def _training(self, weight: float, eps: float) -> Training:
        recipe = {(False, False): "baseline", (True, False): "harmonized", (False, True): "robust"}.get(
            (weight > 0, eps > 0), "combined"
        )
        overrides: dict[str, Any] = {"lambda_1": weight} if weight else {}
        overrides |= {"eps": eps, "constraint": "l2"} if eps else {}
        return Training(model=self.model, recipe=recipe, overrides=overrides, train=self.changes)


def run_study(
    project: Project, settings: Settings, grid: Grid, *, protocol: str | None, limit: int | None, device: str
) -> tuple[pd.DataFrame, str]:
    """Train and evaluate every cell of a grid, keep finished cells, and write table, statistics and figure.

    Args:
        project, settings: params.yaml's values are those of every cell.
        grid: the cells.
        protocol, limit: as `advalign evaluate`.
        device: "auto", "cpu", "cuda", ...

    Returns:
        The table, one row per cell, and the answer in words; empty in all but the first process of `torchrun`.

    Raises:
        CheckFailed: a cell could not be evaluated; the others are finished.
    """
    study = Study(project.root, grid.model)
    # Before the trainings, since it checks its arguments.
    evaluator = Evaluator(study, settings, protocol, limit, str(choose_device(device)))
    plans = {cell: _planned(project, settings, grid.model, cell, one) for cell, one in grid.trainings().items()}
    with joined(device):
        for planned in plans.values():
            train_tracked(project, planned, study.folder / "models" / planned.name, device=device, store_needed=False)
    if not is_first():
        return pd.DataFrame(), ""
    _evaluate(evaluator, [study.folder / "models" / planned.name for planned in plans.values()], settings)
    cells = [_cell(evaluator, *cell, planned.name) for cell, planned in plans.items()]
    return _write(study, settings, evaluator, cells)


def _planned(project: Project, settings: Settings, model: str, cell: tuple[float, float], training: Training) -> Plan:
    """The training of a cell, under a name of its own: published names do not contain lambda_1."""
    name = check_name(f"{plain_architecture(model)}.lambda{cell[0]:g}.eps{cell[1]:g}")
    return replace(plan(project, settings, training), name=name)


def _evaluate(evaluator: Evaluator, folders: list[Path], settings: Settings) -> None:
    engine = create_engine("local", evaluator.device, settings.evaluate.threads)
    with progress(f"evaluating {len(folders)} cells") as advance:
        outcomes = Campaign(evaluator, [TrainedModel(folder) for folder in folders], engine, advance).run()
    failed = [f"{one.name}: {one.error}" for one in outcomes if not one.measured]
    if failed:
        raise CheckFailed(f"{len(failed)} of {len(outcomes)} cells failed: {'; '.join(failed)}")


def _cell(evaluator: Evaluator, lambda_1: float, eps: float, name: str) -> Cell:
    paths = evaluator.paths(name)
    return Cell(lambda_1, eps, name, read_summary(paths)["metrics"], read_rows(paths.rows))


def _write(study: Study, settings: Settings, evaluator: Evaluator, cells: list[Cell]) -> tuple[pd.DataFrame, str]:
    table = study_table(cells)
    ceiling = evaluator.main.human_ceiling
    resamples = settings.compare.bootstrap
    entries = against_parents(cells, seed=settings.seed, resamples=resamples, ceiling=ceiling)
    said = answer(entries, table)
    found = {"protocol": evaluator.folder.name, "norm": study_norm(cells), "answer": said, "against_parents": entries}
    with replacing(study.folder / "study.csv") as temporary:
        table.to_csv(temporary, index=False)
    write_text(study.folder / "study.json", json.dumps(plain(found), indent=1) + "\n")
    save(study_figure(table, study_norm(cells)), study.folder / "study.png")
    return table, said
