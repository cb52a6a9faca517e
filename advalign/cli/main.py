"""`advalign`: the application, and errors on one line. Its help imports neither torch nor mlflow."""

import os
import sys
from importlib.metadata import version
from io import TextIOWrapper
from typing import Any, NoReturn

import typer

from advalign.cli import (
    checkpoint,
    compare,
    data,
    doctor,
    evaluate,
    init,
    protocols,
    publish,
    registry,
    study,
    train,
    zoo,
)
from advalign.errors import AdvalignError, hide_passwords, printable, quoted

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
app.command("evaluate")(evaluate.evaluate)
app.command("protocols")(protocols.protocols)
app.add_typer(zoo.app, name="zoo")
app.command("compare")(compare.compare)
app.add_typer(registry.app, name="registry")
app.command("publish")(publish.publish)
app.command("ui")(publish.ui)
app.command("doctor")(doctor.doctor)


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
    """Run the command line; exit 0 done, 1 a check said no, 2 bad input: one line, no traceback."""
    if isinstance(sys.stdout, TextIOWrapper):  # an encoding that lacks a character prints its escape
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
    except AdvalignError as error:
        if os.environ.get("ADVALIGN_DEBUG"):
            raise
        _say(str(error))
        _end(error.exit_code)
    except USAGE_ERROR as error:
        _say(error.format_message())
        _end(2)
    except SystemExit as ended:  # typer ends with 1 where nobody reads the output
        if isinstance(ended.__context__, BrokenPipeError):
            _cut_off(ended.__context__)
        raise
    except OSError as error:  # of the file system or the network: a name too long, a full disk, no permission
        if os.environ.get("ADVALIGN_DEBUG"):
            raise
        _say(f"{quoted(error)}: fix that or name another place, and run again")
        _end(2)
    except (typer.Abort, KeyboardInterrupt):
        _say("interrupted; run the same command again to continue")
        _end(130)
    _end(code or 0)


def _end(code: int) -> NoReturn:
    """Exit once the output is written."""
    try:
        if sys.stdout is not None:  # else the caller closed it
            sys.stdout.flush()
    except OSError as error:
        _cut_off(error)
    sys.exit(code)


def _cut_off(error: OSError) -> NoReturn:
    """Say that the output cannot be written (`| head`, a full disk), and exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left would be written when Python ends, and fail again
    _say(f"the output cannot be written ({error.strerror or error}); what the command did is kept")
    sys.exit(2)


def _say(message: str) -> None:
    line = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in " ".join(printable(message).split()))
    if sys.stderr is not None:  # closed: the exit code says it
        print(f"advalign: error: {line}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    run()
