"""Moving to another store: what only the project's own mlflow.db knows is carried over to the store that is set now.

Runs keep their parameters, metrics, tags, times and artifacts, and say in a tag which run they are copies of; versions
are known by their weights. So a second time, or after having been cut off, nothing is there twice.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlparse

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from advalign.errors import InputError, shown
from advalign.files import Project, sha256
from advalign.models.checkpoints import CARD, WEIGHTS, read_card
from advalign.names import is_name
from advalign.progress import Advance
from advalign.tracking.locks import exclusive
from advalign.tracking.registry.aliases import INTENT
from advalign.tracking.registry.model_card import DECISION, ROLLBACK, RUN
from advalign.tracking.registry.policies import previous_alias
from advalign.tracking.registry.registered import (
    WEIGHTS_TAG,
    all_models,
    find_version,
    label_of,
    register,
    set_tags,
    versions_of,
)
from advalign.tracking.run_copies import Counterparts, RunCopies, ended_runs
from advalign.tracking.store import DATABASE, EXPERIMENTS, Store, StoreDown, experiment_of, store_errors
from advalign.workflows.publish import LINEAGE, PURPOSE, Published, training_run

RUN_ID = re.compile(r"\b[0-9a-f]{32}\b")


def local_store(project: Project, target: Store) -> Store | None:
    """The project's own mlflow.db; None where there is none, or where it is the store that is set.

    Raises:
        StoreDown: it cannot be read.
    """
    path = project.home / DATABASE
    address = urlparse(target.uri)
    if not path.is_file() or (address.scheme == "sqlite" and Path(address.path[1:]).resolve() == path.resolve()):
        return None
    uri = f"sqlite:///{path}"
    with store_errors(uri):
        client = mlflow.MlflowClient(uri, uri)
        found = {kind: client.get_experiment_by_name(name) for kind, name in EXPERIMENTS.items()}
    return Store(client, uri, {kind: str(one.experiment_id) for kind, one in found.items() if one is not None})


def carry_over(project: Project, source: Store, target: Store, done: Published, advance: Advance) -> list[str]:
    """Bring what ended in a store into another one: runs, versions with their tags, the audit table, aliases.

    Args:
        project: whose stores.
        source, target: opened stores.
        done: takes what was created.
        advance: called before each thing.

    Returns:
        What could not be carried over, and why.

    Raises:
        StoreDown: a store does not answer, or refuses.
    """
    move = _Move(project, source, target, done)
    with store_errors(target.uri):
        names = move.models()
        versions = [version for name in names for version in reversed(versions_of(source, name))]
        runs = [(kind, run) for kind in source.experiment_ids for run in ended_runs(source, kind)]
        results = [partial(move.run, kind, run) for kind, run in runs if kind != "promote"]
        audit = [partial(move.run, kind, run) for kind, run in runs if kind == "promote"]
        steps = [*results, *(partial(move.version, version) for version in versions), *audit]
        steps += [partial(move.tags, version) for version in versions]
        steps += [partial(move.aliases, name) for name in names]
        for count, step in enumerate(steps):
            with exclusive(target.uri, PURPOSE):
                step()
            advance(count + 1, len(steps))
    return move.left_out


@dataclass
class _Move:
    """What has a counterpart in the target, and what was left out."""

    project: Project
    source: Store
    target: Store
    done: Published
    known: Counterparts = field(default_factory=Counterparts)
    left_out: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.copies = RunCopies(self.source, self.target, self.known)

    @contextmanager
    def _leaving_out(self, what: str) -> Iterator[None]:
        try:
            yield
        except StoreDown:
            raise
        except InputError as error:  # what the source no longer has
            self.left_out.append(f"{what}: {error}")

    def models(self) -> list[str]:
        """Names of the source's registered models; those that other programs gave are left out."""
        names = [str(model.name) for model in all_models(self.source)]
        for name in names:
            if not is_name(name):
                self.left_out.append(f"registered model {shown(name)}: advalign did not register it")
        return [name for name in names if is_name(name)]

    def run(self, kind: str, run: Run) -> None:
        """Find a run's counterpart, or make it."""
        with self._leaving_out(f"{kind} run {run.info.run_id}"):
            self.done.note(f"{kind} run {run.info.run_name}", self.copies.bring(kind, run))

    def version(self, version: ModelVersion) -> None:
        """Find the version with the same weights, or register it."""
        label, weights = label_of(version), version.tags.get(WEIGHTS_TAG)
        with self._leaving_out(label):
            if weights is None:
                raise InputError("advalign did not register it")
            found = find_version(self.target, version.name, weights)
            new = self._register(version, weights) if found is None else found
            self.done.note(label, found is None)
            self.known.versions[version.name, str(version.version)] = str(new.version)

    def _register(self, version: ModelVersion, weights: str) -> ModelVersion:
        client = self.target.client
        with TemporaryDirectory() as folder:
            checkpoint = self._checkpoint(version, weights, folder)
            card = read_card(checkpoint)
            target = self.target.of(experiment_of(version.tags))
            run_id = self.known.runs.get(str(version.run_id)) or training_run(self.project, target, card, checkpoint)[0]
            ended = client.get_run(run_id).info.end_time
            lineage = {name: version.tags[name] for name in LINEAGE if name in version.tags}
            registered = register(self.target, card, checkpoint, run_id, lineage, candidate=False)
        client.set_terminated(run_id, "FINISHED", ended)  # registering has changed the time
        return registered

    def _checkpoint(self, version: ModelVersion, weights: str, folder: str) -> Path:
        try:
            model = self.source.client.get_logged_model(str(version.source).removeprefix("models:/"))
            fetched = Path(mlflow.artifacts.download_artifacts(artifact_uri=model.artifact_location, dst_path=folder))
        except (MlflowException, OSError) as error:
            raise InputError(f"its files cannot be fetched: {' '.join(str(error).split())[:120]}") from None
        found = [path.parent for path in fetched.rglob(CARD)]
        if len(found) != 1 or not (found[0] / WEIGHTS).is_file() or sha256(found[0] / WEIGHTS) != weights:
            raise InputError("its stored weights are not those that were registered")
        return found[0]

    def tags(self, version: ModelVersion) -> None:
        """Add what the target's version does not say of itself yet, of the counterparts of runs and versions."""
        number = self.known.versions.get((version.name, str(version.version)))
        if number is None:
            return
        there = self.target.client.get_model_version(version.name, number)
        told = {}
        for name, value in version.tags.items():
            if name not in there.tags and not (name.endswith(RUN) and value not in self.known.runs):
                with self._leaving_out(f"{version.name} version {version.version}, its tag {name}"):
                    told[name] = self._told(name, value)
        if told:
            set_tags(self.target, there, told)

    def _told(self, name: str, value: str) -> str:
        if not name.endswith((DECISION, ROLLBACK)):
            return RUN_ID.sub(lambda found: self.known.runs.get(found[0], found[0]), value)
        try:
            return json.dumps(self.known.decision(json.loads(value)))
        except (ValueError, TypeError, LookupError, AttributeError):
            raise InputError("it is not what advalign wrote") from None

    def aliases(self, name: str) -> None:
        """Set the aliases that nobody holds in the target; a previous holder goes with its own successor only."""
        model = self.source.client.get_registered_model(name)
        if INTENT in model.tags:
            mend = "in the source promote it or roll it back once, which completes or undoes that, and publish again"
            self.left_out.append(f"aliases of {name}: moving one is under way or was cut off: {mend}")
            return
        wanted = {alias: self.known.versions.get((name, str(number))) for alias, number in model.aliases.items()}
        if not any(wanted.values()):
            return
        with exclusive(self.target.uri, "promote"):
            there = self.target.client.get_registered_model(name)
            if INTENT in there.tags:
                self.left_out.append(f"aliases of {name}: one is being moved in the target: publish again later")
                return
            held = {alias: str(number) for alias, number in there.aliases.items()}
            others = [alias for alias in {*wanted, *held} if held.get(alias, wanted.get(alias)) != wanted.get(alias)]
            lost = [alias for alias, number in wanted.items() if number is None]
            alone = {previous_alias(alias) for alias in (*others, *lost)}
            for alias, number in wanted.items():
                if number is not None and alias not in held and alias not in alone:
                    self.target.client.set_registered_model_alias(name, alias, number)
