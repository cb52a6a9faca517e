"""`advalign`: the application, and errors on one line. Its help imports neither torch nor mlflow."""

import os
import sys
from typing import Any

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
from advalign.errors import AdvalignError, hide_passwords, printable

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


@app.callback()
def options(debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error.")) -> None:
    """How tolerant is a vision model to adversarial perturbations, and do they fall where people look?"""
    hide_passwords()
    if debug:
        os.environ["ADVALIGN_DEBUG"] = "1"


def run() -> None:
    """Run the command line; exit 0 done, 1 a check said no, 2 bad input: one line, no traceback."""
    try:
        code = app(standalone_mode=False)
    except AdvalignError as error:
        if os.environ.get("ADVALIGN_DEBUG"):
            raise
        _say(str(error))
        sys.exit(error.exit_code)
    except USAGE_ERROR as error:
        _say(error.format_message())
        sys.exit(2)
    except OSError as error:  # of the file system or the network: a name too long, a full disk, no permission
        if os.environ.get("ADVALIGN_DEBUG"):
            raise
        _say(f"{str(error)[:300]}: fix that or name another place, and run again")
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        _say("interrupted; run the same command again to continue")
        sys.exit(130)
    sys.exit(code or 0)


def _say(message: str) -> None:
    line = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in " ".join(printable(message).split()))
    print(f"advalign: error: {line}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    run()
