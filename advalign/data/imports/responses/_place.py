"""Writing an imported store: session by session, resumed after an interruption, checked before it is in its place."""

import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from advalign.data.imports._place import only_import, settled, staged
from advalign.data.imports.responses._images import ImageFacts, known_images
from advalign.data.imports.responses._parts import add_source, blocks_of, key_of, read_part, silent_units
from advalign.data.imports.responses._plan import Plan
from advalign.data.reliability import reliability, unreliable
from advalign.data.response_format import check_provenance
from advalign.data.response_writer import About, write_ceilings, writing_responses
from advalign.data.responses import ResponseStore, response_file
from advalign.errors import DataError
from advalign.files import Project, sha256
from advalign.progress import Advance


@dataclass(frozen=True)
class Order:
    """What a user asks of an import, of any layout.

    Attributes:
        name: of the store.
        provenance: measured, simulated or predicted.
        facts: what is known of the images.
        replace: whether a store with other content may be replaced.
        force: keep responses whose repeats agree in no area.
        leave_out_silent: leave out units that have no response in a session, or always the same one.
    """

    name: str
    provenance: str = "measured"
    facts: ImageFacts = field(default_factory=ImageFacts)
    replace: bool = False
    force: bool = False
    leave_out_silent: bool = False


@dataclass(frozen=True)
class ResponsesImport:
    """What was imported.

    Attributes:
        areas: subject and roi -> units, or matrices.
        known_files: images whose SHA-256 is known.
        left_out: units that were silent.
        resumed: sessions that an interrupted import had read already.
        skipped: the store was there with the same bytes.
        unreliable: areas whose reliability is not above zero.
        told: what the user should know, in sentences.
    """

    name: str
    provenance: str
    normalisation: str
    images: int
    known_files: int
    trials: int
    sessions: int
    matrices: int
    areas: dict[str, int]
    left_out: int
    resumed: int
    skipped: bool
    unreliable: list[str]
    told: list[str]

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def place(
    project: Project, order: Order, plan: Plan, advance: Advance = lambda done, total, note="": None
) -> ResponsesImport:
    """Read the responses of a plan and write them to data/responses/NAME.h5.

    Args:
        project: where data/ is.
        order: what is asked.
        plan: of a layout.
        advance: called after every session.

    Raises:
        InputError: a file cannot be used, a unit is silent, or repeats agree in no area. Nothing is changed then;
            sessions that were read stay in outputs/ for the next try.
    """
    target = response_file(project, order.name)
    check_provenance(order.provenance, order.name)
    plan = _with_images(plan, order.facts)
    if target.exists() and not order.replace:
        _check_same(target, plan, order)
    parts = project.root / "outputs" / ".responses" / order.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with only_import(project, target.parent), staged(target, order.replace) as path:
        left_out, resumed = _write(path, plan, parts, order, advance)
        store, weak = _rated(path, plan, order.force)
        same = settled(path, target, order.replace)
    shutil.rmtree(parts, ignore_errors=True)
    return _summary(order.name, store, left_out, resumed, same, weak, plan.told)


def _summary(
    name: str, store: ResponseStore, left_out: int, resumed: int, skipped: bool, unreliable: list[str], told: list[str]
) -> ResponsesImport:
    return ResponsesImport(
        name=name,
        provenance=store.provenance,
        normalisation=store.normalisation,
        images=len(store.images),
        known_files=int((store.images["sha256"] != "").sum()),
        trials=len(store.trials),
        sessions=int(store.trials["session"].nunique()),
        matrices=len(store.matrices),
        areas={f"{subject} {roi}".strip(): count for (subject, roi), count in store.areas.items()},
        left_out=left_out,
        resumed=resumed,
        skipped=skipped,
        unreliable=unreliable,
        told=told,
    )


def _with_images(plan: Plan, facts: ImageFacts) -> Plan:
    """The plan with what else is known of its images."""
    if facts == ImageFacts():
        return plan
    images, files = known_images(plan.images["id"].tolist(), facts)
    return replace(plan, images=images, files=[*plan.files, *files])


def _check_same(target: Path, plan: Plan, order: Order) -> None:
    """Refuse to read for hours what will not be the store that is there; what is left is found when it is read."""
    there = ResponseStore.open(target)
    known = plan.images["id"].tolist() == there.images["id"].tolist()
    if not known or (there.normalisation, there.provenance) != (plan.normalisation, order.provenance):
        raise DataError(f"{target} exists with other content: move it away, or give --replace")


def _write(path: Path, plan: Plan, folder: Path, order: Order, advance: Advance) -> tuple[int, int]:
    """Write the store; returns how many units were left out and how many sessions were there from an earlier try."""
    sources: dict[str, str] = {}
    for file in plan.files:
        add_source(sources, file, sha256(file))
    key = key_of(plan)
    parts = []
    for number, session in enumerate(plan.sessions):
        parts.append(read_part(folder / f"{number:04d}.h5", session, key))
        sources |= parts[-1].sources
        advance(number + 1, len(plan.sessions), session.name)
    silent = silent_units(parts) if parts else np.zeros(len(plan.units), bool)
    if silent.any():
        _check_silent(plan, silent, order.leave_out_silent)
    about = About(order.provenance, plan.normalisation, plan.description, sources)
    with writing_responses(path, about, plan.images, plan.units[~silent]) as writer:
        for condensed, subject, roi in plan.matrices:
            writer.add_rdm(condensed, subject, roi)
        for number, part in enumerate(parts):
            for block in blocks_of(part):
                when = number if block.session is None else block.session
                writer.add_trials(block.image, block.betas[:, ~silent], block.split, when)
    return int(silent.sum()), sum(part.resumed for part in parts)


def _check_silent(plan: Plan, silent: Any, leave_out: bool) -> None:
    first = int(silent.argmax())
    roi = plan.units["roi"].iloc[first]
    if not leave_out:
        raise DataError(
            f"{plan.sessions[0].files[0]}: {int(silent.sum())} of {len(silent)} units have no response in a session "
            f"(NaN), or the same in all trials; the first is unit {first} ({roi}): --leave-out-silent leaves them out"
        )
    if silent.all():
        raise DataError(f"{plan.sessions[0].files[0]}: no unit responds: is this the file that was meant?")


def _rated(path: Path, plan: Plan, force: bool) -> tuple[ResponseStore, list[str]]:
    """The written store with the ceilings of its units, and which areas are not reliable."""
    store = ResponseStore.open(path)
    if not len(store.trials):
        return store, []
    areas, ceilings = reliability(store)
    repeated = ~np.isnan(ceilings)
    if repeated.any():
        write_ceilings(path, np.where(repeated, ceilings, store.units["noise_ceiling"].to_numpy()))
    known = [one for one in areas if one.above_zero is not None]
    if known and not any(one.above_zero for one in known) and not force:
        best = max(known, key=lambda one: float(np.nan_to_num(one.split_half, nan=-1)))
        raise DataError(
            f"{plan.sessions[0].files[0]}: repeats of an image agree in no area (split-half at most "
            f"{best.split_half:.3f}, {best.roi}): is the order of trials that of the images? --force imports anyway"
        )
    return ResponseStore.open(path), unreliable(areas)
