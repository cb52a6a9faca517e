"""`advalign registry ...`: registered models, their promotion and verification."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from advalign.cli._output import JSON, print_json, print_table
from advalign.errors import InputError
from advalign.vocabulary import in_norm, norm_measured

if TYPE_CHECKING:  # the help imports nothing heavy
    from advalign.files import Project
    from advalign.tracking.registry.audit import Decision
    from advalign.tracking.store import Store

app = typer.Typer(help="Registered models: list, show, promote, roll back, verify.", no_args_is_help=True)

ALIAS = typer.Option("champion", "--to", help="Alias, as registry/gates.yaml declares it.")


@contextmanager
def _opened() -> "Iterator[tuple[Project, Store]]":
    """The project with its store; an error of the store is reported on one line."""
    from advalign.files import Project
    from advalign.tracking.store import open_store, store_errors

    project = Project.find()
    store = open_store(project)
    with store_errors(store.uri):
        yield project, store


@app.command("list")
def list_(as_json: bool = JSON) -> None:
    """List registered versions with aliases and headline metrics."""
    from advalign.settings import load_settings
    from advalign.tracking.registry.by_hand import by_hand
    from advalign.tracking.registry.registered import list_models

    with _opened() as (project, store):
        protocol = store.named(load_settings(project.root).evaluate.protocol)
        rows, changed = list_models(store), by_hand(store)
    for row in rows:
        held = [(one["alias"], one["model"], one["version"]) for one in changed]
        row["by_hand"] = [alias for alias in row["aliases"] if (alias, row["name"], row["version"]) in held]
    if as_json:
        print_json(rows)
        return
    if not rows:
        typer.echo("nothing is registered yet: train a model or run `advalign publish`")
        return
    shown = [_headline(row, protocol) for row in rows]
    print_table(shown, ["name", "version", "aliases", "recipe", "pt", "aa", "accuracy"], f"protocol {protocol}")
    _tell_changed(changed)


def _headline(row: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    from advalign.tracking.registry.by_hand import BY_HAND
    from advalign.tracking.registry.model_card import evaluations

    metrics = evaluations(row["tags"]).get(protocol, {})
    accuracy = "multilabel_accuracy" if "multilabel_accuracy" in metrics else "top1_accuracy"
    norm = norm_measured(metrics) or "l2"
    shown = {"pt": in_norm("pt", norm).name, "aa": in_norm("aa", norm).name, "accuracy": accuracy}
    numbers = {heading: metrics.get(name) for heading, name in shown.items()}
    aliases = [f"{alias} ({BY_HAND})" if alias in row["by_hand"] else alias for alias in row["aliases"]]
    return {**row, "aliases": aliases, "recipe": row["tags"].get("advalign.recipe"), **numbers}


def _tell_changed(changed: "list[dict[str, Any]]") -> None:
    """Print a line per alias that no decision explains."""
    from advalign.tracking.registry.by_hand import sentence

    for row in changed:
        typer.echo(sentence(row))


@app.command()
def show(
    name: str = typer.Argument(..., help="NAME, NAME@ALIAS or NAME/VERSION."),
    other: str = typer.Argument(None, help="A second version, to compare with."),
    as_json: bool = JSON,
) -> None:
    """Show versions and their cards: all of NAME, newest first; for two versions the differences side by side."""
    from advalign.names import parse_reference
    from advalign.tracking.registry.aliases import left_over
    from advalign.tracking.registry.registered import compare_versions, resolve, show_model

    reference, second = parse_reference(name), None if other is None else parse_reference(other)
    with _opened() as (_, store):
        if second is not None:
            rows = compare_versions(store, resolve(store, reference), resolve(store, second))
            headings = {"first": name, "second": str(other)}
            print_json(rows) if as_json else print_table(rows, ["what", *headings], headings=headings)
            return
        shown = show_model(store, reference.name)
        if reference.alias or reference.version:
            number = int(resolve(store, reference).version)
            shown = [row for row in shown if row["version"] == number]
        unfinished = left_over(store, reference.name)
    if as_json:
        print_json(shown)
        return
    for row in shown:
        aliases = f" ({', '.join(row['aliases'])})" if row["aliases"] else ""
        typer.echo(f"{row['name']} version {row['version']}{aliases}\n\n{row['description']}")
    if unfinished:
        typer.echo(unfinished)


@app.command()
def promote(
    name: str = typer.Argument(..., help="Registered model."),
    version: int = typer.Option(None, min=1, help="Default: the candidate."),
    to: str = ALIAS,
    force: bool = typer.Option(False, "--force", help="Promote although a gate fails; needs --reason."),
    reason: str = typer.Option("", help="Why; is recorded."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Check the gates only: nothing is moved or recorded."),
    as_json: bool = JSON,
) -> None:
    """Give a version an alias if every gate of registry/gates.yaml holds; otherwise change nothing and exit 1."""
    from advalign.tracking.registry import promotion

    if dry_run and (force or reason):
        raise InputError("--dry-run decides nothing, so it takes neither --force nor --reason: leave one of them out")
    with _opened() as (project, store):
        decision = (
            promotion.check(project, store, name, version, to)
            if dry_run
            else promotion.promote(project, store, name, version, to, force=force, reason=reason)
        )
    _tell(decision, as_json)
    if decision.outcome in ("refused", "fails"):
        raise typer.Exit(1)


@app.command()
def rollback(
    name: str = typer.Argument(..., help="Registered model."),
    to: str = ALIAS,
    reason: str = typer.Option("", help="Why; is recorded."),
    as_json: bool = JSON,
) -> None:
    """Return an alias to the version that held it before."""
    from advalign.tracking.registry.promotion import rollback as run

    with _opened() as (project, store):
        decision = run(project, store, name, to, reason)
    _tell(decision, as_json)


def _tell(decision: "Decision", as_json: bool) -> None:
    """Print the decision and its gates."""
    if as_json:
        print_json(decision.as_json())
        return
    for note in decision.notes:
        typer.echo(note)
    label = f"{decision.model} version {decision.version}"
    if decision.gates:
        rows = [
            {"gate": gate.gate, "wanted": gate.wanted, "got": gate.got, "verdict": "holds" if gate.holds else "FAILS"}
            for gate in decision.gates
        ]
        print_table(rows, ["gate", "wanted", "got", "verdict"], f"gates of {decision.alias}: {label}")
    failed = sum(not gate.holds for gate in decision.gates)
    before = "nobody before" if decision.before is None else f"version {decision.before} before"
    ends = {
        "passes": f"{label} would be {decision.alias}: every gate holds ({before}); nothing was changed",
        "fails": f"{label} would be refused: {failed} of {len(decision.gates)} gates fail; nothing was changed",
        "promoted": f"{label} is {decision.alias} now ({before})",
        "refused": f"{label} was not promoted: {failed} of {len(decision.gates)} gates fail; nothing was changed",
        "kept": f"{label} is {decision.alias} already; nothing was changed",
        "rolled back": f"{label} is {decision.alias} again ({before})",
    }
    forced = (
        f", FORCED although {failed} of {len(decision.gates)} gates fail: {decision.reason}" if decision.forced else ""
    )
    typer.echo(f"{ends[decision.outcome]}{forced}")


@app.command()
def audit(name: str = typer.Argument(None, help="Registered model; default: all."), as_json: bool = JSON) -> None:
    """List every decision on promotions, oldest first: who, when, what, why; then aliases that no decision explains."""
    from advalign.names import check_name
    from advalign.tracking.registry.audit import rows
    from advalign.tracking.registry.by_hand import by_hand

    with _opened() as (_, store):
        wanted = None if name is None else check_name(name)
        decided, changed = rows(store, wanted), by_hand(store, wanted)
    found = decided + changed
    if as_json:
        print_json(found)
        return
    if not found:
        typer.echo("no decision is recorded yet")
        return
    shown = [{**row, "who": (row["who"] or "-").partition(" <")[0], "outcome": _outcome(row)} for row in found]
    print_table(shown, ["at", "who", "model", "version", "alias", "outcome", "reason"])
    _tell_changed(changed)


def _outcome(row: Mapping[str, Any]) -> str:
    keys = {"forced": "forced", "copied": "copied_from", "restored": "restored", "deleted": "deleted"}
    marks = [mark for mark, key in keys.items() if row[key]]
    return f"{row['outcome']} ({', '.join(marks)})" if marks else str(row["outcome"])


@app.command()
def verify(
    name: str = typer.Argument(..., help="NAME (its champion, or else its candidate), NAME@ALIAS or NAME/VERSION."),
    protocol: str = typer.Option(None, help="Protocol of the logged rows; default: params.yaml."),
    shards: int = typer.Option(1, min=1, help="How many shards of stimuli to recompute."),
    as_json: bool = JSON,
) -> None:
    """Download a version, recompute some of its logged rows and compare them; exit 1 if they do not match."""
    from advalign.names import parse_reference
    from advalign.settings import load_settings
    from advalign.workflows.verification import verify as run

    reference = parse_reference(name)
    with _opened() as (project, store):
        settings = load_settings(project.root)
        found = run(project, store, reference, settings, protocol or settings.evaluate.protocol, shards)
    if as_json:
        print_json(found.as_json())
    else:
        print_table(found.checks, ["check", "wanted", "got", "verdict"], found.label)
        typer.echo(found.sentence)
    if not found.holds:
        raise typer.Exit(1)
