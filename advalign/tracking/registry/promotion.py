"""Promotion of a version to an alias where every gate of registry/gates.yaml holds, and rollback."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from mlflow.entities.model_registry import ModelVersion

from advalign import provenance
from advalign.analysis.standing import baseline_of
from advalign.errors import AdvalignError, CheckFailed, InputError
from advalign.evaluation.data_read import read_data
from advalign.evaluation.protocols import protocol
from advalign.evaluation.tasks import open_set
from advalign.files import Project
from advalign.models.checkpoints import Card, read_card
from advalign.names import Reference, check_name, parse_reference
from advalign.settings import EvaluateSettings, load_settings
from advalign.tracking.lineage import lineage_tags
from advalign.tracking.locks import exclusive
from advalign.tracking.registry import audit, decisions
from advalign.tracking.registry.aliases import Intent, move, recover, settle
from advalign.tracking.registry.audit import Decision
from advalign.tracking.registry.evidence import evaluated_zoo, read_evidence
from advalign.tracking.registry.gates import Case, Evidence, Present, Verdict, judge
from advalign.tracking.registry.model_card import DECISION, ROLLBACK
from advalign.tracking.registry.policies import BASELINE, HOLDER, Demands, Policy, previous_alias, read_policy
from advalign.tracking.registry.registered import candidate, fetch, find_model, label_of, resolve, set_tags
from advalign.tracking.store import Store

LONGEST_REASON = 500


def promote(
    project: Project,
    store: Store,
    name: str,
    version: int | None = None,
    alias: str = "champion",
    *,
    force: bool = False,
    reason: str = "",
) -> Decision:
    """Give an alias to a version where every gate of its policy holds.

    Args:
        project, store: gates and current data are the project's; the store is opened.
        name, version: of the registered model; default: its candidate.
        alias: one that registry/gates.yaml declares.
        force, reason: promote although a gate does not hold, and why; the reason is recorded.

    Returns:
        The decision: "promoted", "refused" (no alias is moved), or "kept" (the version holds the alias already).

    Raises:
        InputError: unknown model, version or alias, missing evidence, or force without a reason.
        CheckFailed: changed weights or evidence, or a lost race. None of these can be forced.
    """
    reason = _checked_reason(reason)
    if force and not reason:
        raise InputError("--force needs --reason TEXT: why it is promoted although a gate does not hold")
    policy = read_policy(project.gates, alias)
    with exclusive(store.uri, "promote"):
        notes = _recover(project, store, check_name(name))
        wanted = resolve(store, Reference(name, version=version)) if version else candidate(store, name)
        holder, who = _holder(store, name, alias), provenance.git_user(project.root)
        asked = Decision("kept", name, int(wanted.version), alias, holder, who, reason=reason, notes=notes)
        if asked.before == asked.version:
            return asked
        baseline = baseline_of(_checked_card(wanted).model_dump())
        judged = replace(asked, gates=tuple(_judge(project, store, policy, wanted, asked.before, baseline)))
        if force or all(verdict.holds for verdict in judged.gates):
            return _carry_out(project, store, replace(judged, outcome="promoted"))
        return _refuse(project, store, judged)


def check(project: Project, store: Store, name: str, version: int | None = None, alias: str = "champion") -> Decision:
    """What `promote` would decide now, by the same gates; nothing is moved or recorded.

    Args:
        project, store, name, version, alias: as of `promote`.

    Returns:
        The decision: "passes" or "fails".

    Raises:
        InputError, CheckFailed: as `promote`.
    """
    policy = read_policy(project.gates, alias)
    wanted = resolve(store, Reference(name, version=version)) if version else candidate(store, check_name(name))
    holder, baseline = _holder(store, name, alias), baseline_of(_checked_card(wanted).model_dump())
    gates = tuple(_judge(project, store, policy, wanted, holder, baseline))
    outcome = "passes" if all(verdict.holds for verdict in gates) else "fails"
    return Decision(outcome, name, int(wanted.version), alias, holder, provenance.git_user(project.root), gates)


def rollback(project: Project, store: Store, name: str, alias: str = "champion", reason: str = "") -> Decision:
    """Return an alias to the version that held it before. One step back is kept; the audit table lists the others.

    Raises:
        InputError: unknown model or alias, or nobody held it before.
        CheckFailed: the previous version's weights were changed, or a lost race.
    """
    reason = _checked_reason(reason)
    read_policy(project.gates, alias)
    with exclusive(store.uri, "promote"):
        notes = _recover(project, store, check_name(name))
        holder, previous = _holder(store, name, alias), _holder(store, name, previous_alias(alias))
        if previous is None:
            raise InputError(
                f"{name} has no {previous_alias(alias)} version: nothing to return {alias} to; earlier ones are in "
                f"`advalign registry audit {name}`, and `advalign registry promote {name} --version V` takes any"
            )
        _checked_card(resolve(store, Reference(name, version=previous)))
        who = provenance.git_user(project.root)
        decision = Decision("rolled back", name, previous, alias, holder, who, reason=reason, notes=notes)
        return _carry_out(project, store, decision)


def _checked_reason(text: str) -> str:
    """A reason in one line, short enough for every store."""
    line = " ".join(text.split())
    if len(line) > LONGEST_REASON:
        raise InputError(f"--reason: at most {LONGEST_REASON} characters, got {len(line)}: name where the rest stands")
    return line


def _holder(store: Store, name: str, alias: str) -> int | None:
    found = find_model(store, name).aliases.get(alias)
    return None if found is None else int(found)


def _checked_card(version: ModelVersion) -> Card:
    """A version's card, after a check that weights and card are those that were registered."""
    with TemporaryDirectory() as folder:
        return read_card(fetch(version, Path(folder)))


def _judge(
    project: Project, store: Store, policy: Policy, version: ModelVersion, holder: int | None, baseline: str | None
) -> list[Verdict]:
    evaluate = load_settings(project.root).evaluate
    for name in (policy.protocol, *policy.also):
        _check_protocol(name, evaluate)

    def case_of(name: str, demands: Demands) -> Case:
        evidence = read_evidence(store, version, name, evaluate)
        if evidence is None:
            return Case(None, {}, None)
        others: dict[str, Evidence | str | None] = {}
        for key in demands.against:
            try:
                other = _opponent(store, version.name, key, holder, baseline)
                if isinstance(other, ModelVersion):
                    found = read_evidence(store, other, name, evaluate)
                    others[key] = found or f"{label_of(other)} is not evaluated under {name}"
                else:
                    others[key] = other
            except AdvalignError as error:  # the gate fails, since it cannot be checked
                others[key] = str(error)
        return Case(evidence, others, _present(project, name, evaluate))

    case = case_of(policy.protocol, policy)
    zoo: pd.DataFrame | str = pd.DataFrame()
    if case.candidate is not None:
        try:
            zoo = evaluated_zoo(store, policy.protocol, case.candidate, version.name, evaluate)
        except AdvalignError as error:
            zoo = str(error)
    also = {name: case_of(name, demands) for name, demands in policy.also.items()}
    return judge(policy, case, zoo, also, evaluate.protocols)


def _check_protocol(name: str, evaluate: EvaluateSettings) -> None:
    """Refuse a policy whose protocol neither params.yaml declares nor the catalog has."""
    try:
        protocol(name, evaluate.protocols)
    except InputError as error:
        raise InputError(
            f"gates.yaml: {error}; one that an experiment declares in its params.yaml is known where that file is"
        ) from None


def _opponent(store: Store, name: str, key: str, holder: int | None, baseline: str | None) -> ModelVersion | str | None:
    """The version to compare with, or a sentence why there is none; None where no version holds the alias."""
    if key == HOLDER:
        return None if holder is None else resolve(store, Reference(name, version=holder))
    if key == BASELINE:
        return f"{name} is no twin of a baseline" if baseline is None else candidate(store, baseline)
    return resolve(store, parse_reference(key))


def _present(project: Project, asked: str, evaluate: EvaluateSettings) -> Present:
    """data/ as it is now: every file that an evaluation under a protocol stands on is read, since this decides."""
    names = (asked, *evaluate.companions)
    sets = {protocol(name, evaluate.protocols).spec.image_set for name in names}
    found = read_data(project, [open_set(name, project) for name in sorted(sets)], None)
    return Present(found.version, found.sha256)


def _refuse(project: Project, store: Store, decision: Decision) -> Decision:
    """Record that gates do not hold; no alias is moved."""
    refused = replace(decision, outcome="refused")
    run_id = audit.begin(store, refused, {**lineage_tags(project), **decisions.number(project, store)})
    audit.finish(store, run_id, refused.outcome)
    decisions.keep(project, store, run_id)
    return refused


def _carry_out(project: Project, store: Store, decision: Decision) -> Decision:
    """Record the decision, move the alias, note it on the version; if cut off, `_recover` completes or undoes it."""
    run_id = audit.begin(store, decision, {**lineage_tags(project), **decisions.number(project, store)})
    intent = Intent(
        decision=run_id,
        outcome=decision.outcome,
        alias=decision.alias,
        target=decision.version,
        holder=decision.before,
        next_previous=decision.before if decision.outcome == "promoted" else None,
    )
    try:
        move(store, decision.model, intent)
    except CheckFailed:
        audit.finish(store, run_id, "lost")
        raise
    _record(project, store, decision.model, intent, decision.as_json())
    settle(store, decision.model, intent)
    return decision


def _record(project: Project, store: Store, name: str, intent: Intent, decision: dict[str, Any]) -> None:
    """Write a decision on its version, which holds the alias by now, finish the decision's row, keep it as a file."""
    version = store.client.get_model_version(name, str(intent.target))
    mark = DECISION if intent.outcome == "promoted" else ROLLBACK
    set_tags(store, version, {f"{intent.alias}{mark}": json.dumps({**decision, "run_id": intent.decision})})
    audit.finish(store, intent.decision, intent.outcome)
    decisions.keep(project, store, intent.decision)


def _recover(project: Project, store: Store, name: str) -> tuple[str, ...]:
    """Complete or undo what was cut off on a registered model; the result in words."""
    complete = partial(_complete, project, store, name)
    done = recover(store, name, complete, lambda intent: _undo(store, intent))
    audit.cut_off(store, name)
    return (done,) if done else ()


def _complete(project: Project, store: Store, name: str, intent: Intent) -> None:
    """Write the missing record; where its row was deleted in MLflow, only the alias shows the promotion."""
    if audit.is_there(store, intent.decision):
        _record(project, store, name, intent, audit.read(store, intent.decision))


def _undo(store: Store, intent: Intent) -> None:
    if audit.is_there(store, intent.decision):
        audit.finish(store, intent.decision, "cut off")
