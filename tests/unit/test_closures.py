"""What a closure takes in, on a small package whose right answer is plain; and both directions on the real one."""

from pathlib import Path

import pytest

from advalign.closures import Source, closure

FILES = {
    "attack.py": '''
"""An attack."""
import math
from advalign import helpers, steps as moves
from advalign.base import Attack
from advalign.constants import EPS, OTHER

class Search(Attack):
    """Searches."""

    def measure(self, model):
        """Look."""
        return moves.walk(model, helpers.half(EPS)) + math.pi

    def summarise(self, rows):
        return average(rows)

def average(rows):
    return sum(rows) / len(rows)
''',
    "base.py": """
from abc import ABC

class Attack(ABC):
    def run(self, model: "Model"):
        if model is None:
            raise ValueError(f"no model: {hint()}")
        return self.measure(model)

    def describe(self):
        return hint()

class Model:
    size: int = 3

def hint():
    return "a hint"
""",
    "helpers.py": "def half(x):\n    return x / 2\n\ndef double(x):\n    return x * 2\n",
    "steps.py": "def walk(model, x):\n    from advalign.lazy import late\n    return late(x)\n",
    "lazy.py": "import torch\n\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        return inner(x)\n\n"
    "def inner(x):\n    return x\n\ndef late(x):\n    return Net()(x)\n",
    "constants.py": "EPS = 0.1\nOTHER = 2\n",
}
ATTACKED = (
    "advalign.evaluation.tasks:run_task",
    "advalign.probes.minimum_norm:MinimumNormProbe",
    "advalign.attacks.fmn_fast:FastMinimumNormSearch",
)
ROOTS = ("advalign.attack:Search", "advalign.entry:run")
ENTRY = "from advalign.base import Attack\n\ndef run(attack: Attack):\n    return attack.run(3)\n"


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "advalign"
    folder.mkdir()
    for name, text in {**FILES, "entry.py": ENTRY, "__init__.py": ""}.items():
        (folder / name).write_text(text)
    return folder


def parts(package: Path, *roots: str) -> set[str]:
    return {name for name in Source(package.parent).closure(*roots).parts if name.startswith("advalign")}


def digest(package: Path) -> str:
    return Source(package.parent).closure(*ROOTS).digest


def change(package, file, old, new):
    text = (package / file).read_text()
    assert old in text
    (package / file).write_text(text.replace(old, new))


def test_it_holds_what_is_reached_and_nothing_else(package):
    prefix = "advalign."
    assert {name.removeprefix(prefix) for name in parts(package, *ROOTS)} == {
        "entry:run",
        "attack:Search",
        "attack:Search.measure",
        "base:Attack",
        "base:Attack.run",
        "base:Model",  # named as text, for a type
        "constants:EPS",
        "helpers:half",
        "steps:walk",
        "lazy:late",  # imported inside a function
        "lazy:Net",
        "lazy:inner",  # `forward` is called by the library
    }


def test_files_are_those_of_the_definitions(package):
    found = {path.name for path in Source(package.parent).closure(*ROOTS).files}
    assert found == {"entry.py", "attack.py", "base.py", "constants.py", "helpers.py", "steps.py", "lazy.py"}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("helpers.py", "x / 2", "x / 3"),
        ("constants.py", "EPS = 0.1", "EPS = 0.2"),
        ("lazy.py", "return x\n", "return x + 1\n"),
        ("base.py", "size: int = 3", "size: int = 4"),
        ("attack.py", "math.pi", "math.e"),
        ("attack.py", "import math", "import cmath as math"),
        ("base.py", "if model is None", "if model is not None"),
    ],
)
def test_a_change_in_reached_code_changes_the_digest(package, file, old, new):
    before = digest(package)
    change(package, file, old, new)
    assert digest(package) != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("attack.py", "sum(rows) / len(rows)", "max(rows)"),  # a summary
        ("attack.py", "return average(rows)", "return 0"),
        ("attack.py", '"""Look."""', '"""Looks for what the docstring says."""'),
        ("attack.py", "    def measure", "    # a comment\n\n    def measure"),
        ("helpers.py", "x * 2", "x * 3"),
        ("constants.py", "OTHER = 2", "OTHER = 3"),
        ("base.py", "a hint", "another hint"),
        ("base.py", "no model: ", "there is no model: "),  # what an error says
    ],
)
def test_a_change_elsewhere_does_not(package, file, old, new):
    before = digest(package)
    change(package, file, old, new)
    assert digest(package) == before


def test_a_new_file_changes_no_closure(package):
    before = digest(package)
    (package / "another.py").write_text("from advalign.base import Attack\n\nclass Another(Attack):\n    pass\n")
    assert digest(package) == before


def test_a_method_counts_once_somebody_uses_its_name(package):
    assert "advalign.base:Attack.describe" not in parts(package, *ROOTS)
    change(package, "entry.py", "attack.run(3)", "attack.run(attack.describe())")
    assert {"advalign.base:Attack.describe", "advalign.base:hint"} <= parts(package, *ROOTS)


def test_what_is_stopped_is_not_followed(package):
    source = Source(package.parent, stop=("advalign.lazy",))
    assert not [name for name in source.closure(*ROOTS).parts if "lazy" in name]


def test_an_unknown_root_is_a_defect(package):
    with pytest.raises(LookupError, match="Serach"):
        Source(package.parent).closure("advalign.attack:Serach")


def test_recursion_ends(package):
    (package / "ring.py").write_text("def a():\n    return b()\n\ndef b():\n    return a()\n")
    assert parts(package, "advalign.ring:a") == {"advalign.ring:a", "advalign.ring:b"}


def test_the_real_package_is_read_whole():
    found = closure(*ATTACKED)
    assert "advalign.attacks._boundary:nearest_on_hyperplane" in found.parts
    assert "advalign.attacks._budgets:BUDGETS" in found.parts
    assert not any(name.startswith(("advalign.errors", "advalign.attacks.fmn:")) for name in found.parts)
