"""The evaluation of many models: finished ones are kept, the others fetched when needed, failures recorded.

Models are fetched one after the other, one task ahead of the workers. So downloads run while the workers are busy, and
a zoo larger than the disk can be evaluated when weights are pruned.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Literal, Protocol

from advalign.errors import InapplicableError, quoted
from advalign.evaluation import tally
from advalign.evaluation.engines import Engine, TaskOutcome
from advalign.evaluation.runner import Evaluator, Subject
from advalign.evaluation.tasks import Task
from advalign.models.checkpoints import Card, read_card

TOLD_SECONDS = 1.0  # between reports of what tasks under way have done


class Source(Protocol):
    """A model, and how its checkpoint is brought into its folder."""

    @property
    def name(self) -> str:
        """The published name."""

    @property
    def folder(self) -> Path:
        """The checkpoint's."""

    def known(self) -> Card | None:
        """The card, if it can be had without fetching."""

    def fetch(self) -> Card:
        """Make sure that the checkpoint is complete, weights included."""

    def prune(self) -> None:
        """Remove weights that can be fetched again."""


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint on disk; its weights are never pruned."""

    folder: Path

    @property
    def name(self) -> str:
        """The published name."""
        return read_card(self.folder).name

    def known(self) -> Card:
        """The card."""
        return read_card(self.folder)

    fetch = known

    def prune(self) -> None:
        """Do nothing: the weights could not be fetched again."""


@dataclass(frozen=True)
class Outcome:
    """The outcome for one model.

    Attributes:
        name: of the model.
        state: "kept" (its rows were finished), "evaluated", "failed", or "left out" (the protocol cannot be asked of
            this kind of model).
        error: why it failed or was left out, in a line.
    """

    name: str
    state: Literal["kept", "evaluated", "failed", "left out"]
    error: str = ""

    @property
    def measured(self) -> bool:
        """Whether the model has results."""
        return self.state in ("kept", "evaluated")


@dataclass
class _Open:
    """A model that is being evaluated."""

    source: Source
    subject: Subject
    tasks: list[Task]
    missing: set[Task] = field(default_factory=set)


class Campaign:
    """One run over some models under one protocol.

    Args:
        evaluator: makes the tasks and summaries of a model.
        sources: the models; each name once.
        engine: runs tasks.
        on_progress: called with (passes done, passes in all, model) when a task or a model ends, and in between by
            another thread. Passes are those that are expected; the numbers done never fall.
        prune: remove the weights of fetched models once they are finished.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        sources: Sequence[Source],
        engine: Engine,
        on_progress: Callable[[int, int, str], None] = lambda done, total, note: None,
        prune: bool = False,
    ) -> None:
        self.evaluator, self.engine, self.prune = evaluator, engine, prune
        self.sources = {source.name: source for source in sources}
        self.outcomes: dict[str, Outcome] = {}
        self._open: dict[Path, _Open] = {}
        self._progress = _Progress(evaluator.passes_per_model * len(sources), on_progress)

    def run(self) -> list[Outcome]:
        """Evaluate the unfinished models; the outcomes are in the order of the sources."""
        self._tell("")
        with self._progress.ticking(), closing(self._results()) as results:
            for task, result in results:
                entry = self._open.get(task.checkpoint)
                if entry is not None:  # else its model has failed meanwhile
                    self._take(entry, task, result)
        return [self.outcomes[name] for name in self.sources]

    def _results(self) -> Generator[tuple[Task, TaskOutcome], None, None]:
        """What the engine yields; closed before it is exhausted, its workers end."""
        yield from self.engine(self._tasks())

    def _tasks(self) -> Iterator[Task]:
        """Tasks of all models, made when the engine takes them."""
        for source in self.sources.values():
            try:
                yield from self._tasks_of(source)
            except Exception as error:  # noqa: BLE001  a model that fails is recorded, the others go on
                self._fail(source, error)

    def _tasks_of(self, source: Source) -> Iterator[Task]:
        if source.known() is None or not self.evaluator.is_finished(self.evaluator.subject(source.folder)):
            source.fetch()
        subject = self.evaluator.subject(source.folder)
        tasks = self.evaluator.tasks(subject)
        if not tasks:
            self.evaluator.finish(subject, [])
            self._end(source, Outcome(source.name, "kept"))
            return
        entry = self._open[source.folder] = _Open(source, subject, tasks, set(tasks))
        for task in tasks:
            if self.evaluator.shards(subject, task.protocol.name).load(task) is not None:
                self._done(entry, task)
        for task in [task for task in tasks if task in entry.missing]:
            if source.name in self.outcomes:
                return  # failed: its other tasks would fail too
            yield task

    def _take(self, entry: _Open, task: Task, result: TaskOutcome) -> None:
        try:
            if self.evaluator.is_finished(entry.subject):  # by another process, which may have pruned the weights
                self.evaluator.finish(entry.subject, [])
                self._end(entry.source, Outcome(entry.source.name, "kept"))
            elif isinstance(result, Exception):
                self._fail(entry.source, result)
            else:
                self.evaluator.shards(entry.subject, task.protocol.name).save(task, result)
                self._done(entry, task)
        except Exception as error:  # noqa: BLE001  a full disk fails this model, and is recorded where it can be
            self._fail(entry.source, error)

    def _done(self, entry: _Open, task: Task) -> None:
        entry.missing.discard(task)
        if not entry.missing:
            self.evaluator.finish(entry.subject, entry.tasks)
            self._end(entry.source, Outcome(entry.source.name, "evaluated"))
        self._tell(entry.source.name)

    def _fail(self, source: Source, error: Exception) -> None:
        left_out = isinstance(error, InapplicableError)
        line = quoted(error).removeprefix(f"{source.name}: ") if left_out else quoted(error, named=True)
        with suppress(OSError):  # a full disk: the outcome still has the error
            if left_out:  # results of other settings would stand beside those of the other models
                self.evaluator.paths(source.name).remove()
            self.evaluator.record_failure(source.name, line)
        self._end(source, Outcome(source.name, "left out" if left_out else "failed", line))

    def _end(self, source: Source, outcome: Outcome) -> None:
        self.outcomes[source.name] = outcome
        self._open.pop(source.folder, None)
        if self.prune:
            with suppress(OSError):
                source.prune()
        self._tell(source.name)

    def _tell(self, note: str) -> None:
        """Report the passes of finished models and tasks; every model has the same number."""
        whole, passes = self.evaluator.passes_per_model, self.evaluator.passes
        done = whole * (len(self.outcomes) + len(self._open))
        missing = sum(passes(task) for entry in self._open.values() for task in entry.missing)
        self._progress.advance(done - missing, note)


class _Progress:
    """Passes that are done: those of finished tasks, and those that tasks under way have made so far.

    Args:
        total: passes in all.
        report: called with (passes done, passes in all, note), by one thread at a time.
    """

    def __init__(self, total: int, report: Callable[[int, int, str], None]) -> None:
        self.total, self._report = total, report
        self._finished, self._shown, self._note = 0, 0, ""
        self._lock = Lock()

    def advance(self, finished: int, note: str) -> None:
        """Report that tasks have ended.

        Args:
            finished: passes of all finished tasks.
            note: for the user.
        """
        with self._lock:
            self._finished, self._note = finished, note
            self._show(finished)

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Report every second what tasks under way have done, while the block runs."""
        over = Event()

        def tick() -> None:
            while not over.wait(TOLD_SECONDS):
                with self._lock:
                    self._show(min(self._finished + tally.under_way(), self.total - 1))

        thread = Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _show(self, done: int) -> None:
        self._shown = max(self._shown, done)
        self._report(self._shown, self.total, self._note)
