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


@app.command()
def predictor(
    responses: str = typer.Argument(..., help="Of a set of responses: data/responses/NAME.h5."),
    model: str = typer.Option(..., help="A trained or imported model of the project, whose features are mapped."),
    roi: str = typer.Option(..., help="The area."),
    name: str = typer.Option(..., help="Of the predictor: outputs/predictors/NAME."),
    layer: str = typer.Option(None, help="Default: the penultimate features."),
    subject: str = typer.Option(None, help="Needed where several have the area."),
    images: Path = typer.Option(None, help="Folder of the images, by SHA-256; default: the project's own images."),
    seed: int = typer.Option(0, min=0, help="Of the images held out, and of a projection."),
    resamples: int = typer.Option(1000, min=100, help="Of the images held out, for the interval."),
    replace: bool = typer.Option(False, "--replace", help="Replace a predictor that was fitted to something else."),
    as_json: bool = JSON,
) -> None:
    """Fit a predictor (image -> responses of an area) and say how well it explains responses to images held out."""
    from advalign.files import Project
    from advalign.workflows.predictors import fit_predictor

    card, new = fit_predictor(
        Project.find(), responses, model, roi, name, layer=layer, subject=subject, images=images, seed=seed,
        resamples=resamples, replace=replace,
    )  # fmt: skip
    if as_json:
        print_json(card.model_dump(mode="json"))
        return
    columns = ["backbone", "layer", "subject", "roi", "units", "fitted", "held_out", "explained", "over_ceiling"]
    told = {"held_out": "held out", "over_ceiling": "over ceiling", "low": "95 % from", "high": "95 % to"}
    print_table(
        [card.model_dump()], [*columns, "low", "high"], f"{name}: {card.provenance} responses {responses}", told
    )
    typer.echo(f"outputs/predictors/{name}{'' if new else ' (was there already)'}")


@app.command()
def predict(
    name: str = typer.Argument(..., help="Of a predictor: outputs/predictors/NAME."),
    as_: str = typer.Option(..., "--as", help="Of the set of responses: outputs/responses/STORE.h5."),
    replace: bool = typer.Option(False, "--replace", help="Replace a set of responses with other content."),
) -> None:
    """Predict the responses to the project's images, without those that the predictor was fitted to."""
    from advalign.data.responses import ResponseStore
    from advalign.files import Project
    from advalign.workflows.predicted_responses import predict_responses

    project = Project.find()
    path = predict_responses(project, name, as_, replace=replace)
    store = ResponseStore.open(path)
    train = int((store.trials["split"] == 0).sum())
    counts = f"{train} training and {len(store.trials) - train} validation images, {len(store.units)} units"
    typer.echo(f"{path.relative_to(project.root)}: {counts}, provenance {store.provenance}")
