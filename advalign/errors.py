"""Errors that a user can fix: one clear line each; the command line prints it and exits with the error's code."""

import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from types import TracebackType
from typing import Any

LOGIN = re.compile(r"(://)(?!/)\S*@")  # user and password of an address: all to the last @, since they may have one
PASSWORD = re.compile(r"(?i)((?:password|token)=)\S+")
LONGEST_QUOTE = 600  # characters of what a library said
OWN = ("__main__", "advalign", "pipelines")  # modules that are no libraries
MOST_LISTED = 20  # names in an error
MOST_BITS = 10_000  # Python writes no longer integer in decimals


class AdvalignError(Exception):
    """Base of every error that is reported without a traceback."""

    exit_code = 2


class InputError(AdvalignError):
    """A value, file or name from the user cannot be used; the message says what was got and expected, and the fix."""


class DataError(InputError):
    """A data file is missing, truncated, corrupt or of another shape than its format promises."""


class InapplicableError(InputError):
    """What is asked cannot be asked of this kind of model: where several are evaluated, it is left out."""


class CheckFailed(AdvalignError):  # noqa: N818  a verdict, not a fault
    """A check said no (validation, gate, verification): nothing is wrong with the command itself."""

    exit_code = 1


def shown(value: object, longest: int = 120) -> str:
    r"""A value from outside as a message shows it: one line of ASCII, cut if it is long.

    No more of the value is looked at than is shown: a list may hold itself, or a million lists through aliases.

    >>> shown("r\u0435snet\n")
    "'r\\u0435snet\\n'"
    >>> shown("x" * 1000, 9)
    "'xxxxxxxx..."
    >>> shown([10**6000, {"a": (1,)}])
    "[an integer of 19932 bits, {'a': (1,)}]"
    """
    text = ""
    for part in _parts(value, longest + 1):
        text += part
        if len(text) > longest:
            return f"{text[:longest]}..."
    return text


def quoted(error: object, named: bool = False) -> str:
    r"""What an error says, on one line, for a message that quotes it. Our own errors are quoted whole.

    A library's long message loses its middle: it begins with what happened and ends with what to do.

    >>> quoted(ValueError("no\n  driver"), named=True)
    'ValueError: no driver'
    >>> long = quoted("no driver; " + "x" * 1000 + "; install one")
    >>> len(long), long[:12], long[-12:]
    (600, 'no driver; x', ' install one')

    Args:
        error: the error, or its text.
        named: begin with the class of the error, for those whose text alone says little.
    """
    text = " ".join((f"{type(error).__name__}: {error}" if named else str(error)).split())
    if len(text) <= LONGEST_QUOTE or isinstance(error, AdvalignError):
        return text
    half = LONGEST_QUOTE // 2
    return f"{text[: half - 5]} ... {text[-half:]}"


def _parts(value: Any, longest: int) -> Iterator[str]:
    """The parts of `ascii(value)`, in order; each is made when it is asked for."""
    if type(value) is dict:
        yield "{"
        for number, (key, item) in enumerate(value.items()):
            yield ", " if number else ""
            yield from _parts(key, longest)
            yield ": "
            yield from _parts(item, longest)
        yield "}"
    elif type(value) in (list, tuple):
        yield "[" if type(value) is list else "("
        for number, item in enumerate(value):
            yield ", " if number else ""
            yield from _parts(item, longest)
        yield "]" if type(value) is list else ",)" if len(value) == 1 else ")"
    elif type(value) is int and value.bit_length() > MOST_BITS:
        yield f"an integer of {value.bit_length()} bits"
    else:
        yield ascii(value[:longest] if isinstance(value, str | bytes) else value)


def printable(text: str) -> str:
    """A text, such as an address or an error of a library, without the logins and passwords in it.

    >>> printable("cannot reach https://ada:secret@tracking.example.org")
    'cannot reach https://***@tracking.example.org'
    >>> printable("host=127.0.0.1 password=secret user=ada")
    'host=127.0.0.1 password=*** user=ada'
    """
    return PASSWORD.sub(r"\1***", LOGIN.sub(r"\1***@", text))


def hide_passwords() -> None:
    """Let tracebacks that end this process be `printable`."""
    sys.excepthook = _print_traceback


def _print_traceback(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    print(printable("".join(traceback.format_exception(kind, error, where))), end="", file=sys.stderr)  # noqa: T201


def failed_import(error: BaseException) -> str:
    """A line on a library whose import raised the error; empty where none's did.

    Libraries read variables of the environment while they are imported, and load libraries of the system.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [str(frame.f_globals["__name__"]) for frame in frames if frame.f_code.co_name == "<module>"]
    foreign = [name.partition(".")[0] for name in names if name.partition(".")[0] not in OWN]
    missing = error.name if isinstance(error, ModuleNotFoundError) and error.name else ""
    library = missing.partition(".")[0] or (foreign[-1] if foreign else "")
    if not library:
        return ""
    mend = "correct what the environment says to it, or install again what requirements.lock pins"
    return f"the library {library} cannot be imported ({type(error).__name__}: {error}): {mend}"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Build the error for a name that does not exist, offering the nearest ones that do.

    >>> str(unknown_name("recipe", "robst", ["baseline", "robust"]))
    "unknown recipe 'robst'; did you mean 'robust'? (known: baseline, robust)"
    """
    names = sorted(known)
    near = get_close_matches(name[:200], names, n=3, cutoff=0.5)
    question = f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    more = f" and {len(names) - 5} more" if len(names) > MOST_LISTED else ""
    listed = "" if near and more else f" (known: {', '.join(names[:5] if more else names) or 'none'}{more})"
    return InputError(f"unknown {kind} {shown(name)}{question}{listed}")
