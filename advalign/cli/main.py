"""`advalign`: the application, and errors on one line. Its help imports neither torch nor mlflow."""

import os
from importlib.metadata import version
from typing import Any

import typer

from advalign.cli import (
    checkpoint,
    compare,
    data,
    doctor,
    evaluate,
    guidance,
    init,
    neural,
    protocols,
    publish,
    registry,
    study,
    train,
    zoo,
)
from advalign.ending import INTERRUPTED, cut_off, prepare, run_to_end
from advalign.errors import InputError, hide_passwords

# typer carries click inside itself; this is the base of all its usage errors
USAGE_ERROR: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

app = typer.Typer(
    help="How tolerant is a vision model to adversarial perturbations, and do they fall where people look?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("init")(init.init)
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.add_typer(checkpoint.app, name="checkpoint")
app.command("study")(study.study)
app.add_typer(guidance.app, name="guidance")
app.command("evaluate")(evaluate.evaluate)
app.command("protocols")(protocols.protocols)
app.add_typer(zoo.app, name="zoo")
app.command("compare")(compare.compare)
app.add_typer(registry.app, name="registry")
app.command("publish")(publish.publish)
app.command("ui")(publish.ui)
app.command("doctor")(doctor.doctor)
app.add_typer(neural.app, name="neural")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"advalign {version('advalign')}")
        raise typer.Exit


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    _: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """How tolerant is a vision model to adversarial perturbations, and do they fall where people look?"""
    hide_passwords()
    if debug:
        os.environ["ADVALIGN_DEBUG"] = "1"


def run() -> None:
    """Run the command line and exit (`run_to_end`)."""
    prepare()
    run_to_end(_command)


def _command() -> int | None:
    try:
        code: int | None = app(standalone_mode=False)
    except USAGE_ERROR as error:
        raise InputError(_told(error)) from None
    except typer.Abort:
        raise KeyboardInterrupt from None
    except SystemExit as ended:  # typer ends with 1 where nobody reads the output
        if isinstance(ended.__context__, BrokenPipeError):
            cut_off(ended.__context__)
        raise
    if code == INTERRUPTED:  # typer makes this of Ctrl-C
        raise KeyboardInterrupt
    return code


def _told(error: Any) -> str:
    """What a usage error says; where a command is missing or unknown, those that there are."""
    said = str(error.format_message())
    context: Any = getattr(error, "ctx", None)
    if "command" not in said.lower() or not hasattr(getattr(context, "command", None), "list_commands"):
        return said
    known = ", ".join(context.command.list_commands(context))
    if said.startswith("Usage: "):
        return f"`{context.command_path}` needs a command: {known}; --help describes them"
    return f"{said.rstrip('.')}; `{context.command_path}` has: {known}"


if __name__ == "__main__":
    run()
