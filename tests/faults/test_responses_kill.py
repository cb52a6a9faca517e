"""SIGKILL at three moments of an import of brain responses: run again, it ends in the bytes of an undisturbed one."""

import os
import signal
from multiprocessing import get_context

import pytest

from advalign.data.imports.responses import _parts, _place
from advalign.data.imports.responses._place import Order, place
from advalign.data.imports.responses.nsd import NsdFiles, plan_nsd
from advalign.data.responses import need_responses
from advalign.files import Project
from tests.responses import write_nsd


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def half_a_session(file, session):
    """Write a part as it is, but die before that of the second session is whole."""
    WRITE(file, session)
    if session.name == "session 2":
        file.flush()
        die()


WRITE = _parts._write
MOMENTS = {
    "in a session": (_parts, "_write", half_a_session, 1),
    "while the store is written": (_place, "blocks_of", die, 2),
    "before it is in its place": (_place, "_rated", die, 2),
}
"""Where -> what is replaced by what kills, and how many sessions the next import finds read."""


def plan(source):
    return plan_nsd(NsdFiles(source, source / "nsd_expdesign.mat", [source / "prf-visualrois.nii.gz"]), 1, sessions=2)


def killed(root, source, moment):
    """What a process runs that is to die."""
    module, name, kill, _ = MOMENTS[moment]
    setattr(module, name, kill)
    place(Project(root), Order("lab"), plan(source))


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_run_again_is_undisturbed(moment, tmp_path):
    write_nsd(tmp_path / "nsd")
    stores = []
    for folder in ("calm", "killed"):
        project = Project(tmp_path / folder)
        project.data.mkdir(parents=True)
        if folder == "killed":
            process = get_context("spawn").Process(target=killed, args=(project.root, tmp_path / "nsd", moment))
            process.start()
            process.join(120)
            assert process.exitcode == -signal.SIGKILL
            assert not list((project.data / "responses").glob("*.h5"))
        done = place(project, Order("lab"), plan(tmp_path / "nsd"))
        assert done.resumed == (MOMENTS[moment][-1] if folder == "killed" else 0) and not done.skipped
        assert [path.name for path in (project.data / "responses").iterdir()] == ["lab.h5"]
        assert not (project.root / "outputs" / ".responses" / "lab").exists()
        stores.append(need_responses(project, "lab").read_bytes())
    assert stores[0] == stores[1]
