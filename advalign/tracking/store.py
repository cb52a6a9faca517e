"""The tracking store: its address, how to open it, and its experiments."""

import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar
from urllib.parse import urlsplit

import mlflow
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList
from mlflow.tracking import MlflowClient
from requests import RequestException
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from advalign.errors import printable, quoted
from advalign.files import MAIN, Project
from advalign.progress import waiting
from advalign.tracking.database import ARTIFACTS, DATABASE, create, database_file, database_uri, follow, own_database
from advalign.tracking.database import StoreDown as StoreDown  # its callers know it from here
from advalign.tracking.locks import exclusive
from advalign.tracking.reach import reach

KINDS = ("maps", "train", "evaluate", "compare", "guidance", "validate", "promote")
EXPERIMENTS = {kind: f"advalign/{kind}" for kind in KINDS}
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the UI shows runs first, not traces
RESULT = "advalign.result_sha256"  # tag: digest of the file that a run logs
EXPERIMENT = "advalign.experiment"  # tag of runs and versions: their folder in experiments/, or "main"
COPY = "advalign.copy_of"  # tag of a copy: the run of another store
PAGE = 1000  # runs of one search
SEQUENCE = "advalign.sequence"  # tag: a run's place in the order in which those of its kind entered the store
LOGIN = re.compile(r"[\w.~!$&'()*+,;=%-]*(:[\w.~!$&'()*+,;=%:-]*)?", re.ASCII)  # what RFC 3986 allows before an @
OUTAGES = (MlflowException, RequestException, SQLAlchemyError, sqlite3.Error, OSError)
"""Raised where a store does not answer, or refuses. OSError: the disk of artifacts is full, or may not be written."""
CLOSED = ("readonly database", "disk is full", "unable to open database file")  # what SQLite says


Found = TypeVar("Found")


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn what a store raises into an error of one line.

    Raises:
        StoreDown: in place of MLflow's errors.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # of a command that prints: nobody reads on
    except OUTAGES as error:
        raise StoreDown(_told(uri, error)) from error


def _told(uri: str, error: Exception) -> str:
    code, said = getattr(error, "error_code", ""), str(error)
    if code in ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"):
        told = f"server {uri} refuses this user or password"
        mend = "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    elif "error responses" in said:
        told, mend = f"server {uri} answers with errors", "look at its log, and whether its database runs"
    elif "CERTIFICATE_VERIFY_FAILED" in said:
        told = f"server {uri} has a certificate that no known authority signed"
        mend = "name the authority's certificate in MLFLOW_TRACKING_SERVER_CERT_PATH"
    elif isinstance(error, RequestException) or "failed with exception" in said:
        told = f"server {uri} does not answer"
        mend = "start it, or unset MLFLOW_TRACKING_URI to use the project's own mlflow.db"
    else:
        told, mend = f"store {uri} cannot be used", _reason(printable(said))
        if isinstance(error, OSError) or any(said in mend for said in CLOSED):
            mend += ": make room or give permission there"
        elif "not a database" in mend or "malformed" in mend:
            mend += ": move the file away, and `advalign publish` fills a new one"
    return printable(f"tracking {told}: {mend}")


def _reason(text: str) -> str:
    """What an error says, on one line; of a database's error its own words, without SQLAlchemy's and the statement.

    >>> _reason("(raised by autoflush) (sqlite3.OperationalError) database or disk is full [SQL: INSERT ...")
    'database or disk is full'
    """
    text = text.partition("(Background on this error at:")[0]
    found = re.search(r"\([\w.]+\.\w+\) ([^\[]+)", text)
    return quoted(found[1] if found else text)


def store_uri(project: Project) -> str:
    """MLFLOW_TRACKING_URI if set; else mlflow.db in the repository's root, which a bare `mlflow ui` there reads too."""
    return os.environ.get("MLFLOW_TRACKING_URI") or database_uri(project.home / DATABASE)


def experiment_of(tags: Mapping[str, str]) -> str:
    """The experiment of a run or a version, by its tags; main for those of earlier versions, without the tag."""
    return tags.get(EXPERIMENT, MAIN)


def every(search: Callable[[str | None], PagedList[Found]]) -> list[Found]:
    """All results of an MLflow search, page by page.

    Args:
        search: takes the token of a page, None for the first.
    """
    found: list[Found] = []
    token = None
    while True:
        page = search(token)
        found += page
        token = page.token
        if not token:
            return found


@dataclass(frozen=True)
class Store:
    """An opened store, used by one experiment of the project.

    Attributes:
        experiment_ids: of MLflow's experiments, by kind (see `KINDS`).
        experiment: of the project (`Project.experiment`); its runs are created and found.
    """

    client: MlflowClient
    uri: str
    experiment_ids: dict[str, str]
    experiment: str = MAIN

    def of(self, experiment: str) -> "Store":
        """The same store, used by another experiment."""
        return replace(self, experiment=experiment)

    def named(self, name: str) -> str:
        """A name that is unique over experiments: unchanged in the main one, EXPERIMENT/NAME in others."""
        return name if self.experiment == MAIN else f"{self.experiment}/{name}"

    def find_runs(self, kind: str, tags: dict[str, str], *, finished: bool | None = None) -> list[Run]:
        """This experiment's runs of a kind that carry all the tags, newest first; `finished` restricts the status."""
        parts = [f"tags.`{name}` = '{value}'" for name, value in tags.items()]
        if finished is not None:
            parts.append(f"attributes.status {'=' if finished else '!='} 'FINISHED'")
        found = self.all_runs(kind, " and ".join(parts))
        return [run for run in found if experiment_of(run.data.tags) == self.experiment]

    def all_runs(self, kind: str, wanted: str = "", view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
        """All runs of a kind, of all experiments, that match an MLflow filter, newest first.

        Newest is what entered the store last, whatever its clock said; runs of earlier versions are ordered by time.
        Copies of another store's runs are older than what the store was given itself, in the order of that store.
        """
        ids, search = [self.experiment_ids[kind]], self.client.search_runs
        found = every(lambda token: search(ids, wanted, view, PAGE, page_token=token))
        return sorted(found, key=lambda run: entered(run.data.tags, run.info.start_time), reverse=True)

    def next_number(self, kind: str) -> int:
        """The number of the next run of a kind to enter the store, in the tag `SEQUENCE`."""
        last = [f"tags.`{SEQUENCE}` DESC"]
        found = self.client.search_runs([self.experiment_ids[kind]], "", ViewType.ALL, 1, order_by=last)
        return entered(found[0].data.tags, 0)[1] + 1 if found else 1

    def make_newest(self, kind: str, run: Run) -> None:
        """Let a run count as the newest of its kind."""
        self.client.set_tag(run.info.run_id, SEQUENCE, numbered(self.next_number(kind)))

    def begin_run(self, kind: str, name: str, key: dict[str, str]) -> str:
        """Create a run that has its key's tags from the start; earlier runs that were cut off are deleted."""
        for run in self.find_runs(kind, key, finished=False):
            self.client.delete_run(run.info.run_id)
        return self.create_run(kind, self.named(name), key)

    def create_run(self, kind: str, name: str, tags: dict[str, str]) -> str:
        """Create a run with the tag of its experiment, as the newest of its kind."""
        tags = {SEQUENCE: numbered(self.next_number(kind)), **tags, EXPERIMENT: self.experiment}
        return str(self.client.create_run(self.experiment_ids[kind], run_name=name, tags=tags).info.run_id)


def numbered(number: int) -> str:
    """A number as the tag `SEQUENCE` holds it: stores order tags as texts.

    >>> numbered(12)
    '0000000012'
    """
    return f"{number:010}"


def entered(tags: Mapping[str, str], started: int) -> tuple[bool, int, int]:
    """By which runs of one kind are ordered: copies first; then by the number of their entry, or 0; then by the start.

    Args:
        tags: of a run.
        started: milliseconds since 1970.
    """
    number = tags.get(SEQUENCE, "")
    return COPY not in tags, int(number) if number.isdecimal() else 0, started


def open_store(project: Project) -> Store:
    """Open the store, creating database and experiments on first use (one process at a time).

    Raises:
        StoreDown: the store cannot be reached or is not usable.
    """
    for noisy in ("alembic", "mlflow.store.model_registry", "mlflow.tracking", "mlflow.models"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db").setLevel(logging.CRITICAL)  # it logs the traceback of what it raises
    uri = store_uri(project)
    _check_address(uri)
    with store_errors(uri), exclusive(uri, "open"):
        file = database_file(uri)
        if file == own_database(project):
            with waiting(f"another process writes to {DATABASE}; waiting for it"):
                follow(file)
        if file is not None:
            create(file)
        reach(uri)
        _choose(uri)
        client = MlflowClient(uri, uri)
        ids = {kind: _experiment(project, client, uri, name) for kind, name in EXPERIMENTS.items()}
    return Store(client, uri, ids, project.experiment)


def _choose(uri: str) -> None:
    """Make a store MLflow's default; unset the variables that MLflow sets, or the next project would use them."""
    given = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    for name, value in given.items():
        if value is None:
            os.environ.pop(name, None)


def _check_address(uri: str) -> None:
    """Refuse an address that libraries would take apart at another place than its user meant, and then show in part."""
    login, at, _ = uri.partition("://")[2].rpartition("@")
    if at and not login.startswith("/") and not LOGIN.fullmatch(login):
        mend = "percent-encode special characters in its password, such as %40 for @ and %2F for /"
        raise StoreDown(f"MLFLOW_TRACKING_URI has a login that cannot be read: {mend}")
    if "password=" in uri.lower():
        mend = "write it before the @, or into the file that PGPASSFILE names"
        raise StoreDown(f"MLFLOW_TRACKING_URI has a password among its parameters: {mend}")
    if uri.startswith("sqlite") and database_file(uri) is None:
        raise StoreDown("MLFLOW_TRACKING_URI is a database in memory, which ends with the command: name a file")
    if uri.startswith("sqlite") and "?" in uri and not make_url(uri).query:
        raise StoreDown(
            "MLFLOW_TRACKING_URI has a ? that begins no parameters: in a path it is written %3F, and % is %25"
        )
    try:
        urlsplit(uri)
    except ValueError as error:
        raise StoreDown(f"MLFLOW_TRACKING_URI is no address ({printable(str(error))}): fix or unset it") from None


def _experiment(project: Project, client: MlflowClient, uri: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    # The path of an experiment's artifacts is absolute: it is set here for a local store, a server chooses its own.
    location = (own_database(project).parent / ARTIFACTS).as_uri() if uri.startswith("sqlite") else None
    try:
        return str(client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS))
    except MlflowException as error:
        made = client.get_experiment_by_name(name) if error.error_code == "RESOURCE_ALREADY_EXISTS" else None
        if made is None:
            raise
        return str(made.experiment_id)  # by another machine, just now
