"""Decisions from files, brought back to a tracking store that has lost them: rows, notes on versions, aliases.

A restored row has the time and the words of the original, and is marked. Its version is found by weights and card: in
the new store it may have another number. As long as the version is not there, the row has none, and the next `publish`
looks again. An alias is set by the last decision on it only, and only if no version holds it: it is never moved.
"""

import json
from dataclasses import dataclass, field

from mlflow.entities import Run, RunTag, ViewType
from mlflow.entities.model_registry import ModelVersion

from advalign.files import Project
from advalign.progress import say
from advalign.tracking.lineage import COPIED, RESTORED
from advalign.tracking.locks import exclusive
from advalign.tracking.registry import audit
from advalign.tracking.registry.aliases import INTENT
from advalign.tracking.registry.decisions import Kept, keep_all, name_of, read_all
from advalign.tracking.registry.model_card import DECISION, ROLLBACK
from advalign.tracking.registry.policies import previous_alias
from advalign.tracking.registry.registered import find_model, find_version, label_of, set_tags
from advalign.tracking.results import Published
from advalign.tracking.store import Store, entered


def restore_decisions(project: Project, store: Store, done: Published) -> None:
    """Bring back the decisions that were made in this store and that it lacks; write the files that are missing.

    It can be killed and run again; what is there is not changed.

    Args:
        project: owner of the files.
        store: opened tracking store, in which versions are published already.
        done: collects what was restored.

    Raises:
        CheckFailed: another process promotes for too long.
    """
    with exclusive(store.uri, "promote"):
        keep_all(project, store)
        kept = [one for one in read_all(project) if one.store == name_of(project, store)]
        _Restoring(store, kept, done).run()


@dataclass
class _Restoring:
    """The decisions of files, next to the rows of the store.

    Attributes:
        rows: id of a decision -> its row in the store.
        last: (model, alias) -> the last decision that moved it, by its id; of files and rows together.
        noted: (model, weights, tag) -> the last decision that is noted on a version.
        lacking: models of decisions about a version that is not in the store.
    """

    store: Store
    kept: list[Kept]
    done: Published
    rows: dict[str, Run] = field(default_factory=dict)
    last: dict[tuple[str, str], str] = field(default_factory=dict)
    noted: dict[tuple[str, str, str], str] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Restore every decision whose row is missing, or whose version was not there before."""
        found = self.store.all_runs("promote", view=ViewType.ALL)
        self.rows = {name: run for run in found for name in audit.names_of(run)}
        moves = [(one.order, one.id, one.tags) for one in self.kept]
        moves += [
            (entered(run.data.tags, run.info.start_time), run.data.tags.get(RESTORED, run.info.run_id), run.data.tags)
            for run in found
        ]
        for _, decision, tags in sorted(moves, key=lambda move: move[0]):
            if tags.get(audit.OUTCOME) in audit.MOVES:
                self.last[tags.get(audit.MODEL, ""), tags.get(audit.ALIAS, "")] = decision
        for one in self.kept:
            if one.version is not None:
                self.noted[one.tags[audit.MODEL], one.version.weights, _mark(one)] = one.id
        for one in self.kept:
            row = self.rows.get(one.id)
            if row is not None and row.info.status == "FINISHED" and self._put_back(one, row):
                self.done.mended.append(f"decision {one.name}")
            if row is None or (RESTORED in row.data.tags and _incomplete(one, row)):
                self._restore(one, row)
        if self.lacking:
            what = f"{len(self.lacking)} restored decisions are about versions that the store lacks"
            say(f"{what} ({', '.join(sorted(set(self.lacking)))}): `advalign publish` looks again once they are there")

    def _put_back(self, one: Kept, row: Run) -> bool:
        """Log what a decision's row says in full again, if the store has lost it; whether it had."""
        client, run_id = self.store.client, str(row.info.run_id)
        if audit.FILE in [file.path for file in client.list_artifacts(run_id)]:
            return False
        client.log_dict(run_id, one.decision, audit.FILE)
        return True

    def _restore(self, one: Kept, row: Run | None) -> None:
        """The numbers of the versions come last: without them a row is not restored completely."""
        model = one.tags[audit.MODEL]
        row = self._row(one) if row is None else row
        run_id, known = str(row.info.run_id), bool(row.data.tags.get(audit.VERSION))
        if row.info.status != "FINISHED":
            self.store.client.log_dict(run_id, one.decision, audit.FILE)
            self.store.client.set_terminated(run_id, "FINISHED", one.ended)
        version, before = (
            None if content is None else find_version(self.store, model, content.weights, content.card)
            for content in (one.version, one.before)
        )
        if version is None or (before is None and one.before is not None):
            self.lacking.append(model)
        if version is None:
            return
        if one.tags[audit.OUTCOME] in audit.MOVES:
            last = self.last[model, one.tags[audit.ALIAS]] == one.id
            if last and not self._alias(one, version, before, known):
                return
            self._note(one, version, run_id)
        numbers = {audit.VERSION: version, audit.BEFORE: before}
        tags = [RunTag(name, str(found.version)) for name, found in numbers.items() if found is not None]
        self.store.client.log_batch(run_id, tags=tags)

    def _row(self, one: Kept) -> Run:
        tags = {**one.tags, RESTORED: one.id, audit.VERSION: "", audit.BEFORE: ""}
        self.done.restored.append(one.name)
        return self.store.client.create_run(self.store.experiment_ids["promote"], one.started, tags, one.name)

    def _alias(self, one: Kept, version: ModelVersion, before: ModelVersion | None, known: bool) -> bool:
        """Set the alias and its `previous`, where nobody holds them; False to be tried again later.

        Args:
            one, version, before: the decision, and the versions that it is about.
            known: whether the alias was restored earlier, and only its previous holder was not there.
        """
        model, alias, client = find_model(self.store, version.name), one.tags[audit.ALIAS], self.store.client
        if INTENT in model.tags:
            say(f"{model.name}: an alias is being moved, or that was cut off: promote it once, and publish again")
            return False
        holder = model.aliases.get(alias)
        if holder is None and not known:
            client.set_registered_model_alias(model.name, alias, version.version)
        elif str(holder) != str(version.version):
            if not known:
                gave = f"a restored decision gave it to version {version.version}"
                say(f"{model.name}: {alias} stays with version {holder}; {gave}")
            return True
        previous = previous_alias(alias)
        if before is not None and one.tags[audit.OUTCOME] == "promoted" and previous not in model.aliases:
            client.set_registered_model_alias(model.name, previous, before.version)
        return True

    def _note(self, one: Kept, version: ModelVersion, run_id: str) -> None:
        """Write the decision on its version, unless a later one is there."""
        model, mark = one.tags[audit.MODEL], _mark(one)
        last = one.version is not None and self.noted[model, one.version.weights, mark] == one.id
        if last and mark not in version.tags:
            origin = f"{label_of(version)} as a lost {one.store} knew it"
            text = json.dumps({**one.decision, "run_id": run_id, COPIED: origin})
            set_tags(self.store, version, {mark: text})


def _incomplete(one: Kept, row: Run) -> bool:
    """Whether a version of a restored row was not in the store when it was looked for."""
    there = row.data.tags
    return not there.get(audit.VERSION) or (one.before is not None and not there.get(audit.BEFORE))


def _mark(one: Kept) -> str:
    return f"{one.tags[audit.ALIAS]}{DECISION if one.tags[audit.OUTCOME] == 'promoted' else ROLLBACK}"
