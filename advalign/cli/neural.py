"""`advalign neural`: responses of brains beside features of models."""

from pathlib import Path

import typer

from advalign.cli._output import JSON, print_json, print_table

app = typer.Typer(help="Compare responses of brains with features of models.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Compare responses of brains with features of models."""


@app.command()
def fit(
    name: str = typer.Argument(..., help="Of a set of responses: data/responses/NAME.h5."),
    features: str = typer.Option(
        "pixels,gabor-energy,gabor-energy+second-order",
        help="pixels, gabor-energy, second-order, category, checkpoint:NAME@LAYER; + fits spaces together.",
    ),
    images: Path = typer.Option(None, help="Folder of the images, found by their SHA-256."),
    roi: str = typer.Option(None, help="One area; default: all."),
    resamples: int = typer.Option(1000, min=100, help="Of the images, for the intervals."),
    seed: int = typer.Option(0, min=0, help="Of folds, projections and resamples."),
    as_json: bool = JSON,
) -> None:
    """Predict held-out responses from features, and say what share of the explainable variance is explained."""
    from advalign.files import Project
    from advalign.workflows.encoding import fit_responses

    wanted = [part.strip() for part in features.split(",")]
    found = fit_responses(Project.find(), name, wanted, images, roi=roi, resamples=resamples, seed=seed)
    if as_json:
        areas = [area.as_json() for area in found.areas]
        print_json({"name": name, "provenance": found.provenance, "normalisation": found.normalisation, "areas": areas})
        return
    columns = ["features", "subject", "roi", "images", "units", "explained", "over_ceiling", "low", "high", "cka"]
    columns += ["rsa", "rsa_lower", "rsa_upper"]
    told = {"over_ceiling": "over ceiling", "low": "95 % from", "high": "95 % to"}
    told |= {"rsa_lower": "rsa at least", "rsa_upper": "rsa at most"}
    rows = [area.as_json() for area in found.areas]
    print_table(rows, columns, f"{name}: {found.provenance} responses, {found.normalisation}", told)
