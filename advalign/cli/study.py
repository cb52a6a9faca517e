"""`advalign study`: do both remedies together go beyond each alone?"""

import math

import typer

from advalign.cli._output import JSON, print_json, print_table
from advalign.cli.train import changes_of
from advalign.errors import InputError, shown
from advalign.strict_csv import parse_number

COLUMNS = ["lambda_1", "eps", "remedy", "n_valid", "pt", "pt_sem", "aa", "aa_sem", "accuracy", "on_front"]


def study(
    model: str = typer.Option("test_resnet", help="Architecture, by its timm name."),
    lambda_1: str = typer.Option("0,1,4,8", help="Weights of the map term; 0: without it."),
    eps: str = typer.Option("0,0.5,1,2", help="Radii of the l2 ball; 0: without adversarial training."),
    changes: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Any key of params.yaml's train."),
    protocol: str = typer.Option(None, help="Protocol of the evaluations; default: params.yaml."),
    limit: int = typer.Option(None, min=1, help="Only the first N stimuli."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, ..."),
    as_json: bool = JSON,
) -> None:
    """Train and evaluate a grid of both remedies and draw its front of tolerance, alignment and accuracy."""
    weights, radii = _numbers("--lambda-1", lambda_1), _numbers("--eps", eps)
    values = changes_of(changes)
    from advalign.files import Project
    from advalign.settings import load_settings
    from advalign.training.world import is_first
    from advalign.workflows.study import Grid, Study, run_study

    project = Project.find()
    grid = Grid(model, weights, radii, values)
    table, said = run_study(project, load_settings(project.root), grid, protocol=protocol, limit=limit, device=device)
    if not is_first():
        return
    rows = [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
    if as_json:
        print_json({"cells": rows, "answer": said})
        return
    print_table(rows, COLUMNS, f"study of {model}")
    typer.echo(f"{said}\nfigure and tables: {Study(project.root, model).folder.relative_to(project.root)}")


def _numbers(option: str, text: str) -> list[float]:
    """Read numbers of 0 and above, separated by commas.

    Raises:
        InputError: not numbers, negative, or one twice.
    """
    try:
        numbers = [parse_number(part) for part in text.split(",")]
    except ValueError:
        numbers = [math.nan]
    if not all(math.isfinite(number) and number >= 0 for number in numbers) or len(set(numbers)) < len(numbers):
        raise InputError(f"{option}: expected different numbers such as 0,1,4, got {shown(text)}")
    return numbers
