"""Transfer to another store: what only the project's own mlflow.db holds is copied to the store in use.

Runs keep their parameters, metrics, tags, times and artifacts, and name their original in a tag. Versions are
identified by their weights and card. So a second transfer, or one after a cut-off, makes no duplicates.

What people and gates wrote is history and is copied unchanged, with the source's version numbers; a decision says so.
Only references that programs follow (an evaluation's run, the versions of a row of the audit table, aliases) become
those of the target.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from advalign.errors import CheckFailed, InputError, printable, shown
from advalign.files import Project
from advalign.models.checkpoints import read_card
from advalign.names import is_name
from advalign.progress import Advance
from advalign.strict_files import parse_json
from advalign.tracking.database import database_file, database_uri, follow, own_database
from advalign.tracking.lineage import COPIED, LINEAGE
from advalign.tracking.locks import exclusive
from advalign.tracking.lost_files import has_files, put_back_version
from advalign.tracking.registry.aliases import INTENT
from advalign.tracking.registry.audit import BEFORE, MODEL, VERSION
from advalign.tracking.registry.model_card import DECISION, ROLLBACK, RUN
from advalign.tracking.registry.policies import previous_alias
from advalign.tracking.registry.predictors import fetch_predictor, find_predictor, predictor_run, register_predictor
from advalign.tracking.registry.registered import (
    CARD_TAG,
    PREDICTOR_TAG,
    WEIGHTS_TAG,
    all_models,
    fetch,
    find_version,
    label_of,
    register,
    set_tags,
    versions_of,
)
from advalign.tracking.results import PURPOSE, Published
from advalign.tracking.run_copies import bring, ended_runs, put_back
from advalign.tracking.store import EXPERIMENTS, Store, StoreDown, experiment_of, store_errors
from advalign.tracking.training_run import checkpoint_run


def local_store(project: Project, target: Store) -> Store | None:
    """The project's own mlflow.db; None where there is none, or where it is the store in use.

    Raises:
        StoreDown: the file cannot be read.
    """
    path = own_database(project)
    if not path.is_file() or database_file(target.uri) == path:
        return None
    uri = database_uri(path)
    with store_errors(uri), exclusive(uri, "open"):
        follow(path)
        client = mlflow.MlflowClient(uri, uri)
        found = {kind: client.get_experiment_by_name(name) for kind, name in EXPERIMENTS.items()}
    return Store(client, uri, {kind: str(one.experiment_id) for kind, one in found.items() if one is not None})


def carry_over(project: Project, source: Store, target: Store, done: Published, advance: Advance) -> list[str]:
    """Copy all ended runs, versions with their tags, the audit table and aliases to another store.

    Args:
        project: owner of the stores.
        source, target: opened stores.
        done: collects what was created.
        advance: called before each run, version or alias.

    Returns:
        What could not be copied, and why.

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
    """Counterparts in the target, and what was left out.

    Attributes:
        runs: run in the source -> run in the target.
        versions: (model, number in the source) -> number in the target.
    """

    project: Project
    source: Store
    target: Store
    done: Published
    runs: dict[str, str] = field(default_factory=dict)
    versions: dict[tuple[str, str], str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    @contextmanager
    def _leaving_out(self, what: str) -> Iterator[None]:
        try:
            yield
        except StoreDown:
            raise
        except (InputError, CheckFailed) as error:  # the source has lost or changed it
            self.left_out.append(str(error) if str(error).startswith(what) else f"{what}: {error}")

    def models(self) -> list[str]:
        """Names of the source's registered models, without those of other programs."""
        names = [str(model.name) for model in all_models(self.source)]
        for name in names:
            if not is_name(name):
                self.left_out.append(f"registered model {shown(name)}: advalign did not register it")
        return [name for name in names if is_name(name)]

    def run(self, kind: str, run: Run) -> None:
        """Find a run's counterpart, or make it."""
        run_id, tags = run.info.run_id, self._numbers(run) if kind == "promote" else {}
        with self._leaving_out(f"{kind} run {run_id}"):
            copy, made = bring(self.source, self.target, kind, run, tags)
            self.runs[run_id] = copy
            mended = not made and put_back(self.source, self.target, run, copy)
            self.done.note(f"{kind} run {run.info.run_name}", made, mended)

    def _numbers(self, run: Run) -> dict[str, str]:
        """The versions of a row of the audit table, with the target's numbers; empty where they are missing."""
        tags = run.data.tags
        return {name: self.versions.get((tags.get(MODEL, ""), tags.get(name, "")), "") for name in (VERSION, BEFORE)}

    def version(self, version: ModelVersion) -> None:
        """Find the version with the same weights and card, or register it."""
        label, tags = label_of(version), version.tags
        with self._leaving_out(label):
            if PREDICTOR_TAG in tags:
                found = find_predictor(self.target, version.name.removeprefix("predictor."), tags[PREDICTOR_TAG])
            elif WEIGHTS_TAG in tags and CARD_TAG in tags:
                found = find_version(self.target, version.name, tags[WEIGHTS_TAG], tags[CARD_TAG])
            else:
                raise InputError("this advalign did not register it")
            new = self._register(version) if found is None else found
            self.done.note(label, found is None, found is not None and self._put_back(version, found))
            self.versions[version.name, str(version.version)] = str(new.version)

    def _register(self, version: ModelVersion) -> ModelVersion:
        target, run_id = self.target.of(experiment_of(version.tags)), self.runs.get(str(version.run_id))
        with TemporaryDirectory() as folder:
            if PREDICTOR_TAG in version.tags:
                predictor, checkpoint = fetch_predictor(version, Path(folder), self.source)
                run_id = run_id or predictor_run(self.project, target, predictor, checkpoint)[0]
                return register_predictor(self.target, predictor, checkpoint, run_id, candidate=False)
            checkpoint = fetch(version, Path(folder), self.source)
            card = read_card(checkpoint)
            run_id = run_id or checkpoint_run(self.project, target, card, checkpoint)[0]
            lineage = {name: version.tags[name] for name in LINEAGE if name in version.tags}
            return register(self.target, card, checkpoint, run_id, lineage, candidate=False)

    def _put_back(self, version: ModelVersion, there: ModelVersion) -> bool:
        """Bring the files of a version that the target has lost; whether it had."""
        if has_files(self.target, there):
            return False
        with TemporaryDirectory() as folder:
            if PREDICTOR_TAG in version.tags:
                return put_back_version(self.target, there, *fetch_predictor(version, Path(folder), self.source))
            checkpoint = fetch(version, Path(folder), self.source)
            return put_back_version(self.target, there, read_card(checkpoint), checkpoint)

    def tags(self, version: ModelVersion) -> None:
        """Add tags that the target's version lacks: evaluations refer to copied runs, other tags are unchanged."""
        number = self.versions.get((version.name, str(version.version)))
        if number is None:
            return
        there = self.target.client.get_model_version(version.name, number)
        told = {}
        for name, value in version.tags.items():
            if name not in there.tags:
                with self._leaving_out(f"{label_of(version)}, its tag {name}"):
                    told[name] = self._told(version, name, value)
        found = {name: value for name, value in told.items() if value is not None}
        if found:
            set_tags(self.target, there, found)

    def _told(self, version: ModelVersion, name: str, value: str) -> str | None:
        """The tag's value in the target; a decision also names the store that it is from."""
        if name.endswith(RUN):
            return self.runs.get(value)
        if not name.endswith((DECISION, ROLLBACK)):
            return value
        origin = f"version {version.version} of {printable(self.source.uri)}"
        try:
            return json.dumps({COPIED: origin, **parse_json(value, name)})  # a copy of a copy keeps its origin
        except (InputError, TypeError):
            raise InputError("it is not what advalign wrote") from None

    def aliases(self, name: str) -> None:
        """Set the aliases that no version holds in the target; a previous holder is copied only with its successor."""
        model = self.source.client.get_registered_model(name)
        if INTENT in model.tags:
            mend = "in the source promote it or roll it back once, which completes or undoes that, and publish again"
            self.left_out.append(f"aliases of {name}: moving one is under way or was cut off: {mend}")
            return
        wanted = {alias: self.versions.get((name, str(number))) for alias, number in model.aliases.items()}
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
