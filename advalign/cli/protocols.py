"""`advalign protocols`: what can be measured of a model."""

import typer

from advalign.cli._output import JSON, print_json, print_table

COLUMNS = ["protocol", "measures", "image set", "needs", "passes"]


def protocols(as_json: bool = JSON) -> None:
    """List every protocol: what it measures, what it needs of the image set, and its passes per image."""
    from advalign.errors import InputError
    from advalign.evaluation.protocols import listed
    from advalign.files import Project
    from advalign.settings import load_settings

    try:
        root = Project.find().root
    except InputError:  # outside a project only built-in protocols exist
        declared, headline = {}, ""
    else:
        settings = load_settings(root)
        declared, headline = settings.evaluate.protocols, settings.evaluate.protocol
    rows = listed(declared)
    if as_json:
        print_json(rows)
        return
    print_table(rows, COLUMNS)
    if headline:
        typer.echo(f"params.yaml asks for {headline} (evaluate.protocol)")
