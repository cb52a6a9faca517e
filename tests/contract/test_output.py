"""What commands print: whole names in tables of any width, whole remedies in messages, text in any locale."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from importlib.metadata import version

import pytest
import torch

from advalign.errors import InputError, quoted
from advalign.evaluation.campaign import Campaign
from advalign.training.world import choose_device
from tests.contract.test_cli import cli
from tests.pipeline.conftest import typed

NAME = "tf_efficientnet_b7.ns_jft_in1k_and_a_name_that_is_longer_than_a_terminal_is_wide.of_its_own"
TABLE = f"""
from advalign.cli._output import print_table
row = {{"model": {NAME!r}, "pt": 1.5, "why": "a sentence of many words " * 8}}
print_table([row], ["model", "pt", "why"], "a title")
"""


def printed_to(output, **variables):
    """Run a process that prints the table to a file or a terminal."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **variables}
    return subprocess.run([sys.executable, "-c", TABLE], stdout=output, env=environment, check=True, text=True)


@pytest.mark.parametrize("variables", [{}, {"FORCE_COLOR": "1", "COLUMNS": "80", "TERM": "xterm"}])
def test_a_table_in_a_pipe_has_one_line_for_each_row(variables):
    lines = printed_to(subprocess.PIPE, **variables).stdout.splitlines()
    (row,) = [line for line in lines if NAME in line]
    assert row.count("a sentence of many words") == 8
    assert len(lines) == 6  # title, blank, header, rule, row, blank


def test_a_table_in_a_narrow_terminal_breaks_lines_between_words_alone():
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    printed_to(theirs, TERM="xterm", NO_COLOR="1")
    os.close(theirs)
    lines = os.read(ours, 1 << 16).decode().splitlines()
    os.close(ours)
    assert sum(NAME in line for line in lines) == 1
    sentences = " ".join(" ".join(lines).replace(NAME, "").replace("1.500", "").split())
    assert sentences.count("a sentence of many words") == 8


def test_json_has_no_colours_and_the_version_is_told(sample_root, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    listed = typed(sample_root, "zoo", "list", "resnet18*", "--json")
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.startswith("[")
    assert "\x1b" not in listed.stdout
    assert cli("--version").stdout == f"advalign {version('advalign')}\n"


# messages

REMEDY = "please check that you have a GPU and install a driver from the vendor's page for the system"


def test_a_library_that_says_what_to_do_is_quoted_with_it(monkeypatch):
    def empty(*_, **__):
        raise RuntimeError(f"found no driver on your system; {'this is how it was looked for, ' * 9}{REMEDY}")

    monkeypatch.setattr(torch, "empty", empty)
    with pytest.raises(InputError) as caught:
        choose_device("cuda")
    assert str(caught.value).startswith("device 'cuda' cannot be used here: found no driver on your system; ")
    assert str(caught.value).endswith(REMEDY)


def test_a_message_loses_only_the_middle_of_what_it_quotes():
    assert quoted(RuntimeError(f"{'a size mismatch, ' * 500}{REMEDY}")).endswith(REMEDY)
    assert len(quoted(RuntimeError("x" * 10_000))) == 600
    own = InputError(f"{'/a/long/folder' * 100} is damaged: {REMEDY}")
    assert quoted(own, named=True) == f"InputError: {own}"


def test_the_recorded_failure_of_a_model_has_the_remedy():
    class Recorder:
        passes_per_model, line = 1, ""

        def passes(self, task):
            return 1

        def record_failure(self, name, line):
            self.line = line

    class Source:
        name, folder = "net", None

        def known(self):
            raise InputError(f"{'/a/long/folder' * 50} is damaged: {REMEDY}")

    evaluator = Recorder()
    (outcome,) = Campaign(evaluator, [Source()], lambda tasks: iter(list(tasks))).run()
    assert evaluator.line.endswith(REMEDY)
    assert outcome.error == evaluator.line


# locales


@pytest.mark.slow
def test_text_is_utf_8_in_a_locale_of_ascii(tmp_path):
    (tmp_path / "zoo.csv").write_text(
        "model,pt,aa,group,big_data\nmod\u00e8le,1.5,0.2,cnn,0\nb,2.5,0.1,cnn,0\n", encoding="utf-8"
    )
    ascii_only = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "advalign.cli.main", "compare", "--table", "zoo.csv", "--output", "out"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | ascii_only, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mod\\xe8le" in done.stdout
    assert "mod\u00e8le" in (tmp_path / "out" / "zoo.csv").read_text(encoding="utf-8")
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "\u03c1" in report
    assert "mod\u00e8le" in report or "mod\\u00e8le" in report
