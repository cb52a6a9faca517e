"""The project's own store, a file: where it lies, and what happens to it when the project is copied or moved.

MLflow writes absolute addresses of artifacts into its database. In a copied project they would still name the original:
commands in the copy would write there. So before the database is used, its addresses follow it, in one transaction.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlparse

from sqlalchemy import event
from sqlalchemy.engine import URL, make_url

from advalign.errors import InputError
from advalign.files import Project, replacing
from advalign.progress import say


class StoreDown(InputError):  # noqa: N818  a state of something else, not a fault of this program
    """The tracking store does not answer, or refuses; what was to be logged is not at fault."""


DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
PATIENCE = 60  # seconds that a process waits for another one's transaction
PATHS = ("artifact_location", "artifact_uri", "storage_location", "source", "trace_archival_location")
"""Columns of MLflow's tables that also hold paths without `file://` before them."""


def database_file(uri: str) -> Path | None:
    """The file of a store's database, without symbolic links on its way; None for a server, and for no file.

    >>> database_file("https://tracking.example.org") is None
    True
    >>> database_file("sqlite:////a%20b/100%25%3F.db")
    PosixPath('/a b/100%?.db')
    """
    if not uri.startswith("sqlite"):
        return None
    address = make_url(uri)
    name = address.database or ":memory:"
    if name.startswith("file:") and "uri" in address.query:  # SQLite's own form of an address
        name = unquote(urlparse(name).path)
    return None if name == ":memory:" else Path(name).resolve()


def database_uri(file: Path) -> str:
    """The address of a database that is a file: any character may stand in its path.

    MLflow makes the folders of `sqlite:///` without decoding their names; with the driver's name it makes none.

    >>> database_uri(Path("/a b/c.db")), database_uri(Path("/a b/100%?.db"))
    ('sqlite:////a b/c.db', 'sqlite+pysqlite:////a b/100%25%3F.db')
    """
    found = URL.create("sqlite", database=str(file))
    plain = found.render_as_string() == f"sqlite:///{file}"
    return (found if plain else found.set(drivername="sqlite+pysqlite")).render_as_string()


def own_database(project: Project) -> Path:
    """The file of the project's own store, whether it exists or not; its artifacts lie beside it."""
    return (project.home / DATABASE).resolve()


def create(database: Path) -> None:
    """Make a database with MLflow's tables where there is none or an empty file: all of them, or nothing.

    MLflow itself cannot go on with tables whose making a kill or a full disk cut off. The caller holds the lock.

    Raises:
        sqlalchemy.exc.OperationalError, OSError: the file cannot be written.
    """
    if database.exists() and not (database.is_file() and database.stat().st_size == 0):
        return
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    with replacing(database) as temporary:
        engine = create_sqlalchemy_engine(database_uri(temporary))  # type: ignore[no-untyped-call]
        event.listen(engine, "connect", _write_later)
        try:
            _initialize_tables(engine)  # type: ignore[no-untyped-call]
        finally:
            engine.dispose()
        with temporary.open("rb") as file:
            os.fsync(file.fileno())


def _write_later(opened: sqlite3.Connection, _: object) -> None:
    """Leave it to the system when to write to the disk: MLflow makes its tables in hundreds of steps."""
    opened.execute("pragma synchronous = off")


def follow(database: Path) -> None:
    """Make a database name the folder that it lies in, if it names another one; say so on standard error.

    The caller holds the lock. A killed process leaves all addresses old or all new.

    Args:
        database: its file; nothing happens where it is absent or new.

    Raises:
        sqlite3.Error: it cannot be read or written.
        StoreDown: an address in the old folder would be left over; nothing was changed.
    """
    if not database.is_file():
        return
    home = database.parent
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", PATIENCE, isolation_level=None, uri=True)) as opened:
        if not _other_homes(opened, home):
            return
        opened.execute("begin immediate")  # waits for other writers; SQLite undoes what a killed process began
        others = _other_homes(opened, home)
        count = sum(_rewrite(opened, old, home) for old in others)
        left = [f"{table}.{column}" for old in others for table, column, _, _ in _addresses(opened, old, home)]
        if left:
            opened.execute("rollback")
            raise StoreDown(f"{database}: {', '.join(left)} would still name {others[0]}: nothing was changed")
        opened.execute("commit")
        models = opened.execute("select artifact_location from logged_models where lifecycle_stage = 'active'")
        gone = sum(not _path(address).is_dir() for (address,) in models)
    lacking = f"; the files of {gone} registered models are not here" if gone else ""
    named = ", ".join(map(str, others))
    done = f"{count} addresses in {DATABASE} follow it{lacking}"
    say(f"this project was copied or moved from {named}: {done}")


def _path(address: str) -> Path:
    return Path(unquote(urlparse(address).path))


def _other_homes(opened: sqlite3.Connection, home: Path) -> list[Path]:
    """Folders other than `home` in which the artifacts of advalign's experiments lie."""
    if not _text_columns(opened, "experiments"):
        return []  # a new database
    found = opened.execute("select distinct artifact_location from experiments where name like 'advalign/%'")
    places = [_path(address) for (address,) in found if address]
    return [place.parent for place in places if place.name == ARTIFACTS and not _same(place.parent, home)]


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # the old folder is gone, or somebody else's
        return False


def _text_columns(opened: sqlite3.Connection, table: str) -> list[str]:
    """The columns of a table that hold text; none where there is no such table."""
    found = opened.execute("select name, type from pragma_table_info(?)", (table,))
    return [name for name, kind in found if kind.upper().startswith(("VARCHAR", "TEXT", "JSON"))]


def _addresses(opened: sqlite3.Connection, old: Path, home: Path) -> Iterator[tuple[str, str, str, dict[str, str]]]:
    """Columns that name the old folder: table, column, the condition on their rows, and its parameters.

    `home` may lie inside the old folder. So addresses in `home` are taken out before the old ones are looked for.
    """
    tables = [name for (name,) in opened.execute("select name from sqlite_master where type = 'table'")]
    for table in tables:
        for column in _text_columns(opened, table):
            place = f"instr(replace(\"{column}\", :new, ''), :old)"
            forms = [(f"{place} > 0", {"old": f"{old.as_uri()}/", "new": f"{home.as_uri()}/"})]
            forms += [(f"{place} = 1", {"old": f"{old}/", "new": f"{home}/"})] if column in PATHS else []
            for where, names in forms:
                if opened.execute(f'select 1 from "{table}" where {where}', names).fetchone():
                    yield table, column, where, names


def _rewrite(opened: sqlite3.Connection, old: Path, home: Path) -> int:
    """Make all addresses in the old folder addresses in `home`; their number."""
    count = 0
    for table, column, where, names in list(_addresses(opened, old, home)):
        change = f'update "{table}" set "{column}" = replace("{column}", :old, :new) where {where}'
        count += opened.execute(change, names).rowcount
    return count
