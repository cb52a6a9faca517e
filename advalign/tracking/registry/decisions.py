"""Decisions as files: what people and gates decided survives the loss of the tracking store.

Each decision is one file in `outputs/decisions/`, with everything that its row in the audit table has, the digests of
the versions that it is about, and a seal. `restoring` brings them back.
"""

from typing import Any

from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from pydantic import Field

from advalign import seals
from advalign.errors import InputError, printable
from advalign.files import Project
from advalign.names import is_name
from advalign.progress import say
from advalign.strict_settings import Strict, parse
from advalign.tracking.database import DATABASE, database_file, own_database
from advalign.tracking.lineage import RESTORED
from advalign.tracking.registry import audit
from advalign.tracking.registry.registered import CARD_TAG, WEIGHTS_TAG
from advalign.tracking.store import SEQUENCE, Store, entered, numbered

LOST = "restore the file from a back-up, or remove it"
OUTCOMES = (*audit.MOVES, "refused")


class Content(Strict):
    """What makes a version the same in another store.

    Attributes:
        weights, card: SHA-256 of its files.
    """

    weights: str
    card: str


class Kept(Strict):
    """A decision as its file holds it.

    Attributes:
        id: of its row in the store that it was made in.
        store: that store, see `name_of`.
        name: of the row; started, ended: milliseconds since 1970.
        tags: of the row; versions are numbered as in that store.
        decision: `decision.json`.
        version, before: the version, and the one that held the alias before; None where it was none or is unknown.
    """

    id: str = Field(pattern="^[0-9a-f]{32}$")
    store: str
    name: str
    started: int
    ended: int
    tags: dict[str, str]
    decision: dict[str, Any]
    version: Content | None
    before: Content | None

    @property
    def order(self) -> tuple[bool, int, int]:
        """As `store.entered` orders rows."""
        return entered(self.tags, self.started)


def name_of(project: Project, store: Store) -> str:
    """What files call a store: "mlflow.db" is the project's own, wherever it lies; a server has its address."""
    own = database_file(store.uri) == own_database(project)
    return DATABASE if own else printable(store.uri).rstrip("/")


def number(project: Project, store: Store) -> dict[str, str]:
    """The tag that makes a new decision the last: also of those that only files know."""
    names = [path.name.partition("-")[0] for path in project.decisions.glob("*-*.json")]
    found = [int(name) for name in names if name.isdecimal()]
    return {SEQUENCE: numbered(max([store.next_number("promote"), *(last + 1 for last in found)]))}


def keep(project: Project, store: Store, run_id: str) -> None:
    """Write a finished row of the audit table into a file; where that fails, say so: the decision stands."""
    run = store.client.get_run(run_id)
    tags = {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")}
    kept = Kept(
        id=run_id,
        store=name_of(project, store),
        name=run.info.run_name,
        started=run.info.start_time,
        ended=run.info.end_time,
        tags=tags,
        decision=audit.read(store, run_id),
        version=_content(store, tags[audit.MODEL], tags.get(audit.VERSION)),
        before=_content(store, tags[audit.MODEL], tags.get(audit.BEFORE)),
    )
    path = project.decisions / f"{kept.order[1]:06}-{tags[audit.MODEL]}-{run_id}.json"
    try:
        seals.write_json(path, kept.model_dump(mode="json"))
    except OSError as error:
        say(f"{path} cannot be written ({error.strerror}): the decision is in the tracking store only")


def keep_all(project: Project, store: Store) -> None:
    """Write the decisions of the project's own store that no file holds: of earlier versions, or cut off."""
    if name_of(project, store) != DATABASE:
        return
    held = {path.stem.rpartition("-")[2] for path in project.decisions.glob("*.json")}
    for run in store.all_runs("promote", "attributes.status = 'FINISHED'", ViewType.ALL):
        tags = run.data.tags
        ours = tags.get(audit.OUTCOME) in OUTCOMES and is_name(tags.get(audit.MODEL, "")) and RESTORED not in tags
        if ours and run.info.run_id not in held:
            keep(project, store, run.info.run_id)


def read_all(project: Project) -> list[Kept]:
    """All decisions of files, oldest first; a damaged file is named and left out."""
    found = []
    for path in sorted(project.decisions.glob("*.json")):
        try:
            found.append(parse(Kept, seals.read_json(path, LOST), str(path)))
        except (InputError, OSError) as error:
            line = " ".join(str(error).split())
            say(f"{line}; this decision is left out")
    return sorted(found, key=lambda kept: kept.order)


def _content(store: Store, name: str, version: str | None) -> Content | None:
    """The digests of a version; None where there is no such version, or an earlier advalign registered it."""
    try:
        tags = store.client.get_model_version(name, version).tags if version else {}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return Content(weights=tags[WEIGHTS_TAG], card=tags[CARD_TAG]) if {WEIGHTS_TAG, CARD_TAG} <= set(tags) else None
