"""A tamper drill: no file that was changed on disk changes a number in silence.

Every file of a finished project is of a kind below. Of each kind one file is damaged in every way that a disk or an
editor has: single bits, cut short, empty, another whole file of the same kind in its place. Whoever reads the file then
either gets what was written, or says which file is damaged.
"""

import json
import os
import random
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pytest
import torch
import yaml

from advalign import seals
from advalign.analysis.assembly import gallery_of
from advalign.analysis.comparison import compare
from advalign.analysis.comparison_files import read_comparison
from advalign.analysis.evaluated import evaluated
from advalign.analysis.people import read_people
from advalign.data.classes import read_classes
from advalign.data.human_maps.make import need_maps
from advalign.data.participants import read_images, read_trials, say_if_changed
from advalign.data.responses import ResponseStore, need_responses
from advalign.data.results import Paths, write_kept
from advalign.data.sets.stimuli import load_stimuli
from advalign.data.training_images import training_images, validation_images
from advalign.errors import AdvalignError
from advalign.evaluation.runner import Evaluator
from advalign.inputs import digests, tracked
from advalign.models import fetched as fetched_models
from advalign.models.checkpoints import load_checkpoint, read_card, read_history
from advalign.models.declared import read_zoo
from advalign.models.fetched import FetchedModel
from advalign.probes.base import Measured
from advalign.settings import load_settings
from advalign.tracking.registry.decisions import read_all
from advalign.tracking.registry.evidence import read_evaluation
from advalign.tracking.registry.promotion import promote
from advalign.tracking.registry.registered import fetch, versions_of
from advalign.tracking.store import open_store
from tests.registered import make_project, publish
from tests.tiny_responses import write_responses
from tests.tiny_training import fit
from tests.unit.analysis.people_made_up import write_maps

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("tamper")]

FLIPS, CUTS = 200, 10
WEIGHTS = "weights/own_net.safetensors"
BASE, TWIN = "net.baseline", "net.harmonized"
NOT_READ = {
    r"\.dvc/.*|\.dvcignore|data/\.gitignore": "DVC's",
    r"params\.yaml|registry/.*\.yaml|data\.dvc": "the user's own, versioned by git",
    r"mlflow\.db|\.mlflow\.lock": "MLflow's: no decision takes a number from it (docs/registry.md)",
    r"mlartifacts/.*/(MLmodel|conda\.yaml|python_env\.yaml|requirements\.txt|.*example.*|.*input.*)": "MLflow's own",
    r"mlartifacts/.*/(stimuli\.json|decision\.json|gallery\.png|history\.csv|card\.json|zoo\..*)": "for people",
    r"mlartifacts/.*\.(svg|png|html)": "for people",
    r"outputs/guidance/[^/]+/(verdict\.(json|html)|models\.csv|norms\.parquet|figures/.*)": "for people",
    r".*\.lock|.*/\.lock": "empty",
}
"""Files that no number is taken from, and why."""


class Watching:
    """Interrupts a training after its second epoch."""

    def __getattr__(self, name):
        return lambda *_: None

    def on_epoch(self, row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt


@dataclass
class Finished:
    """A project with every kind of file."""

    project: object
    store: object
    evaluator: Evaluator

    def subject(self, name):
        return self.evaluator.subject(self.project.checkpoints / name)

    @property
    def task(self):
        """The first task of a model, as if nothing of it were finished."""
        return self.evaluator.tasks(self.subject("net.unfinished"))[0]

    def version(self, name):
        return versions_of(self.store, name)[0]

    @cached_property
    def settings(self):
        return load_settings(self.project.root)

    @cached_property
    def fetched(self):
        entry = read_zoo(self.project.zoo).models["own_net"]
        card = read_card(self.project.checkpoints / BASE)
        return FetchedModel(
            "own_net", entry, str(self.project.root / WEIGHTS), self.project.fetched / "own_net",
            self.project.root, card.classes, card.decisions, lambda uri: None, self.project.digests,
        )  # fmt: skip


@pytest.fixture(scope="module")
def finished(sample_root, tmp_path_factory):
    project = make_project(sample_root, tmp_path_factory.mktemp("tamper") / "project")
    for seed, name in enumerate(("brain", "other")):
        write_responses(project, name, every=4, seed=seed)
    write_maps(project)
    for command in ("init --no-scm", "add data"):
        subprocess.run([sys.executable, "-m", "dvc", "-q", *command.split()], cwd=project.root, check=True)
    params = yaml.safe_load((project.root / "params.yaml").read_text())
    params["compare"] = {"bootstrap": 100}
    (project.root / "params.yaml").write_text(yaml.safe_dump(params))
    zoo = yaml.safe_load(project.zoo.read_text())
    zoo["architectures"] = {**zoo.get("architectures", {}), "test_resnet": "cnn"}
    place = {"input_size": 64, "mean": [0.5] * 3, "std": [0.5] * 3}
    zoo["models"]["own_net"] = {"group": "cnn", "architecture": "test_resnet", "license": "MIT", "preprocessing": place}
    project.zoo.write_text(yaml.safe_dump(zoo))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = open_store(project)
        for seed, (name, numbers) in enumerate(
            {BASE: (0.5, 0.3), TWIN: (0.55, 0.55), "net.unfinished": (0.5, 0.3)}.items()
        ):
            publish(project, store, name, seed, pt=numbers[0], aa=numbers[1], accuracy=0.8)
        made = Finished(project, store, Evaluator(project, load_settings(project.root), "fmn-fast"))
        fill(made)
        compare(project, load_settings(project.root))
        assert promote(project, store, TWIN, force=True, reason="for the drill").outcome == "promoted"
        yield made


def fill(made):
    """Add what a running evaluation and training leave: galleries, a shard, a state; and fetched weights."""
    project, evaluator = made.project, made.evaluator
    for name in (BASE, TWIN):
        kept = {position: torch.rand(3, 64, 64) for position in evaluator.main.kept}
        write_kept(evaluator.paths(name).gallery, kept, made.subject(name).identities["fmn-fast"])
    Paths(evaluator.folder, "net.unfinished").remove()
    task = made.task
    rows = evaluated(project, load_settings(project.root).evaluate, "fmn-fast").summaries
    assert len(rows) == 2
    table = evaluator.image_set.listing().iloc[task.first : task.last][["stimulus"]].assign(norm_l2=0.5)
    evaluator.shards(made.subject("net.unfinished"), "fmn-fast").save(task, Measured(table, {0: torch.rand(3, 8, 8)}))
    with pytest.raises(KeyboardInterrupt):
        fit(project.resume).run([Watching()])
    (project.root / "weights").mkdir()
    shutil.copy(project.checkpoints / BASE / "model.safetensors", project.root / "weights" / "own_net.safetensors")
    made.fetched.fetch()
    digests(evaluator.data.files, project.digests)


def numbers_of(state):
    """A state's tensors as bytes, in nested lists and mappings."""
    if isinstance(state, torch.Tensor):
        return state.numpy().tobytes()
    if isinstance(state, dict):
        return {key: numbers_of(value) for key, value in state.items() if key != seals.KEY}
    return [numbers_of(one) for one in state] if isinstance(state, list | tuple) else state


def results(made):
    found = evaluated(made.project, made.settings.evaluate, "fmn-fast")
    gallery = gallery_of(made.evaluator.folder, [BASE, TWIN], load_stimuli(made.project))
    there = [made.evaluator.is_finished(made.subject(name)) for name in (BASE, TWIN)]
    pictured = {name: [one.tobytes() for one in arrays] for name, arrays in gallery.perturbations.items()}
    return [(one["model"], one["metrics"]) for one in found.summaries], found.left_out, pictured, there


def shard(made):
    found = made.evaluator.shards(made.subject("net.unfinished"), "fmn-fast").load(made.task)
    return found and (found.rows.to_dict("list"), numbers_of(found.kept))


def training_state(made):
    found = fit(made.project.resume)._saved_state()
    return found and numbers_of(found)


def checkpoint(folder):
    classifier, card = load_checkpoint(folder)
    history = read_history(folder, card)
    return numbers_of(dict(classifier.network.state_dict())), card, history


def trained(made):
    return checkpoint(made.project.checkpoints / BASE)


def stimuli(made):
    found = load_stimuli(made.project)
    return found.digest, found.manifest.to_dict("list")


def comparison(made):
    table, statistics = read_comparison(made.project.comparison)
    return table.to_json(), json.dumps(statistics)


def registered(made):
    with pytest.MonkeyPatch.context() as patch:
        into = made.project.root.parent / "fetched"
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir()
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return checkpoint_without_history(fetch(made.version(TWIN), into, made.store))


def checkpoint_without_history(folder):
    classifier, card = load_checkpoint(folder)
    return numbers_of(dict(classifier.network.state_dict())), card


def served(made):
    """What MLflow's loader finds in each version: it runs the file, and refuses one that sets no model."""
    return [_set_by(path) for path in sorted((made.project.root / "mlartifacts" / "models").rglob("served.py"))]


def _set_by(path):
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlflow.models.set_model", lambda model: found.append(type(model)))
        try:
            runpy.run_path(str(path))
        except Exception as error:  # noqa: BLE001  whatever a damaged file raises
            raise AdvalignError(f"{path} cannot be run: {error!r}") from None
    if not found:
        raise AdvalignError(f"{path} sets no model")
    return found


def evaluation(made):
    found = read_evaluation(made.store, made.version(TWIN), "fmn-fast", made.settings.evaluate)
    return found.metrics, found.summary, found.rows.to_dict("list")


def data(made):
    """As `evaluate` and `promote` read it: which files are not what data.dvc says."""
    root, reads = made.project.root, made.evaluator.data.files
    return [tracked(root, digests(reads, memory), memory).warning for memory in (made.project.digests, None)]


def training_data(made):
    """As a training reads it."""
    project, settings = made.project, made.settings.train
    classes = read_classes(project.data / "classes.yaml")
    paths = [path for of in (training_images, validation_images) for path in of(project, classes, settings).paths]
    return tracked(project.root, digests(paths, project.digests), project.digests).warning


def participants(made):
    """As stage `maps` reads them."""
    say_if_changed(made.project)
    return [table.to_json() for table in (read_images(made.project), *read_trials(made.project))]


def people(made):
    """As comparison and report read them; the run in MLflow needs every file whole."""
    need_maps(made.project)
    found = read_people(made.project, made.settings, load_stimuli(made.project))
    return found.summary, found.cleaning, found.curve, found.agreement.to_json()


def responses(made):
    """As training, reliability, study and encoding models read them."""
    store = ResponseStore.open(need_responses(made.project, "brain"))
    return store.read().tobytes(), store.units.to_json(), store.trials.to_json(), store.images.to_json()


def known(made):
    card = made.fetched.known()
    return card and card.weights_sha256


def fetched(made):
    return checkpoint(made.fetched.folder)


def decisions(made):
    return [kept.model_dump() for kept in read_all(made.project)] or None


def remembered(made):
    reads = made.evaluator.data.files
    assert digests(reads, made.project.digests) == digests(reads, None)


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        pattern: of its paths.
        read: reads it as the program does, and returns what was read; None: it is computed again.
        named: what a message calls it, if not by its name.
    """

    pattern: str
    read: Callable[[Finished], object]
    named: str = ""


RUN = r"mlartifacts/[0-9a-f]{32}/artifacts"
KINDS = {
    "rows": Kind(r"outputs/evaluations/fmn-fast/[^/]+\.parquet", results),
    "predictions": Kind(r"outputs/evaluations/predictions/[^/]+\.parquet", results),
    "summary": Kind(r"outputs/evaluations/fmn-fast/[^/]+\.json", results),
    "gallery": Kind(r"outputs/evaluations/[^/]+/gallery/[^/]+\.safetensors", results),
    "shard rows": Kind(r"outputs/evaluations/[^/]+/shards/.*\.parquet", shard),
    "shard tensors": Kind(r"outputs/evaluations/[^/]+/shards/.*\.safetensors", shard),
    "training state": Kind(r"outputs/resume/.*\.pt", training_state),
    "weights": Kind(r"outputs/checkpoints/.*/model\.safetensors", trained),
    "card": Kind(r"outputs/checkpoints/.*/card\.json", trained),
    "history": Kind(r"outputs/checkpoints/.*/history\.csv", trained),
    "manifest": Kind(r"outputs/stimuli/manifest\.parquet", stimuli),
    "stimuli": Kind(r"outputs/stimuli/stimuli\.safetensors", stimuli),
    "comparison": Kind(r"outputs/comparison/.*", comparison),
    "statistics": Kind(r"outputs/comparison/statistics\.json", comparison),
    "registered weights": Kind(r"mlartifacts/.*/artifacts/artifacts/[^/]+/model\.safetensors", registered, TWIN),
    "registered card": Kind(r"mlartifacts/.*/artifacts/artifacts/[^/]+/card\.json", registered, TWIN),
    "served code": Kind(r"mlartifacts/.*/served\.py", served),
    "logged summary": Kind(rf"{RUN}/net[^/]+\.json", evaluation),
    "logged rows": Kind(rf"{RUN}/net[^/]+\.parquet", evaluation),
    "logged predictions": Kind(rf"{RUN}/predictions/net[^/]+\.parquet", evaluation),
    "training data": Kind(r"data/clickme/(train|val)-.*\.tfrecords", training_data, "data"),
    "classes": Kind(r"data/classes\.yaml", data),
    "ceiling": Kind(r"data/clickme/ceiling\.yaml", data),
    "maps": Kind(r"data/clickme/test-.*\.tfrecords", data),
    "participants": Kind(r"data/participants/(trials|images)\.parquet", participants),
    "people's summary": Kind(r"outputs/maps/summary\.json", people),
    "people's cleaning": Kind(r"outputs/maps/cleaning\.json", people),
    "people's curve": Kind(r"outputs/maps/curve\.json", people),
    "agreement": Kind(r"outputs/maps/agreement\.parquet", people),
    "responses": Kind(r"data/responses/[^/]+\.h5", responses),
    "multi-labels": Kind(r"data/imagenet/multilabel\.json", data),
    "labels": Kind(r"data/imagenet/labels\.csv", data),
    "image": Kind(r"data/imagenet/val/.*", data),
    "fetched weights": Kind(r"outputs/zoo/own_net/model\.safetensors", fetched),
    "fetched card": Kind(r"outputs/zoo/own_net/card\.json", known),
    "foreign weights": Kind(r"weights/own_net\.safetensors", known),
    "decision": Kind(r"outputs/decisions/.*\.json", decisions),
    "digests": Kind(r"outputs/\.digests\.db", remembered),
}  # fmt: skip


def files(root):
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_every_file_of_a_project_is_of_a_kind_that_is_drilled(finished):
    root = finished.project.root
    patterns = [*(kind.pattern for kind in KINDS.values()), *NOT_READ]
    names = [path.relative_to(root).as_posix() for path in files(root)]
    unknown = [name for name in names if not any(re.fullmatch(pattern, name) for pattern in patterns)]
    assert not unknown
    unused = [kind for kind, one in KINDS.items() if not any(re.fullmatch(one.pattern, name) for name in names)]
    assert not unused


def damaged(content, others):
    """Every damaged form of a file."""
    chance = random.Random(0)
    for _ in range(FLIPS):
        flipped = bytearray(content)
        flipped[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        yield bytes(flipped)
    yield from (content[: len(content) * cut // CUTS] for cut in range(CUTS))  # the first is empty
    yield from others


@pytest.mark.parametrize("kind", KINDS)
def test_damage_changes_no_number_in_silence(finished, kind, capsys):
    root, one = finished.project.root, KINDS[kind]
    same_kind = [path for path in files(root) if re.fullmatch(one.pattern, path.relative_to(root).as_posix())]
    path = next((path for path in same_kind if TWIN in str(path) or BASE in str(path)), same_kind[0])
    truth, content, stat = one.read(finished), path.read_bytes(), path.stat()
    others = [other.read_bytes() for other in same_kind if other != path and other.name.endswith(path.suffix)][:5]
    silent = []
    for number, wrong in enumerate(damaged(content, others)):
        path.write_bytes(wrong)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        for said_once in (seals._say, fetched_models._say_again):
            said_once.cache_clear()
        capsys.readouterr()
        try:
            found = one.read(finished)
        except AdvalignError as error:
            said = str(error)
        else:
            said = capsys.readouterr().err + (str(found) if one.read in (data, training_data) else "")
            if found == truth:
                continue
        if (one.named or path.name) not in said:
            silent.append((number, said))
    path.write_bytes(content)
    assert not silent
    assert one.read(finished) == truth
