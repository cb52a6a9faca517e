"""Moving an alias from one version to another: no one sees two holders, and no move stays incomplete.

MLflow sets an alias without checking who set it before, and has no transactions. So a process that moves an alias first
writes its intent into a tag of the registered model, and reads the tag back. On one machine a lock admits one process
at a time. Through a server two processes may move an alias at the same time; then:

- A process that has not moved the alias yet loses if it finds another intent than its own, or another holder than the
  one it has judged against.
- A process that has moved the alias and finds another's intent waits until the other takes the alias or gives up. It
  wins if the alias stays where it is.

An intent that is left over is from a process that was cut off. The next promotion or rollback of the model completes
the move where the alias was moved, and undoes it otherwise.
"""

import os
import platform
import time
from collections.abc import Callable

from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException
from pydantic import Field

from advalign.errors import CheckFailed, InputError
from advalign.strict_files import parse_json
from advalign.strict_settings import Strict, parse
from advalign.tracking.locks import may_be_alive
from advalign.tracking.registry.policies import previous_alias
from advalign.tracking.registry.registered import find_model
from advalign.tracking.store import Store

INTENT = "advalign.intent"  # tag of the registered model
WAITS, PAUSE = 20, 0.5  # number and seconds of waits for another process


class Intent(Strict):
    """A move of an alias that is about to happen.

    Attributes:
        decision: its run in the audit table; `outcome` is the outcome to be recorded there.
        target: version that will hold the alias; `holder` holds it now.
        next_previous: version to be kept as the previous holder.
        host, process, at: the process that moves the alias, and its start (seconds since 1970).
    """

    decision: str
    outcome: str
    alias: str
    target: int
    holder: int | None
    next_previous: int | None
    host: str = Field(default_factory=platform.node)
    process: int = Field(default_factory=os.getpid)
    at: float = Field(default_factory=time.time)


def move(store: Store, name: str, intent: Intent) -> None:
    """Give an alias to another version. The intent stays until `settle` removes it.

    Raises:
        CheckFailed: somebody else moved the alias meanwhile; this call's version does not hold it.
    """
    store.client.set_registered_model_tag(name, INTENT, intent.model_dump_json())
    found, holder = _look(store, name, intent.alias)
    if found != intent or holder != intent.holder:
        settle(store, name, intent)
        raise _lost(name, intent)
    _set(store, name, intent.alias, intent.target)  # right after `_look`: changes in between are found below
    _set(store, name, previous_alias(intent.alias), intent.next_previous)
    for _ in range(WAITS):
        found, holder = _look(store, name, intent.alias)
        if found is None or found == intent or holder != intent.target:
            break
        time.sleep(PAUSE)  # another process has begun: it takes the alias, or finds that it has lost
    if holder != intent.target:
        settle(store, name, intent)
        raise _lost(name, intent)


def settle(store: Store, name: str, intent: Intent) -> None:
    """Remove the intent, unless it is another process's by now."""
    if _intent(find_model(store, name)) == intent:
        try:
            store.client.delete_registered_model_tag(name, INTENT)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # removed just now
                raise


def recover(store: Store, name: str, complete: Callable[[Intent], None], undo: Callable[[Intent], None]) -> str:
    """Complete or undo a move that was cut off. The caller holds the lock.

    Args:
        store, name: which registered model.
        complete: called where the alias was moved and only its record may be missing.
        undo: called where the alias was not moved.

    Returns:
        What was done, in words; empty where nothing was left over.

    Raises:
        CheckFailed: another process is moving the alias now.
    """
    intent = _intent(find_model(store, name))
    if intent is None:
        return ""
    if may_be_alive(intent.host, intent.process, intent.at):
        raise CheckFailed(
            f"{name}: {intent.alias} is being moved to version {intent.target} by process {intent.process} on "
            f"{intent.host}: try again in two minutes"
        )
    _, holder = _look(store, name, intent.alias)
    if holder == intent.target:
        _set(store, name, previous_alias(intent.alias), intent.next_previous)
        complete(intent)
    else:  # the alias was not moved yet, or was moved again since
        undo(intent)
    settle(store, name, intent)
    if holder == intent.target:
        return f"completed what was cut off: version {intent.target} is {intent.alias}"
    return f"undid what was cut off: version {intent.target} did not become {intent.alias}"


def left_over(store: Store, name: str) -> str:
    """A sentence on a move that is under way or was cut off; empty where there is none."""
    intent = _intent(find_model(store, name))
    if intent is None:
        return ""
    return (
        f"{name}: moving {intent.alias} to version {intent.target} is under way or was cut off; the next promotion or "
        "rollback of it completes or undoes it"
    )


def _look(store: Store, name: str, alias: str) -> tuple[Intent | None, int | None]:
    """The intent and the holder of an alias, read in one request and so at one moment."""
    model = find_model(store, name)
    holder = model.aliases.get(alias)
    return _intent(model), None if holder is None else int(holder)


def _intent(model: RegisteredModel) -> Intent | None:
    text = model.tags.get(INTENT)
    try:
        return None if text is None else parse(Intent, parse_json(text, INTENT), INTENT)
    except InputError:
        raise CheckFailed(
            f"{model.name}: its tag {INTENT} cannot be read, another version of advalign may have written it: see in "
            "the MLflow UI that the aliases are right, and delete the tag"
        ) from None


def _set(store: Store, name: str, alias: str, version: int | None) -> None:
    """Set an alias, or remove it where the version is None or was deleted."""
    try:
        if version is not None:
            store.client.set_registered_model_alias(name, alias, str(version))
            return
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    if alias in find_model(store, name).aliases:
        store.client.delete_registered_model_alias(name, alias)


def _lost(name: str, intent: Intent) -> CheckFailed:
    return CheckFailed(
        f"{name}: somebody else moved {intent.alias} at the same time; version {intent.target} does not hold it: look "
        f"at `advalign registry show {name}`, and promote again if need be"
    )
