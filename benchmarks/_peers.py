"""Attacks of this project and of other libraries: functions from (classifier, groups, images, labels) to images."""

import sys
import types
from collections.abc import Callable

from torch import Tensor, nn

from advalign.evaluation.protocols import protocol
from advalign.models.stand_in import Precision, stand_in
from advalign.models.superclasses import GroupedClassifier

FOOLBOX = "Foolbox L2FMNAttack, 1000 (as Feng et al.)"

Run = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


def ours(name: str, precision: Precision | None = "float32") -> Run:
    """One of our protocols as the evaluation runs it; precision None leaves the stand-in out."""

    def run(classifier: nn.Module, groups: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        search = stand_in(classifier, images[:8], precision) if precision else None
        attack = protocol(name).attack
        return attack.run(classifier, images, labels, groups=groups, search=search).adversarials

    return run


def grouped(attack: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> Run:
    """An attack on a module with one output per decision."""

    def run(classifier: nn.Module, groups: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        return attack(GroupedClassifier(classifier, groups.tolist()).eval(), images, labels)

    return run


def peers() -> dict[str, Run]:
    """Minimum-norm l2 attacks of Foolbox 3.3.4, adv-lib and torchattacks: their own settings but for the budget."""
    sys.modules.setdefault("visdom", types.ModuleType("visdom"))  # adv-lib imports it for plots that are not drawn
    import adv_lib.attacks
    import foolbox
    import torchattacks

    def from_foolbox(attack: foolbox.Attack) -> Run:
        def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
            wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
            found: Tensor = attack(wrapped, images, labels, epsilons=None)[0]
            return found

        return grouped(run)

    released = foolbox.attacks.L2FMNAttack(steps=1000, max_stepsize=1.0, min_stepsize=1e-5, gamma=10)
    fmn = adv_lib.attacks.fmn
    return {
        FOOLBOX: from_foolbox(released),
        "Foolbox DDNAttack, 1000": from_foolbox(foolbox.attacks.DDNAttack(steps=1000)),
        "adv-lib fmn, 1000": grouped(lambda m, x, y: fmn(m, x, y, norm=2, steps=1000, α_final=1e-5)),
        "adv-lib ddn, 1000": grouped(lambda m, x, y: adv_lib.attacks.ddn(m, x, y, steps=1000, levels=None)),
        "adv-lib sdf (SuperDeepFool)": grouped(lambda m, x, y: adv_lib.attacks.sdf(m, x, y)),
        "torchattacks DeepFool, 50": grouped(lambda m, x, y: torchattacks.DeepFool(m, steps=50)(x, y)),
        "torchattacks CW, 1000": grouped(lambda m, x, y: torchattacks.CW(m, c=1, steps=1000)(x, y)),
    }
