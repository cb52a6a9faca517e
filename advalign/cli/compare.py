"""`advalign compare`: statistics, Pareto front, figures and report over all evaluated models."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from advalign.cli._output import JSON, headings, print_json, print_table
from advalign.rows import NORMS
from advalign.vocabulary import BESIDE_AA, PAIRED, SEM, UNITS, ZOO

if TYPE_CHECKING:  # the help imports nothing heavy
    from advalign.analysis.published import Publication

COLUMNS = ["model", "group", *ZOO]

# headings of the columns of `analysis.published`
PUBLISHED = {
    "model": "model",
    "pt": "pt",
    "pt_released": "pt released",
    "pt_published": "published",
    "pt_sem_published": "sem",
    "pt_difference": "diff/sem",
    "aa": "aa",
    "aa_released": "aa released",
    "aa_published": "published",
    "aa_sem_published": "sem",
    "aa_difference": "diff/sem",
}


def compare(
    protocol: str = typer.Option(None, help="Protocol of the evaluations; default: params.yaml."),
    table: Path = typer.Option(None, help="Any CSV table of models instead of the evaluated ones."),
    output: Path = typer.Option(None, help="With --table: folder for its figures and report; else only statistics."),
    published: Path = typer.Option(None, help="Published values (YAML or CSV) to show next to the measured ones."),
    show: bool = typer.Option(False, "--show", help="Only print the last comparison."),
    as_json: bool = JSON,
) -> None:
    """Compare all evaluated models: outputs/comparison holds table, statistics, figures and report."""
    from advalign.analysis.comparison import compare as run
    from advalign.analysis.comparison_files import read_comparison
    from advalign.analysis.published import beside_published, read_published, released_results
    from advalign.analysis.table import norm_of_table
    from advalign.files import Project
    from advalign.settings import load_settings
    from advalign.workflows.links import tracking_links

    publication = None if published is None else read_published(published)
    if table is not None:
        _compare_table(table, output, publication, as_json)
        return
    project = Project.find()
    if show:
        zoo, statistics = read_comparison(project.comparison)
    else:
        zoo, statistics = run(project, load_settings(project.root), protocol, tracking_links(project))
    _say_left_out(statistics)
    rows = [{str(key): value for key, value in row.items()} for row in zoo.to_dict("records")]
    result = {"models": rows, "statistics": statistics}
    if publication is not None:
        ceiling = statistics.get("reference", {}).get("human_ceiling")
        released = released_results(project, load_settings(project.root).evaluate, statistics["setting"])
        result["published"] = beside_published(publication, zoo, released, ceiling)
    if as_json:
        print_json(result)
        return
    _print_models(rows, statistics, UNITS[norm_of_table(zoo)])
    _print_published(result)
    typer.echo(f"report      {project.comparison / 'report.html'}")
    typer.echo(f"MLflow UI   run `advalign ui` (or `mlflow ui`) in {project.home}, then open http://127.0.0.1:5000")


def _say_left_out(statistics: dict[str, Any]) -> None:
    for one in statistics["left_out"]:
        typer.echo(f"left out: {one['model']} under {one['protocol']}, {one['why']}", err=True)


def _print_models(rows: list[dict[str, Any]], statistics: dict[str, Any], unit: str) -> None:
    """The zoo's table, what other protocols put beside it where there are any, and whether they agree."""
    from advalign.analysis.saliency import saliency_columns

    beside = [f"{short}_{norm}" for norm in NORMS for short in PAIRED if f"{short}_{norm}" in rows[0]]
    beside += saliency_columns(rows[0])
    named = {**headings(ZOO), **{name: name.replace("_", " ") for name in beside}}
    print_table(rows, [*COLUMNS, *beside], f"protocol {statistics['protocol']} ({unit})", named)
    further = [short for short in BESIDE_AA if short in rows[0] and not short.endswith(SEM)]
    if further:
        print_table(rows, ["model", *further], "beside AA", headings(further))
    for entry in statistics.get("protocols", {}).get("agreement", ()):
        if "verdict" in entry:  # an earlier advalign may have written what --show prints
            typer.echo(f"{entry['first']} and {entry['second']}: {entry['verdict']}")
    for entry in statistics.get("saliency", ()):
        typer.echo(f"{entry['first']} and {entry['second']}, {entry['what']}: {entry['verdict']}")


def _compare_table(path: Path, output: Path | None, publication: "Publication | None", as_json: bool) -> None:
    from advalign.analysis.comparison import compare_table
    from advalign.analysis.published import beside_published
    from advalign.analysis.table import read_table

    measured = read_table(path)
    result = compare_table(measured, output, str(path))
    if publication is not None:
        result["published"] = beside_published(publication, measured)
    if as_json:
        print_json(result)
    else:
        _print_statistics(result)
        _print_published(result)
    if output is not None:
        typer.echo(f"report  {output / 'report.html'}", err=as_json)


def _print_statistics(statistics: dict[str, list[dict[str, object]]]) -> None:
    print_table(statistics["correlations"], ["x", "y", "n", "rho", "p", "note"], "correlations")
    columns = ["name", "metric", "n1", "n2", "t", "df", "p", "p_holm", "d", "note"]
    print_table(statistics["contrasts"], columns, "contrasts (Welch)")
    print_table(statistics["pareto"], ["model", "pt", "aa"], "Pareto front of the standard models")
    print_table(statistics["beyond_front"], ["model", "pt", "aa"], "beyond the front")
    for note in statistics["notes"]:
        typer.echo(str(note))


def _print_published(result: dict[str, Any]) -> None:
    """Print published values next to measured ones, if --published is given."""
    if "published" not in result:
        return
    from advalign.analysis.published import RELEASED

    found = result["published"]
    if found["rows"]:
        protocol, columns = found["protocol"] or "", list(PUBLISHED)
        if protocol == RELEASED:  # the headline's columns would repeat these
            columns = [column for column in columns if column not in ("pt", "aa")]
        headings = {**PUBLISHED, "pt": f"pt {protocol}", "aa": f"aa {protocol}"}
        print_table(found["rows"], columns, f"measured and published ({found['source']})", headings)
    if found["counts"]["compared"]:
        columns = ["metric", "n", "rho", "p", "p_exact", "note"]
        print_table(found["correlations"], columns, "measured against published (Spearman)")
    for note in found["notes"]:
        typer.echo(str(note))
