"""Identity follows imports, in both directions, on a copy of the package whose files are changed one at a time.

What a result was computed by makes it stale; anything else does not. And what `dvc.yaml` lists for each stage is held
against the code that the stage reaches.
"""

import shutil
from pathlib import Path

import pytest
import yaml

from advalign.closures import NO_PART, Source, closure
from tests.conftest import REPOSITORY

ROWS = "advalign.evaluation.tasks:run_task"
SUMMARY = "advalign.evaluation.summaries:metrics_of"
ATTACKED = (
    "advalign.probes.minimum_norm:MinimumNormProbe",
    "advalign.attacks.fmn_fast:FastMinimumNormSearch",
    "advalign.data.sets.stimuli:StimulusSet",
    "advalign.metrics.perturbation_tolerance:PerturbationTolerance",
    "advalign.metrics.adversarial_human_alignment:AdversarialHumanAlignment",
)
PREDICTED = (
    "advalign.probes.predictions:Predictions",
    "advalign.data.sets.validation:ValidationImages",
    "advalign.metrics.multilabel_accuracy:MultilabelAccuracy",
)
ROOTS = {
    "training": ("advalign.training.train:train", "advalign.recipes.baseline:Baseline"),
    "attacked rows": (ROWS, *ATTACKED),
    "predictions": (ROWS, *PREDICTED),
    "summary": (SUMMARY, *(root for root in (*ATTACKED, *PREDICTED) if ".probes." in root or ".metrics." in root)),
}
CHANGES = [  # file, old text, new text, what becomes stale
    ("data/augmentation.py", "0.5", "0.6", {"training"}),
    ("data/multilabel.py", "def read_multilabel(", "def read_multilabel(*,", {"predictions"}),
    ("attacks/fmn_fast.py", "GAIN = 0.01", "GAIN = 0.02", {"attacked rows"}),
    ("attacks/_plane_steps.py", "BOX_ITERATIONS = 3", "BOX_ITERATIONS = 4", {"attacked rows"}),
    ("attacks/fmn.py", "0.05", "0.06", set()),
    ("metrics/perturbation_tolerance.py", "float(bounded.mean())", "float(bounded.max())", {"summary"}),
    ("averages.py", "np.std(series, ddof=1)", "np.std(series, ddof=0)", {"summary"}),
    ("metrics/adversarial_human_alignment.py", "magnitude_map(", "released_map(", {"attacked rows"}),
    ("metrics/robust_accuracy.py", "(0.25, 0.5, 1.0, 2.0)", "(0.75, 0.5, 1.0, 2.0)", set()),
    ("models/classifier.py", "align_corners=False", "align_corners=True", {"training", "attacked rows", "predictions"}),
    ("settings.py", "bootstrap: int = Field(10_000", "bootstrap: int = Field(20_000", set()),
    ("analysis/statistics.py", "ddof=1", "ddof=0", set()),
    ("attacks/fmn_fast.py", "1. *Descents*", "1. *Smooth descents*", set()),
]


@pytest.fixture
def package(tmp_path) -> Path:
    shutil.copytree(
        REPOSITORY / "advalign", tmp_path / "advalign", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors")
    )
    return tmp_path / "advalign"


def digests(package: Path) -> dict[str, str]:
    source = Source(package.parent, stop=NO_PART)
    return {what: source.closure(*roots).digest for what, roots in ROOTS.items()}


@pytest.mark.parametrize(("file", "old", "new", "stale"), CHANGES, ids=[f"{one[0]}: {one[2]}" for one in CHANGES])
def test_a_change_makes_stale_what_it_computed_and_nothing_else(package, file, old, new, stale):
    before, text = digests(package), (package / file).read_text()
    assert old in text, f"{file} does not say {old!r} any more: change this test with it"
    (package / file).write_text(text.replace(old, new, 1))
    after = digests(package)
    assert {what for what in ROOTS if after[what] != before[what]} == stale


@pytest.mark.parametrize("folder", ["attacks", "metrics", "probes", "data/sets", "recipes", "models", "tensors", "."])
def test_a_new_file_makes_nothing_stale(package, folder):
    before = digests(package)
    (package / folder / "another.py").write_text("from advalign.attacks.base import Attack\n\nX = Attack\n")
    assert digests(package) == before


STAGES = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
REACHED = {  # what each stage's outputs are computed by, beyond the thin file of the stage itself
    "maps": ("advalign.data.human_maps.make:make_human_maps",),
    "stimuli": ("advalign.data.stimuli:freeze_stimuli", "advalign.data.stimuli:save_stimuli"),
    "validate": ("advalign.data.expectations:validate",),
    "train": ROOTS["training"],
    "evaluate": (*ROOTS["attacked rows"], *ROOTS["predictions"], *ROOTS["summary"],
                 "advalign.evaluation.runner:Evaluator", "advalign.attacks.feng2025_released:Feng2025Released"),
    "compare": ("advalign.analysis.comparison:compare",),
}  # fmt: skip


@pytest.mark.parametrize("stage", REACHED)
def test_dvc_yaml_lists_the_code_that_a_stage_reaches(stage):
    """Floor 0 (errors, settings, names) is left out: its values reach a stage as params, identities hold its code."""
    told = STAGES[stage]["do"] if "do" in STAGES[stage] else STAGES[stage]
    listed = [REPOSITORY / dep for dep in told["deps"] if dep.startswith("advalign")]
    needed = {path for path in closure(*REACHED[stage]).files if path.parent.name != "advalign"}
    unlisted = {
        str(path.relative_to(REPOSITORY)) for path in needed if not any(path.is_relative_to(dep) for dep in listed)
    }
    assert not unlisted
    idle = {str(dep.relative_to(REPOSITORY)) for dep in listed if not any(path.is_relative_to(dep) for path in needed)}
    assert not idle


@pytest.mark.parametrize("stage", [*REACHED, "publish"])
def test_every_stage_depends_on_its_own_file(stage):
    told = STAGES[stage]["do"] if "do" in STAGES[stage] else STAGES[stage]
    assert f"pipelines/{stage}.py" in told["deps"]
