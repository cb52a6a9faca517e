"""Great Expectations over every table: declared expectations are checked, and every row that fails is named."""

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from advalign.data.classes import checked_classes
from advalign.data.participants import has_participants
from advalign.data.responses import response_files
from advalign.data.sets.stimuli import load_stimuli
from advalign.data.suites import MEANINGS, Tables, stimulus_tables
from advalign.data.suites_cifar import cifar_tables
from advalign.data.suites_evaluations import evaluation_tables
from advalign.data.suites_measured import measured_tables
from advalign.data.suites_responses import response_tables
from advalign.data.suites_trials import trial_tables
from advalign.data.validated import Failure, Validation
from advalign.errors import InputError, quoted
from advalign.files import Project, replacing_folder, write_text
from advalign.rows import NORMS, with_norm
from advalign.settings import Settings

# the column that names a row of each table in a message
NAMED_BY = {
    **dict.fromkeys(("manifest", "maps"), "stimulus"),
    "superclasses": "superclass",
    **dict.fromkeys((*(with_norm("evaluations", norm) for norm in NORMS), "attacked", "predicted", "trials"), "row"),
    **dict.fromkeys(("response_units", "response_trials"), "row"),
    **dict.fromkeys(("evaluated", "measured"), "evaluation"),
    **dict.fromkeys(("labels", "train", "test", "swapped", "swaps", "clicked", "response_images"), "image"),
}
SHOWN = 5  # failing rows shown per failure, unless all are wanted
DATA_DOCS = {"index.html", "static", "expectations", "validations"}  # the contents of a Data Docs folder


def validate(
    project: Project, settings: Settings, *, evaluations: bool = False, docs: Path | None = None
) -> Validation:
    """Check data/cifar, data/participants, data/responses, and the stimuli with maps and labels.

    The stimuli are needed where nothing of the others is there.

    Args:
        project: whose data is checked.
        settings: how many stimuli are wanted.
        evaluations: also check outputs/evaluations of stimuli and of data/cifar, under all protocols, and
            outputs/responses.
        docs: folder to write Great Expectations' Data Docs into: absent, empty, or with earlier Data Docs.

    Raises:
        DataError: something is missing or unreadable.
        InputError: `docs` holds something else.
    """
    if docs is not None:
        check_docs_folder(docs)
    responses = response_files(project, made=evaluations)
    others = (project.data / "cifar").exists() or has_participants(project) or bool(responses)
    stimuli = load_stimuli(project) if project.stimuli.exists() or not others else None
    classes = checked_classes(project.data / "classes.yaml")
    tables = cifar_tables(project, classes) | trial_tables(project, classes) | response_tables(responses, classes)
    if evaluations:
        tables |= measured_tables(project, classes)
    if stimuli is not None:
        tables |= stimulus_tables(project, settings, classes, stimuli)
        if evaluations:
            tables |= evaluation_tables(project, settings, stimuli)
    return check_tables(tables, docs)


def check_tables(tables: Tables, docs: Path | None = None) -> Validation:
    """Check each table against its suite in an ephemeral context (nothing is sent; only `docs` is written).

    Args:
        tables: name -> (frame, function that builds expectations from the module `great_expectations.expectations`).
        docs: folder to write Data Docs of this validation into.

    Raises:
        InputError: `docs` holds anything but Data Docs.
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    import great_expectations.expectations as gxe
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("advalign")
    run = RunIdentifier(run_name="advalign")
    checked, failures = {}, []
    for name, (frame, build) in tables.items():
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
        suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=build(gxe)))
        check = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
        wanted = {"result_format": "COMPLETE", "unexpected_index_column_names": [NAMED_BY[name]]}
        result = check.run(batch_parameters={"dataframe": frame}, result_format=wanted, run_id=run)
        checked[name] = len(result.results)
        failures += [_failure(name, item) for item in result.results if not item.success]
    validation = Validation(checked, tuple(failures))
    if docs is not None:
        _write_docs(context, docs, validation)
    return validation


def _failure(table: str, item: Any) -> Failure:
    found, settings = item.result or {}, item.expectation_config.kwargs
    columns = [settings[key] for key in ("column", "column_A", "column_B") if key in settings]
    raised = [info["exception_message"] for info in _exceptions(item.exception_info)]
    rows = [_plain_row(row, NAMED_BY[table], columns) for row in found.get("unexpected_index_list") or []]
    values = found.get("partial_unexpected_list") or [found.get("observed_value")]
    told = raised or [" ".join(map(_word, row.values())) for row in rows[:SHOWN]] or values
    return Failure(
        table,
        item.expectation_config.type,
        ", ".join(columns),
        _why(item.expectation_config.type, columns, settings),
        int(found.get("unexpected_count") or 1),
        tuple(str(example) for example in told[:SHOWN]),
        tuple(rows),
    )


def _why(kind: str, columns: list[str], settings: Any) -> str:
    """What an expectation demands, in words."""
    meant = "; ".join(f"{column}: {MEANINGS[column]}" for column in columns if column in MEANINGS)
    least, most = settings.get("min_value"), settings.get("max_value")
    bounds = [f"{word} {value:.4g}" for word, value in (("at least", least), ("at most", most)) if value is not None]
    values = settings.get("value_set")
    if not bounds and values is not None and len(values) <= SHOWN:
        bounds = [f"one of {', '.join(map(str, values)) or 'nothing'}"]
    wanted = " and ".join(bounds) or kind.removeprefix("expect_").replace("_", " ")
    return f"{meant} (wanted: {wanted})" if meant else f"wanted: {wanted}"


def _exceptions(info: Any) -> list[dict[str, Any]]:
    """The exceptions raised while checking: Great Expectations keeps them by the id of a metric."""
    return [entry for entry in (info or {}).values() if isinstance(entry, dict) and entry.get("raised_exception")]


def _word(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _plain_row(row: dict[str, Any], name: str, columns: list[str]) -> dict[str, Any]:
    """A failing row: the column that names it first, then those that were checked, as plain values (NaN: null)."""
    values = {key: row[key] for key in dict.fromkeys([name, *columns]) if key in row}
    plain = {key: value.item() if hasattr(value, "item") else value for key, value in values.items()}
    return {key: None if value is None or value != value else value for key, value in plain.items()}


def write_validation(project: Project, validation: Validation) -> None:
    """Write outputs/validation.json, the metric of the validate stage."""
    write_text(project.root / "outputs" / "validation.json", json.dumps(validation.as_metrics(), indent=1) + "\n")


def check_docs_folder(folder: Path) -> None:
    """Make sure that Data Docs may be written into a folder.

    Raises:
        InputError: it is a file, or holds anything but earlier Data Docs.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file: give an absent or empty folder for the Data Docs")
    held = {path.name for path in folder.iterdir()}
    index = folder / "index.html"
    earlier = held <= DATA_DOCS and index.is_file() and b"Great Expectations" in index.read_bytes()
    if held and not earlier:
        raise InputError(f"{folder} is not empty and holds no Data Docs: give an absent or empty folder for them")


def _write_docs(context: Any, folder: Path, validation: Validation) -> None:
    """Build Data Docs of everything that a context has validated."""
    with _replacing_docs(folder.resolve()) as temporary:
        site = {
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(temporary)},
        }
        context.add_data_docs_site("advalign", site)
        logger, heard = logging.getLogger("great_expectations.render"), _Heard()
        logger.addHandler(heard)  # Great Expectations logs what it cannot write, with a traceback, and leaves it out
        logger.propagate = False
        context.build_data_docs(site_names=["advalign"])
        logger.removeHandler(heard)
        if heard.errors:
            raise InputError(f"{folder}: Data Docs cannot be written ({heard.errors[0]}): give another folder")
        index = temporary / "index.html"
        summary = _summary(temporary, validation)
        page = index.read_text(encoding="utf-8")
        write_text(index, re.sub(r"<body[^>]*>", lambda body: body[0] + summary, page, count=1))


class _Heard(logging.Handler):
    """Collects the errors that are logged while they are handled, one line each."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.errors.append(quoted(sys.exc_info()[1] or record.getMessage()))


def _summary(docs: Path, validation: Validation) -> str:
    """The suites and their failures as a plain table: the page's own table needs scripts from the network."""
    lines = []
    for table, checked in validation.checked.items():
        page = next((docs / "validations" / table).rglob("*.html")).relative_to(docs).as_posix()
        failures = [failure for failure in validation.failures if failure.table == table]
        said = [f"{one.column} {one.expectation} ({one.unexpected}): {', '.join(one.told)}" for one in failures]
        cells = [
            f'<a href="{quote(page)}">{escape(table)}</a>',
            f"{checked}&nbsp;checked, {len(failures)}&nbsp;failed",
            "<br>".join(map(escape, said)),
        ]
        lines.append("<tr>" + "".join(f'<td style="padding: 2px 12px">{cell}</td>' for cell in cells) + "</tr>\n")
    return '<table style="margin: 12px; vertical-align: top">' + "".join(lines) + "</table>"


@contextmanager
def _replacing_docs(folder: Path) -> Iterator[Path]:
    """`replacing_folder`, for Data Docs: refuses a folder that holds something else, or that cannot be written."""
    check_docs_folder(folder)
    with ExitStack() as stack:
        try:
            temporary = stack.enter_context(replacing_folder(folder))
        except OSError as error:
            raise InputError(f"{folder} cannot be written ({error.strerror or error}): give another folder") from None
        yield temporary
