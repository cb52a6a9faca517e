"""Aliases that no decision explains: somebody set, moved or removed them in MLflow, past the gates and the audit."""

from typing import Any

from advalign.names import is_name
from advalign.tracking.registry import audit
from advalign.tracking.registry.aliases import INTENT
from advalign.tracking.registry.policies import PREVIOUS, previous_alias
from advalign.tracking.registry.registered import all_models, find_model
from advalign.tracking.store import Store

BY_HAND = "set by hand"  # outcome of such a row
CANDIDATE = "candidate"  # set by registering: no decision is needed


def by_hand(store: Store, name: str | None = None) -> list[dict[str, Any]]:
    """Aliases that are not where the last decision on them put them, in the form of `audit.rows`.

    Args:
        store: opened tracking store.
        name: only of this registered model; default: of all.

    Returns:
        One row per alias; `version` holds it (None where nobody does), `before` is the version that a decision gave it
        to. Models whose alias is being moved right now are left out.

    Raises:
        InputError: no such model.
    """
    decided: dict[str, dict[str, int | None]] = {}
    for row in audit.rows(store, name):
        if row["outcome"] in audit.MOVES:
            told = decided.setdefault(row["model"], {})
            told[row["alias"]] = row["version"]
            told[previous_alias(row["alias"])] = row["before"] if row["outcome"] == "promoted" else None
    found = []
    for model in [find_model(store, name)] if name else all_models(store):
        if INTENT in model.tags or not is_name(model.name):
            continue
        held, told = {alias: int(number) for alias, number in model.aliases.items()}, decided.get(model.name, {})
        wrong = [alias for alias, holder in held.items() if alias != CANDIDATE and told.get(alias) != holder]
        lost = [alias for alias, number in told.items() if number is not None and alias not in held]
        wrong += [alias for alias in lost if not alias.endswith(PREVIOUS)]  # a version that is deleted is no fault
        found += [_row(model.name, alias, held.get(alias), told.get(alias)) for alias in sorted(wrong)]
    return found


def _row(model: str, alias: str, holder: int | None, told: int | None) -> dict[str, Any]:
    last = "no decision gave it to anybody" if told is None else f"the last decision gave it to version {told}"
    plain = {"at": None, "who": None, "forced": False, "copied_from": None, "restored": False, "deleted": False}
    what = {"outcome": BY_HAND, "model": model, "version": holder, "alias": alias, "before": told, "reason": last}
    return {**plain, **what, "run_id": None}


def sentence(row: dict[str, Any]) -> str:
    """One row in words."""
    holder = "nobody holds it" if row["version"] is None else f"version {row['version']} holds it"
    return f"{row['model']}: {row['alias']} was set by hand: {holder}, {row['reason']}"
