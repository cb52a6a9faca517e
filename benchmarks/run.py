"""The benchmarks: ratios against named peers, measured in one process, the attacks taking turns.

make bench                                     # all of them; takes long, mostly for the peers' 1000 passes
python -m benchmarks.run attacks --images 12   # one section, fewer images

Every section writes outputs/benchmarks/SECTION.md; docs/benchmarks.md holds one measurement of each.
"""

import argparse
import platform
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version

import torch

from advalign.errors import AdvalignError
from advalign.files import Project, write_text
from benchmarks import (
    attacks,
    budgets,
    checks,
    corruptions,
    cost,
    guard,
    human_maps,
    linf,
    loading,
    numerics,
    panel,
    ranks,
    registry,
    training,
    trajectories,
)
from benchmarks._victims import LINF, Victim, cifar_victims, real_victim, sample_victims


def sections(
    project: Project, images: int, real_images: int, map_images: int
) -> dict[str, Callable[[], Iterator[str]]]:
    """Name -> what measures it; nothing is loaded before it is asked for."""
    figure, ways = (project.root / f"outputs/benchmarks/{name}.png" for name in ("budgets", "trajectories"))
    return {
        "ranks": ranks.report,
        "human-maps": lambda: human_maps.report(map_images),
        "training": training.report,
        "loading": loading.report,
        "registry": lambda: registry.report(project),
        "checks": lambda: checks.report(project),
        "cost": lambda: cost.report(project),
        "corruptions": lambda: corruptions.report(2 * images),
        "numerics": lambda: numerics.report(sample_victims(project, images)),
        "guard": lambda: guard.report(sample_victims(project, images // 4)),
        "attacks": lambda: attacks.report(sample_victims(project, images)),
        "real": lambda: attacks.report_real(real_victim(project), real_images),
        "linf": lambda: linf.report(_linf_victims(project, images), ways.with_name("linf.png")),
        "panel-development": lambda: panel.development(project, images),
        "panel-test": lambda: panel.test(project, images),
        "trajectories": lambda: trajectories.report(real_victim(project, "tf_efficientnet_lite0"), images, ways),
        "budgets": lambda: budgets.report(sample_victims(project, images // 2), figure),
    }


def _linf_victims(project: Project, images: int) -> list[Victim]:
    victims = [*cifar_victims(project, LINF), *sample_victims(project, images)]
    return [victim.first(images) for victim in victims if victim.name in linf.EPS]


def main() -> None:
    """Run the sections that are named, or all."""
    project = Project.find()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Ratios against named peers.")
    parser.add_argument("section", nargs="*", help=", ".join(sections(project, 1, 1, 0)) + "; default: all")
    parser.add_argument("--images", type=int, default=48, help="stimuli per sample model (default 48)")
    parser.add_argument("--real-images", type=int, default=12, help="real images for slow attacks (default 12)")
    parser.add_argument("--map-images", type=int, default=200, help="images of human-maps, of 50 trials (default 200)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    known = sections(project, wanted.images, wanted.real_images, wanted.map_images)
    for name in wanted.section or known:
        if name not in known:
            parser.error(f"unknown section {name!r}: one of {', '.join(known)}")
    print(
        f"{platform.machine()}, {wanted.threads} threads, Python {platform.python_version()}, torch {version('torch')}"
    )
    for name in wanted.section or known:
        parts = []
        for part in known[name]():
            print(part, flush=True)
            parts.append(part)
        write_text(project.root / f"outputs/benchmarks/{name}.md", "\n".join(parts))


if __name__ == "__main__":
    try:
        main()
    except AdvalignError as error:
        sys.exit(f"error: {error}")
