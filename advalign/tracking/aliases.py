"""Moving an alias from one version to another, so that nobody sees two holders and nothing stays half done.

MLflow sets an alias without asking who set it before, and has no transactions. So whoever moves one first writes down
what is about to happen, in a tag of the registered model, and reads it back: on one machine a lock keeps others out,
and through a server whoever finds another's intent, or another holder than expected, has lost the race and says so. An
intent that is left over belongs to somebody who was cut off: the next command completes it where the alias was set
already, and undoes it where not.
"""

import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress

from mlflow.exceptions import MlflowException
from pydantic import Field

from advalign.analysis.policies import previous_alias
from advalign.errors import CheckFailed
from advalign.settings import Strict
from advalign.tracking.registered import find_model
from advalign.tracking.store import Store

INTENT = "advalign.intent"  # tag of the registered model
UNDER_WAY = 120  # seconds that a promoter on another machine is given


class Intent(Strict):
    """What is about to happen to an alias.

    Attributes:
        decision: run of the audit that it belongs to.
        target: version that shall hold the alias; `holder` holds it now, and `previous` held it before that.
        next_previous: version that shall be kept as the previous holder.
        host, process, at: who moves it, since when (seconds since 1970).
    """

    decision: str
    alias: str
    target: int
    holder: int | None
    previous: int | None
    next_previous: int | None
    host: str = Field(default_factory=platform.node)
    process: int = Field(default_factory=os.getpid)
    at: float = Field(default_factory=time.time)


def move(store: Store, name: str, intent: Intent) -> None:
    """Give an alias to another version. The intent stays until `settle` takes it away.

    Raises:
        CheckFailed: somebody else moved it meanwhile; then this call has changed nothing that stays.
    """
    store.client.set_registered_model_tag(name, INTENT, intent.model_dump_json())
    if not _mine(store, name, intent) or _aliases(store, name).get(intent.alias) != intent.holder:
        _withdraw(store, name, intent)
        raise _lost(name, intent)
    _set(store, name, previous_alias(intent.alias), intent.next_previous)
    _set(store, name, intent.alias, intent.target)
    aliases = _aliases(store, name)
    stands = aliases.get(intent.alias) == intent.target
    if not (
        stands and _mine(store, name, intent) and aliases.get(previous_alias(intent.alias)) == intent.next_previous
    ):
        if stands:
            _restore(store, name, intent)
        _withdraw(store, name, intent)
        raise _lost(name, intent)


def settle(store: Store, name: str) -> None:
    """Take the intent away: what it announced is done and recorded."""
    store.client.delete_registered_model_tag(name, INTENT)


def recover(store: Store, name: str, complete: Callable[[Intent], None], undo: Callable[[Intent], None]) -> str:
    """Complete or undo what somebody left half done. To be called under the lock.

    Args:
        store, name: which registered model.
        complete: called where the alias was moved and only its record may be lacking.
        undo: called after the aliases were set back.

    Returns:
        What was done, in words; empty where nothing was left over.

    Raises:
        CheckFailed: somebody on another machine is at it now.
    """
    intent = _intent(store, name)
    if intent is None:
        return ""
    age = time.time() - intent.at
    if intent.host != platform.node() and age < UNDER_WAY:
        raise CheckFailed(
            f"{name}: {intent.alias} is being moved to version {intent.target} on {intent.host} since {age:.0f} s: "
            "try again in two minutes"
        )
    if _aliases(store, name).get(intent.alias) == intent.target:
        complete(intent)
        settle(store, name)
        return f"completed what was cut off: version {intent.target} is {intent.alias}"
    _restore(store, name, intent)
    undo(intent)
    settle(store, name)
    return f"undid what was cut off: version {intent.target} did not become {intent.alias}"


def _mine(store: Store, name: str, intent: Intent) -> bool:
    return _intent(store, name) == intent


def _intent(store: Store, name: str) -> Intent | None:
    text = find_model(store, name).tags.get(INTENT)
    return None if text is None else Intent.model_validate_json(text)


def _aliases(store: Store, name: str) -> dict[str, int]:
    return {alias: int(number) for alias, number in find_model(store, name).aliases.items()}


def _set(store: Store, name: str, alias: str, version: int | None) -> None:
    if version is not None:
        store.client.set_registered_model_alias(name, alias, str(version))
    elif alias in _aliases(store, name):
        store.client.delete_registered_model_alias(name, alias)


def _restore(store: Store, name: str, intent: Intent) -> None:
    _set(store, name, intent.alias, intent.holder)
    _set(store, name, previous_alias(intent.alias), intent.previous)


def _withdraw(store: Store, name: str, intent: Intent) -> None:
    if _mine(store, name, intent):
        with suppress(MlflowException):  # taken away by somebody else this moment
            settle(store, name)


def _lost(name: str, intent: Intent) -> CheckFailed:
    return CheckFailed(
        f"{name}: somebody else moved {intent.alias} at the same time; it was not moved by this command: look at "
        f"`advalign registry show {name}`, and promote again if need be"
    )
