"""A version's evaluation in the tracking store: the evidence that a promotion is judged on.

Every file is checked against a digest: the summary's is in the version's tag, those of the rows, the weights and the
card are in the summary. So nobody can replace evidence without changing the version's tags too. Numbers are computed
again from the rows.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from advalign.data.cifar import image_flags
from advalign.data.results import SUMMARY_VERSION, TRIAL, read_rows
from advalign.errors import CheckFailed, InputError
from advalign.evaluation.summaries import checked_metrics, setting_of
from advalign.files import sha256
from advalign.rows import FLAGS, norm_of
from advalign.seals import Damaged
from advalign.settings import EvaluateSettings
from advalign.strict_files import read_json
from advalign.tracking.registry.audit import MODEL
from advalign.tracking.registry.gates import Evidence
from advalign.tracking.registry.model_card import RESULT, RUN
from advalign.tracking.registry.registered import CARD_TAG, WEIGHTS_TAG, label_of
from advalign.tracking.store import RESULT as RUN_RESULT
from advalign.tracking.store import Store, experiment_of
from advalign.vocabulary import PLANE, in_norm

MEND = "delete that run, and `advalign publish` logs what lies on disk again"


@dataclass(frozen=True)
class Logged:
    """A version's evaluation, checked.

    Attributes:
        summary: as logged.
        rows: of the protocol.
        flags: sanity flags in the rows and the companions' rows, and what speaks against their images.
        metrics: computed from the rows now.
    """

    summary: dict[str, Any]
    rows: pd.DataFrame
    flags: tuple[str, ...]
    metrics: dict[str, float | None]


def read_evaluation(store: Store, version: ModelVersion, protocol: str, evaluate: EvaluateSettings) -> Logged | None:
    """A version's evaluation from its run in the store.

    Args:
        store, version: the version, evaluated by the store's experiment.
        protocol: of the evaluation.
        evaluate: settings: declared protocols and metrics.

    Returns:
        None where the version is not evaluated under the protocol.

    Raises:
        InputError: the evaluation's run or one of its files is missing.
        CheckFailed: a file is not the one that was logged, or is of other weights, or rows give other numbers.
    """
    noted = store.named(protocol)
    run_id = version.tags.get(f"{noted}{RUN}")
    if run_id is None:
        return None
    label = f"{label_of(version)}, evaluation run {run_id}"
    run = _active_run(store, run_id, label)
    if run.data.tags.get(RUN_RESULT) != version.tags.get(f"{noted}{RESULT}"):
        raise CheckFailed(f"{label}: {version.name}.json is not the one that was logged: {MEND}")
    found = _checked(store, run, version.name, label, evaluate)
    told = found.summary
    if (told["weights_sha256"], told["card_sha256"]) != tuple(version.tags.get(tag) for tag in (WEIGHTS_TAG, CARD_TAG)):
        raise CheckFailed(f"{label}: it is of other weights or another card than the version's: {MEND}")
    if told["protocol"] != TRIAL.sub("", protocol):
        raise CheckFailed(f"{label}: it is an evaluation under {told['protocol']}, not {protocol}: {MEND}")
    return found


def _checked(store: Store, run: Run, model: str, label: str, evaluate: EvaluateSettings) -> Logged:
    """An evaluation's files, checked against their digests, with its numbers computed from its rows.

    Raises:
        InputError, CheckFailed: as `read_evaluation`.
    """
    run_id, name = run.info.run_id, f"{model}.parquet"
    summary = _summary(store, run, model, label)
    if summary is None:
        raise InputError(f"{label}: an earlier advalign evaluated it: evaluate it again, and publish")
    with TemporaryDirectory() as folder:
        files = {summary["protocol"]: name, **{one: f"{one}/{name}" for one in summary["companions"]}}
        rows = {one: _artifact(store, run_id, file, label, folder) for one, file in files.items()}
        try:
            metrics = checked_metrics(summary, rows.__getitem__, evaluate)
            tables = {one: read_rows(path) for one, path in rows.items()}
            flags = dict.fromkeys(flag for table in tables.values() for flag in _flags(table))
            return Logged(summary, tables[summary["protocol"]], tuple(flags), metrics)
        except (CheckFailed, Damaged) as error:
            raise CheckFailed(f"{label}: {error}") from None


def _flags(rows: pd.DataFrame) -> list[str]:
    """Sanity flags that an attack put into its rows, and what speaks against the rows' images."""
    raised = {flag for flags in rows.get(FLAGS, ()) for flag in flags.split(",") if flag}
    return [*sorted(raised), *image_flags(rows)]


def _summary(store: Store, run: Run, model: str, label: str) -> dict[str, Any] | None:
    """The summary of an evaluation's run, checked against its digest; None where an earlier version wrote it."""
    with TemporaryDirectory() as folder:
        file = _artifact(store, run.info.run_id, f"{model}.json", label, folder)
        if sha256(file) != run.data.tags.get(RUN_RESULT):
            raise CheckFailed(f"{label}: {file.name} is not the one that was logged: {MEND}")
        found: dict[str, Any] = read_json(file)
        return found if found.get("version") == SUMMARY_VERSION else None


def read_evidence(store: Store, version: ModelVersion, protocol: str, evaluate: EvaluateSettings) -> Evidence | None:
    """A version's evaluation as evidence for gates; None where the version is not evaluated under the protocol.

    Raises:
        InputError, CheckFailed: as `read_evaluation`.
    """
    found = read_evaluation(store, version, protocol, evaluate)
    if found is None:
        return None
    summary = found.summary
    return Evidence(
        label=label_of(version),
        data=(version.tags.get("dvc.data.md5"), summary["data_md5"]),
        stimuli=summary["stimuli_sha256"],
        protocol=summary["protocol_sha256"],
        setting=setting_of(summary),
        flags=found.flags,
        metrics=found.metrics,
        rows=found.rows,
        human_ceiling=summary["human_ceiling"],
    )


def evaluated_zoo(
    store: Store, protocol: str, candidate: Evidence, left_out: str, evaluate: EvaluateSettings
) -> pd.DataFrame:
    """The experiment's zoo: the newest evaluation of every model that can be compared with a candidate's.

    Args:
        store: opened tracking store.
        protocol: of the evaluations.
        candidate: the others are evaluated on the same stimuli and data, and attacked in the same way.
        left_out: the judged model.
        evaluate: settings: declared protocols and metrics.

    Returns:
        Columns model, group, pt, aa, computed from the rows, in the candidate's norm; models with sanity flags are left
        out.

    Raises:
        InputError, CheckFailed: as `read_evaluation`.
    """
    newest: dict[str, Run] = {}
    norm = norm_of(candidate.rows) or "l2"
    wanted = f"tags.`advalign.protocol` = '{protocol}' and tags.`advalign.stimuli_sha256` = '{candidate.stimuli}'"
    for run in store.all_runs("evaluate", f"{wanted} and attributes.status = 'FINISHED'"):
        if experiment_of(run.data.tags) == store.experiment and run.data.tags[MODEL] != left_out:
            newest.setdefault(run.data.tags[MODEL], run)
    rows = []
    for model, run in sorted(newest.items()):
        label = f"{model}, evaluation run {run.info.run_id}"
        told = _summary(store, run, model, label)
        if told is not None and setting_of(told) == candidate.setting and not told["flags"]:
            metrics = _checked(store, run, model, label, evaluate).metrics
            numbers = {short: metrics.get(in_norm(short, norm).name) for short in PLANE}
            rows.append({"model": model, "group": run.data.tags["advalign.group"], **numbers})
    return pd.DataFrame(rows, columns=["model", "group", *PLANE]).astype(dict.fromkeys(PLANE, float))


def _active_run(store: Store, run_id: str, label: str) -> Run:
    try:
        run = store.client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        run = None
    if run is None or run.info.lifecycle_stage == "deleted":
        raise InputError(f"{label}: the run was deleted: `advalign publish` logs what lies on disk again")
    return run


def _artifact(store: Store, run_id: str, name: str, label: str, folder: str) -> Path:
    into = Path(folder, name).parent  # MLflow puts a file into a folder under its own name
    into.mkdir(parents=True, exist_ok=True)
    try:
        return Path(store.client.download_artifacts(run_id, name, str(into)))
    except (MlflowException, OSError):
        raise InputError(f"{label}: {name} is missing in the artifact store: {MEND}") from None
