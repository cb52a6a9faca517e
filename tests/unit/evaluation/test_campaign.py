"""An evaluation of several models: kept, continued, failed and pruned as promised, whatever interrupts it."""

import json
import os
import random
import shutil
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from advalign.data.results import Paths, stored_identity, write_table
from advalign.errors import DataError
from advalign.evaluation import shards as shards_module
from advalign.evaluation import tasks as tasks_module
from advalign.evaluation.campaign import Campaign, TrainedModel
from advalign.evaluation.engines import _portable, attempt
from advalign.evaluation.engines.local import local
from advalign.evaluation.runner import Evaluator
from advalign.evaluation.tasks import AT_ONCE, MemoryRanOut
from advalign.files import Project
from advalign.memory import held
from advalign.models.checkpoints import CARD, WEIGHTS, read_card
from advalign.models.zoo import create_classifier
from advalign.settings import load_settings
from tests.conftest import edit_card, save_untrained, with_stimuli

pytestmark = pytest.mark.slow

ONE, TWO, THREE = NAMES = ("test_resnet.one", "test_resnet.two", "test_resnet.three")
LIMIT = 36
UNITS = 4  # tasks of a model: three shards of stimuli, one of validation images
KNOWN = {}


def remembered(task):
    """What `attempt` gives, computed once: most tests here are about files, not about attacks."""
    if task not in KNOWN:
        KNOWN[task] = attempt(task)
    return KNOWN[task]


class Spy:
    """An engine in this process that remembers its tasks and is interrupted after some of them."""

    def __init__(self, stop_after=None, work=remembered):
        self.stop_after, self.work, self.ran = stop_after, work, []

    def __call__(self, tasks):
        for task in tasks:
            if len(self.ran) == self.stop_after:
                raise KeyboardInterrupt
            self.ran.append(task)
            yield task, self.work(task)

    def spans(self, probe="minimum-norm"):
        return [(task.checkpoint.name, task.first) for task in self.ran if task.protocol.probe == probe]


@dataclass
class Fetched:
    """A model that is copied from a folder when it is needed."""

    origin: Path
    folder: Path
    events: list[tuple[str, str]] = field(default_factory=list)

    @property
    def name(self):
        return self.folder.name

    def known(self):
        return read_card(self.folder) if (self.folder / CARD).is_file() else None

    def fetch(self):
        self.events.append(("fetch", self.name))
        if not self.origin.is_dir():
            raise ConnectionError(f"{self.origin.name}\n  cannot be had")
        shutil.copytree(self.origin, self.folder, dirs_exist_ok=True)
        return read_card(self.folder)

    def prune(self):
        self.events.append(("prune", self.name))
        (self.folder / WEIGHTS).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def made(sample_root, tmp_path_factory):
    """A project with stimuli and three untrained models."""
    project = with_stimuli(sample_root, tmp_path_factory.mktemp("campaign") / "project")
    for seed, name in enumerate(NAMES):
        save_untrained(project, name, create_classifier("test_resnet", 36, 64, seed=seed))
    return project


@pytest.fixture
def project(made):
    """The same with nothing evaluated."""
    shutil.rmtree(made.evaluations, ignore_errors=True)
    shutil.rmtree(made.fetched, ignore_errors=True)
    return made


def evaluator(project, protocol="fmn-5", limit=LIMIT, **changes):
    settings = load_settings(project.root)
    changed = {"shard_size": 12, "threads": 1, "gallery": 3, **changes}
    settings = settings.model_copy(
        update={
            "evaluate": settings.evaluate.model_copy(update=changed),
            "compare": settings.compare.model_copy(update={"bootstrap": 50}),
        }
    )
    return Evaluator(project, settings, protocol, limit)


def run(project, engine, names=NAMES, sources=None, on_progress=lambda *_: None, prune=False, **changes):
    sources = sources or [TrainedModel(project.checkpoints / name) for name in names]
    outcomes = Campaign(evaluator(project, **changes), sources, engine, on_progress, prune).run()
    return {outcome.name: (outcome.state, outcome.error) for outcome in outcomes}


def interrupt(project, engine, **options):
    with pytest.raises(KeyboardInterrupt):
        run(project, engine, **options)


def states(outcomes):
    return [state for state, _ in outcomes.values()]


def files(project):
    """Every file of the evaluations but locks, as bytes: rows, predictions, galleries, summaries, and any leftover."""
    found = project.evaluations.rglob("*")
    return {str(path.relative_to(project.evaluations)): path.read_bytes() for path in found if path.name != ".lock"
            and path.is_file()}  # fmt: skip


def undisturbed(project, **options):
    assert set(states(run(project, Spy(), **options))) == {"evaluated"}
    found = files(project)
    shutil.rmtree(project.evaluations)
    return found


def test_models_are_evaluated_and_then_kept(project):
    assert states(run(project, local(1, remembered))) == ["evaluated"] * 3
    first = files(project)
    assert len(first) == 4 * len(NAMES)  # rows, gallery, summary, predictions
    assert not list(project.evaluations.rglob("shards/*"))
    spy = Spy()
    assert states(run(project, spy)) == ["kept"] * 3
    assert spy.ran == []
    assert files(project) == first


def test_what_cannot_be_fetched_is_recorded_until_it_can(project, tmp_path):
    absent = Fetched(tmp_path / "absent", project.fetched / "test_resnet.absent")
    sources = [absent, *(TrainedModel(project.checkpoints / name) for name in NAMES)]
    outcomes = run(project, Spy(), sources=sources)
    assert states(outcomes) == ["failed", *["evaluated"] * 3]
    record = Paths(project.evaluations / f"fmn-5.first{LIMIT}", absent.name).failure
    line = "ConnectionError: absent cannot be had"
    assert json.loads(record.read_text()) == {"model": absent.name, "error": line}
    assert outcomes[absent.name] == ("failed", line)

    shutil.copytree(project.checkpoints / ONE, absent.origin)
    edit_card(absent.origin, name=absent.name)
    spy = Spy()
    assert states(run(project, spy, sources=sources)) == ["evaluated", *["kept"] * 3]
    assert {name for name, _ in spy.spans()} == {absent.name}
    assert not record.exists()


def test_a_task_that_raises_fails_its_model_only(project):
    def work(task):
        return ValueError("not\nfinite") if (task.checkpoint.name, task.first) == (TWO, 12) else remembered(task)

    expected = undisturbed(project)
    spy = Spy(work=work)
    outcomes = run(project, spy)
    assert states(outcomes) == ["evaluated", "failed", "evaluated"]
    assert outcomes[TWO][1] == "ValueError: not finite"
    assert [first for name, first in spy.spans() if name == TWO] == [0, 12]  # the others would fail alike
    again = Spy()
    assert states(run(project, again)) == ["kept", "evaluated", "kept"]
    assert again.spans() == [(TWO, 12), (TWO, 24)]
    assert files(project) == expected


def test_a_failure_that_cannot_be_recorded_stops_nobody(project, monkeypatch):
    def full(self, name, line):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Evaluator, "record_failure", full)
    outcomes = run(project, Spy(work=lambda task: MemoryError() if task.checkpoint.name == ONE else remembered(task)))
    assert states(outcomes) == ["failed", "evaluated", "evaluated"]


@pytest.mark.parametrize(("stop_after", "work"), [(2, remembered), (5, attempt), (7, remembered)])
def test_an_interrupted_run_continues_bit_for_bit(project, stop_after, work):
    expected = undisturbed(project, names=[ONE, TWO])
    first, second = Spy(stop_after, work), Spy(work=work)
    interrupt(project, first, names=[ONE, TWO])
    run(project, second, names=[ONE, TWO])
    ran = first.ran + second.ran
    assert [len(first.ran), len(ran), len(set(ran))] == [stop_after, 2 * UNITS, 2 * UNITS]
    assert files(project) == expected


def test_an_interruption_before_any_file_move_does_no_harm(project, monkeypatch):
    expected = undisturbed(project, names=[ONE], limit=24)
    move, left = Path.replace, 0

    def interrupted(self, target):
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return move(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    moves = 2 * 2 + 1 + 4  # parts (rows and gallery; images), then predictions, gallery, rows, summary
    for number in range(1, moves + 1):
        shutil.rmtree(project.evaluations, ignore_errors=True)
        left = number
        interrupt(project, Spy(), names=[ONE], limit=24)
        left = 0
        assert states(run(project, Spy(), names=[ONE], limit=24))[0] == ("kept" if number == moves else "evaluated")
        assert files(project) == expected, number


def test_parts_of_other_settings_are_not_used(project):
    interrupt(project, Spy(2), names=[ONE])
    spy = Spy()
    run(project, spy, names=[ONE], gallery=2)
    assert len(spy.ran) == UNITS
    found = files(project)
    shutil.rmtree(project.evaluations)
    assert undisturbed(project, names=[ONE], gallery=2) == found


def test_damaged_parts_are_made_again(project):
    expected = undisturbed(project, names=[ONE])
    interrupt(project, Spy(3), names=[ONE])
    parts = project.evaluations / f"fmn-5.first{LIMIT}" / "shards" / ONE
    rows = sorted(parts.glob("*.parquet"))
    galleries = sorted(parts.glob("*.safetensors"))
    assert [len(rows), len(galleries)] == [3, 3]
    os.truncate(rows[0], rows[0].stat().st_size // 2)
    galleries[1].unlink()
    os.truncate(galleries[2], 20)
    spy = Spy()
    run(project, spy, names=[ONE])
    assert spy.spans() == [(ONE, 0), (ONE, 12), (ONE, 24)]
    assert files(project) == expected


def test_a_flipped_byte_in_a_part_is_no_traceback(project):
    interrupt(project, Spy(1), names=[ONE])
    one = evaluator(project)
    subject = one.subject(project.checkpoints / ONE)
    shards, task = one.shards(subject, "fmn-5"), one.tasks(subject)[0]
    part = next(shards.folder.glob("*.parquet"))
    whole, chance = part.read_bytes(), random.Random(3)
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        part.write_bytes(damaged)
        shards.load(task)


def test_a_part_is_written_again_when_another_process_clears_the_folder(project, monkeypatch):
    write, cleared = shards_module.write_kept, []

    def clearing(path, *arguments):
        write(path, *arguments)
        if not cleared:
            cleared.append(path)
            shutil.rmtree(path.parent)

    monkeypatch.setattr(shards_module, "write_kept", clearing)
    assert states(run(project, Spy(), names=[ONE])) == ["evaluated"]
    assert cleared


@pytest.mark.parametrize("at", [0, 2, UNITS - 1])
@pytest.mark.parametrize("other", ["fmn-5", "fmn-6"])
def test_a_second_evaluation_may_finish_meanwhile(project, at, other):
    """The other run takes the parts of the same model, or of its predictions, away."""
    expected = undisturbed(project, names=[ONE])
    runs = []

    def work(task):
        if len(runs) == at:
            assert states(run(project, Spy(), names=[ONE], protocol=other)) == ["evaluated"]
        runs.append(task)
        return OSError("pruned") if other == "fmn-5" and len(runs) > at else remembered(task)

    assert states(run(project, Spy(work=work), names=[ONE])) == ["kept" if other == "fmn-5" else "evaluated"]
    assert len(runs) == (at + 1 if other == "fmn-5" else UNITS)
    found = files(project)
    assert {name: found[name] for name in expected} == expected
    assert not [name for name in found if "shards" in name]


def test_predictions_are_shared_by_protocols_and_follow_the_weights(project):
    spy = Spy()
    assert states(run(project, spy, names=[ONE])) == ["evaluated"]
    assert states(run(project, spy, names=[ONE], protocol="fmn-6")) == ["evaluated"]
    assert spy.spans("predictions") == [(ONE, 0)]
    assert len(spy.spans()) == 2 * (UNITS - 1)

    before = files(project)
    save_untrained(project, ONE, create_classifier("test_resnet", 36, 64, seed=9))
    changed = Spy()
    assert states(run(project, changed, names=[ONE])) == ["evaluated"]
    assert [len(changed.spans("predictions")), len(changed.spans())] == [1, UNITS - 1]
    after = files(project)
    assert all(after[f"{folder}/{ONE}.parquet"] != before[f"{folder}/{ONE}.parquet"]
               for folder in (f"predictions.first{LIMIT}", f"fmn-5.first{LIMIT}"))  # fmt: skip
    save_untrained(project, ONE, create_classifier("test_resnet", 36, 64, seed=0))


def test_a_changed_validation_image_costs_no_attack(project):
    run(project, Spy(), names=[ONE])
    image = next((project.data / "imagenet" / "val").glob("*.JPEG"))
    before = image.read_bytes()
    try:
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(image)
        spy = Spy(work=attempt)
        assert states(run(project, spy, names=[ONE])) == ["evaluated"]
    finally:
        image.write_bytes(before)
    assert [task.protocol.name for task in spy.ran] == ["predictions"]


def test_weights_that_are_replaced_meanwhile_are_not_taken_for_the_old(project):
    task = evaluator(project).tasks(evaluator(project).subject(project.checkpoints / ONE))[0]
    error = attempt(replace(task, weights="0" * 64))
    assert isinstance(error, DataError)
    assert "was replaced during its evaluation" in str(error)


def test_weights_are_pruned_when_their_model_is_finished(project):
    events = []
    sources = [Fetched(project.checkpoints / name, project.fetched / name, events) for name in NAMES]

    def computed(task):
        assert (task.checkpoint / WEIGHTS).is_file()
        return remembered(replace(task, checkpoint=project.checkpoints / task.checkpoint.name))

    def work(task):
        events.append(("task", task.checkpoint.name))
        return TimeoutError("gone") if (task.checkpoint.name, task.first) == (TWO, 12) else computed(task)

    assert states(run(project, Spy(work=work), sources=sources, prune=True)) == ["evaluated", "failed", "evaluated"]
    for name in NAMES:
        own = [event for event, model in events if model == name]
        assert own == ["fetch", *["task"] * (2 if name == TWO else UNITS), "prune"]
        assert not (project.fetched / name / WEIGHTS).exists()
    events.clear()
    assert states(run(project, Spy(work=computed), sources=sources)) == ["kept", "evaluated", "kept"]
    assert events == [("fetch", TWO)]  # and nothing is pruned unless asked


def test_progress_ends_at_its_total(project, tmp_path):
    absent = Fetched(tmp_path / "absent", project.fetched / "test_resnet.absent")
    sources = [TrainedModel(project.checkpoints / ONE), absent, TrainedModel(project.checkpoints / TWO)]
    run(project, Spy(), names=[ONE], protocol="fmn-6")  # the predictions are there
    interrupt(project, Spy(2), names=[ONE])
    heard = []
    run(project, Spy(), sources=sources, on_progress=lambda done, total, note: heard.append((done, total)))
    whole = 3 * evaluator(project).passes_per_model
    assert {total for _, total in heard} == {whole}
    done = [done for done, _ in heard]
    assert [done[0], done[-1]] == [0, whole]
    assert done == sorted(done)


def test_an_error_that_cannot_travel_becomes_its_line():
    class Awkward(Exception):  # noqa: N818
        def __init__(self, response, code):
            super().__init__(f"{response} {code}")

    kept, changed = _portable(DataError("x is missing")), _portable(Awkward("no", 404))
    assert isinstance(kept, DataError)
    assert str(changed) == "Awkward: no 404"


def deadly(task):
    """Is killed as the system kills what takes too much memory: above 12 images in a pass, or whatever is left."""
    if task.checkpoint.name == TWO or (task.checkpoint.name == ONE and AT_ONCE >> task.halvings > 12):
        os.kill(os.getpid(), signal.SIGKILL)
    if task.checkpoint.name == THREE and not (task.root / "crashed-once").exists():
        (task.root / "crashed-once").touch()
        os.abort()
    return attempt(task)


def test_a_killed_task_runs_again_in_smaller_passes_and_a_deadly_one_costs_only_its_model(
    made, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("advalign.evaluation.engines.MOST_HALVINGS", 2)
    project = Project(tmp_path / "project")
    shutil.copytree(made.root, project.root, ignore=shutil.ignore_patterns("evaluations"))
    expected = undisturbed(project, names=[ONE, THREE], limit=24)
    outcomes = run(project, local(2, deadly), limit=24)
    assert states(outcomes) == ["evaluated", "failed", "evaluated"]
    assert outcomes[TWO][1].startswith("MemoryRanOut: memory ran out (")
    assert "use fewer --workers" in outcomes[TWO][1]
    said = capsys.readouterr().err
    assert "advalign: test_resnet.one: a worker was killed (out of memory?): its task runs again with half" in said
    found = files(project)
    of_one = {name for name in expected if ONE in name}
    assert {name: found[name] for name in expected.keys() - of_one} == {
        name: expected[name] for name in expected.keys() - of_one
    }
    told = evaluator(project, limit=24).paths(ONE)
    rows = pd.read_parquet(told.rows)
    assert {*rows["batch_size"]} == {12}
    assert json.loads(told.summary.read_text())["smallest_batch"] == 12


def test_memory_that_is_refused_halves_the_passes_in_this_process_too(project):
    tried = []

    def work(task):
        tried.append(task.halvings)
        refused = RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        )
        return refused if len(tried) in (1, 3) else remembered(task)

    assert states(run(project, local(1, work), names=[ONE])) == ["evaluated"]
    assert tried == [0, 1, 1, 2, 2, 2]


def test_a_worker_with_little_memory_takes_fewer_images_at_once(project):
    (task, *_) = evaluator(project, shard_size=48).tasks(evaluator(project).subject(project.checkpoints / ONE))
    plenty = attempt(replace(task, memory=2**50))
    assert plenty.rows["batch_size"].isna().all()
    _, _, by_image = tasks_module._model(task.checkpoint, task.weights, "cpu", True)
    assert 2**19 < by_image < 2**24
    little = held() + (task.checkpoint / WEIGHTS).stat().st_size + 5.5 * by_image / tasks_module.SHARE
    little += tasks_module.COPIES * (task.last - task.first) * 3 * 64**2 * 4
    assert tasks_module._batch_size(replace(task, memory=int(little)), by_image, 64) in (4, 5, 6)
    assert tasks_module._batch_size(replace(task, memory=int(little), halvings=2), by_image, 64) == 1
    with pytest.raises(MemoryRanOut, match="memory ran out"):
        tasks_module._batch_size(replace(task, memory=int(little), halvings=4), by_image, 64)
    assert {*attempt(replace(task, memory=1)).rows["batch_size"]} == {1}


def test_costly_models_have_tasks_of_fewer_items(project):
    spans = {}
    for tflop in (None, 1.0, 1e-6):
        one = evaluator(project, "fmn-fast", limit=36, shard_size=36, task_tflop=tflop)
        subject = one.subject(project.checkpoints / ONE)
        spans[tflop] = [(task.first, task.last) for task in one.tasks(subject) if task.protocol.probe == "minimum-norm"]
    assert spans[None] == spans[1.0] == [(0, 36)]
    assert spans[1e-6] == [(first, min(first + 5, 36)) for first in range(0, 36, 5)]


def test_changed_predictions_and_an_edited_summary_are_computed_again(project):
    run(project, Spy(), names=[ONE])
    found = files(project)
    predictions = project.evaluations / f"predictions.first{LIMIT}" / f"{ONE}.parquet"
    table = pd.read_parquet(predictions)
    write_table(predictions, table.assign(prediction=0), stored_identity(predictions), probe="predictions")
    spy = Spy()
    assert states(run(project, spy, names=[ONE])) == ["evaluated"]
    assert {task.protocol.name for task in spy.ran} == {"predictions"}
    assert files(project) == found

    summary = evaluator(project).paths(ONE).summary
    told = json.loads(summary.read_text())
    told["metrics"]["multilabel_accuracy"] = 1.0
    summary.write_text(json.dumps(told, indent=1) + "\n")
    spy = Spy()
    assert states(run(project, spy, names=[ONE])) == ["kept"]
    assert spy.ran == []
    assert files(project) == found


def test_a_flipped_bit_in_a_shard_is_noticed(project):
    interrupt(project, Spy(stop_after=2), names=[ONE])
    (shard, *_) = sorted((evaluator(project).folder / "shards" / ONE).glob("*.parquet"))
    whole = shard.read_bytes()
    subject = evaluator(project).subject(project.checkpoints / ONE)
    shards, task = evaluator(project).shards(subject, "fmn-5"), evaluator(project).tasks(subject)[0]
    expected = shards.load(task).rows
    unnoticed = []
    pages = len(whole) - int.from_bytes(whole[-8:-4], "little") - 8  # what follows is the footer
    for place in range(4, pages, max(1, pages // 120)):
        shard.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        found = shards.load(task)
        if found is not None and not found.rows.equals(expected):
            unnoticed.append(place)
    assert unnoticed == []
