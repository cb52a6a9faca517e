"""`advalign compare`: statistics, Pareto front, figures and report over all evaluated models."""

from pathlib import Path

import typer

from advalign.cli._output import JSON, print_json, print_table

COLUMNS = ["model", "group", "n_valid", "pt", "pt_sem", "aa", "aa_sem", "aa_raw", "aligned_minus_shuffled",
           "multilabel_accuracy", "top1_accuracy", "attack_success_rate"]  # fmt: skip


HEADINGS = {
    "n_valid": "n",
    "pt_sem": "sem",
    "aa_sem": "sem",
    "aa_raw": "aa raw",
    "aligned_minus_shuffled": "aligned-shuffled",
    "multilabel_accuracy": "multi-label",
    "top1_accuracy": "top-1",
    "attack_success_rate": "success",
}


def compare(
    protocol: str = typer.Option(None, help="Which evaluations; default: params.yaml."),
    table: Path = typer.Option(None, help="Any CSV table of models instead of the evaluated ones."),
    output: Path = typer.Option(None, help="With --table: folder for its figures and report; else only statistics."),
    show: bool = typer.Option(False, "--show", help="Only print the last comparison."),
    as_json: bool = JSON,
) -> None:
    """Compare all evaluated models: outputs/comparison holds table, statistics, figures and report."""
    from advalign.analysis.comparison import compare as run
    from advalign.analysis.comparison import compare_table, read_comparison
    from advalign.analysis.table import read_table
    from advalign.files import Project
    from advalign.settings import load_settings
    from advalign.tracking.store import tracking_links

    if table is not None:
        statistics = compare_table(read_table(table), output, str(table))
        print_json(statistics) if as_json else _print_statistics(statistics)
        if output is not None:
            typer.echo(f"report  {output / 'report.html'}", err=as_json)
        return
    project = Project.find()
    if show:
        zoo, statistics = read_comparison(project)
    else:
        zoo, statistics = run(project, load_settings(project.root), protocol, tracking_links(project))
    rows = [{str(key): value for key, value in row.items()} for row in zoo.to_dict("records")]
    if as_json:
        print_json({"models": rows, "statistics": statistics})
        return
    print_table(rows, COLUMNS, f"protocol {statistics['protocol']}", HEADINGS)
    typer.echo(f"report      {project.comparison / 'report.html'}")
    typer.echo(f"MLflow UI   run `advalign ui` (or `mlflow ui`) in {project.root}, then open http://127.0.0.1:5000")


def _print_statistics(statistics: dict[str, list[dict[str, object]]]) -> None:
    print_table(statistics["correlations"], ["x", "y", "n", "rho", "p", "note"], "correlations")
    columns = ["name", "metric", "n1", "n2", "t", "df", "p", "p_holm", "d", "note"]
    print_table(statistics["contrasts"], columns, "contrasts (Welch)")
    print_table(statistics["pareto"], ["model", "pt", "aa"], "Pareto front of the standard models")
    print_table(statistics["beyond_front"], ["model", "pt", "aa"], "beyond the front")
    for note in statistics["notes"]:
        typer.echo(str(note))
