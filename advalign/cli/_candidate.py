"""The end of a command that makes a checkpoint: its version is the candidate, or it waits where the store is down."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advalign.files import Project


def make_candidate(project: "Project", folder: Path, done: str, outage: str = "") -> int:
    """Register a checkpoint, also one whose weights were registered before, as the candidate of its model.

    Args:
        project: whose store.
        folder: the checkpoint's, below the project's root, under its published name.
        done: what the command has done, for the message.
        outage: why the store is known not to answer; empty where it does.

    Returns:
        Number of the version.

    Raises:
        StoreDown: the store does not answer, or refuses; says what is kept and how it gets there.
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
    """What the command prints: what it has done, where the checkpoint lies, which version it is."""
    shown = folder.relative_to(project.root)
    return f"{done}; checkpoint {shown}, models:/{folder.name}@candidate is version {version}"
