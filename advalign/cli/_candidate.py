"""The end of a command that makes a checkpoint: its version becomes the candidate, unless the store is down."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advalign.files import Project


def make_candidate(project: "Project", folder: Path, done: str, outage: str = "") -> int:
    """Register a checkpoint as the candidate of its model, also if its weights were registered before.

    Args:
        project: whose store.
        folder: the checkpoint's, below the project's root, under its published name.
        done: what the command has done, for the message.
        outage: why the store does not answer, if that is known; else empty.

    Returns:
        Number of the version.

    Raises:
        StoreDown: the store does not answer, or refuses; says what is kept and how to register it later.
    """
    from advalign.tracking.results import Published
    from advalign.tracking.store import StoreDown, open_store
    from advalign.workflows.publish import propose, publish_checkpoint

    try:
        if outage:
            raise StoreDown(outage)
        store = open_store(project)
        version = publish_checkpoint(project, store, folder, Published())
        propose(store, version)  # also where these weights were registered before
    except StoreDown as error:
        shown = folder.relative_to(project.root)
        kept = f"the checkpoint is kept in {shown}, and `advalign publish` brings it to the store"
        raise StoreDown(f"{done}; {error}; nothing is lost: {kept}") from error
    return int(version.version)


def candidate_line(project: "Project", folder: Path, done: str, version: int) -> str:
    """The line that the command prints: what it has done, the checkpoint and its version."""
    shown = folder.relative_to(project.root)
    return f"{done}; checkpoint {shown}, models:/{folder.name}@candidate is version {version}"
