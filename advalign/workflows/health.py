"""Checks of this machine: versions, devices, settings, data, responses, human maps, results, tracking store."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

from packaging.requirements import Requirement

from advalign.errors import AdvalignError, printable
from advalign.files import Project
from advalign.inputs import folder_md5
from advalign.provenance import data_md5
from advalign.settings import load_settings


@dataclass(frozen=True)
class Finding:
    """Result of one check; `mend` is the fix where the state is not "ok"."""

    what: str
    state: Literal["ok", "absent", "broken"]
    detail: str
    mend: str = ""


def examine() -> list[Finding]:
    """Run all checks; a failing check is a finding, never an exception."""
    findings = [_python(), _packages(), _device()]
    try:
        project = Project.find()
    except AdvalignError as error:
        return [*findings, Finding("project", "broken", str(error), "change into the project's folder")]
    checks: list[Callable[[Project], Finding]] = [
        _settings, _data, _responses, _maps, _stimuli, _evaluations, _store,
    ]  # fmt: skip
    return findings + [check(project) for check in checks]


def _python() -> Finding:
    found = sys.version.split()[0]
    right = sys.version_info[:2] == (3, 11)
    return Finding("python", "ok" if right else "broken", found, "" if right else "use Python 3.11")


def _packages() -> Finding:
    wrong = []
    for line in requires("advalign") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = "absent"
        if found == "absent" or not requirement.specifier.contains(found):
            wrong.append(f"{requirement.name} {found} (wanted {requirement.specifier})")
    if wrong:
        return Finding("packages", "broken", "; ".join(wrong), "pip install -r requirements.lock")
    return Finding("packages", "ok", "as pinned")


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("device", "ok", f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}")
    return Finding("device", "ok", f"CPU, {torch.get_num_threads()} threads; no GPU is visible")


def _settings(project: Project) -> Finding:
    try:
        settings = load_settings(project.root)
    except AdvalignError as error:
        return Finding("params.yaml", "broken", str(error), "fix the named key")
    found = f"{len(settings.trainings)} trainings, protocol {settings.evaluate.protocol}"
    return Finding("params.yaml", "ok", f"experiment {project.experiment}, {found}")


def _data(project: Project) -> Finding:
    tracked = (project.root / "data.dvc").is_file()
    if not project.data.is_dir():
        mend = "dvc pull data.dvc" if tracked else "advalign data import, then dvc add data"
        return Finding("data", "absent", "data/ is not there", mend)
    if not tracked:
        return Finding("data", "broken", "data/ is not versioned: there is no data.dvc", "dvc add data")
    md5 = data_md5(project.root)
    if md5 is None:
        return Finding("data", "broken", "data.dvc does not say which version data/ is", "dvc add data")
    try:
        same = folder_md5(project.data, project.digests) == md5
    except AdvalignError as error:
        return Finding("data", "broken", str(error), "dvc checkout data.dvc")
    if not same:
        return Finding("data", "broken", "data/ is not what data.dvc says", "dvc checkout data.dvc, or dvc add data")
    return Finding("data", "ok", "as data.dvc says")


def _responses(project: Project) -> Finding:
    from advalign.data.responses import ResponseStore, response_files

    told = []
    try:
        for path in response_files(project):
            told.append(f"{path.stem} ({ResponseStore.open(path).provenance})")
    except AdvalignError as error:
        return Finding("responses", "broken", str(error), "make that store again, or dvc checkout data.dvc")
    return Finding("responses", "ok", ", ".join(told) or "none")


def _maps(project: Project) -> Finding:
    from advalign.data.human_maps.make import SUMMARY, need_maps
    from advalign.data.participants import has_participants

    if not has_participants(project):
        return Finding("maps", "ok", "none: no trials in data/participants")
    if not (project.human_maps / SUMMARY).exists():
        return Finding("maps", "absent", "not made yet", "dvc repro maps")
    try:
        need_maps(project)
    except AdvalignError as error:
        return Finding("maps", "broken", str(error), "dvc repro -f maps")
    return Finding("maps", "ok", "outputs/maps")


def _stimuli(project: Project) -> Finding:
    if not (project.stimuli / "manifest.parquet").is_file():
        from advalign.data.sets.stimuli import has_stage

        try:
            if not has_stage(project):
                return Finding("stimuli", "ok", "none: no stage of this experiment makes them")
        except AdvalignError as error:
            return Finding("stimuli", "broken", str(error), "fix dvc.yaml")
        return Finding("stimuli", "absent", "not frozen yet", "dvc repro stimuli")
    return Finding("stimuli", "ok", "outputs/stimuli")


def _evaluations(project: Project) -> Finding:
    protocols = sorted({path.parent.name for path in project.evaluations.glob("*/*.json")})
    if not protocols:
        return Finding("evaluations", "absent", "none yet", "dvc repro, or advalign evaluate")
    return Finding("evaluations", "ok", ", ".join(protocols))


def _store(project: Project) -> Finding:
    from advalign.tracking.store import open_store, store_uri

    try:
        open_store(project)
    except AdvalignError as error:
        return Finding("tracking store", "broken", str(error), "check MLFLOW_TRACKING_URI, or move mlflow.db away")
    return Finding("tracking store", "ok", printable(store_uri(project)))
