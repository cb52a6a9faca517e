"""The attacked decision with its meter: the only way for an attack to query the model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from advalign.tensors.norms import NORMS, Norm

Logits = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Logits (M, K), classes of the right decision and classes looked at, both (M, K) bool -> values (M,)."""
Answer = TypeVar("Answer")


class Step(NamedTuple):
    """Answers about M points.

    Attributes:
        smooth: (M,) the smooth margin.
        margin: (M,) of the decision: negative means adversarial.
        gradient: (M, ...) of the smooth margin, in the points' type.
        rival: (M,) int64: of the classes that the smooth margin looks at, the one with the largest logit.
    """

    smooth: Tensor
    margin: Tensor
    gradient: Tensor
    rival: Tensor


class Slope(NamedTuple):
    """A loss at M points.

    Attributes:
        loss: (M,) its values.
        margin: (M,) of the decision: negative means adversarial.
        gradient: (M, ...) of the loss, in the points' type.
    """

    loss: Tensor
    margin: Tensor
    gradient: Tensor


class Oracle:
    """Answers margins and gradients of a decision, and counts queries.

    A decision is a group of classes; its logit is the largest of its classes' (docs/methods.md, section Decision).
    Without groups every class is a decision of its own.

    Args:
        logits: (N, ...) in [0, 1] -> (N, K); the judge: this function, in float32, decides what is right or wrong.
        inputs: (N, ...) the clean images.
        labels: (N,) the right decisions.
        groups: (K,) the decision that each class belongs to, or None.
        search: a cheaper stand-in for `logits` (lower precision) that a search may step along; never the judge.
        batch_size: the most images in one pass (None: no limit); halved for good when memory runs out.
        norm: that `largest_tried` is measured in.

    Attributes:
        queries, largest_tried, second_start, audit: (N,) as in `AttackResult`; the search itself tells the last two.
    """

    def __init__(
        self,
        logits: Logits,
        inputs: Tensor,
        labels: Tensor,
        *,
        groups: Tensor | None = None,
        search: Logits | None = None,
        batch_size: int | None = None,
        norm: Norm = "l2",
    ) -> None:
        self._logits, self._search = logits, search
        self.inputs, self.labels = inputs, labels
        self._groups, self._norm = groups, NORMS[norm]
        self.batch_size = batch_size
        self.queries = torch.zeros_like(labels)
        self.largest_tried = torch.zeros(len(labels), dtype=torch.float64, device=inputs.device)
        self.second_start = torch.full_like(self.largest_tried, torch.nan)
        self.audit = torch.full_like(self.largest_tried, torch.nan)

    @property
    def judge_steps(self) -> bool:
        """Whether `step` queries the judge itself, so that its adversarial points need no check."""
        return self._search is None

    @cached_property
    def clean_logits(self) -> Tensor:
        """Logits (N, K) of the clean images, computed once."""
        return self.class_logits(self.inputs, torch.arange(len(self.inputs), device=self.inputs.device))

    def class_logits(self, points: Tensor, index: Tensor) -> Tensor:
        """Logits (M, K) of points (M, ...) in [0, 1] that belong to the inputs `index` (M,); one query per point."""
        self._count(points, index)
        with torch.no_grad(), full_float32():
            return torch.cat(self._in_parts(len(points), lambda part: self._logits(points[part])))

    def margin(self, points: Tensor, index: Tensor) -> Tensor:
        """The right decision's logit minus the largest other one, (M,); negative means adversarial."""
        logits = self.class_logits(points, index)
        return margins(logits, self.own(index, logits))

    def is_adversarial(self, points: Tensor, index: Tensor) -> Tensor:
        """(M,) bool, from a plain forward pass of the judge."""
        return self.margin(points, index) < 0

    def margin_and_gradient(self, points: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """The judge's margin (M,) and its gradient with respect to the points (M, ...)."""
        with full_float32():
            found = self._differentiate(self._logits, points, index, points.new_zeros(len(points)), None)
        return found.margin, found.gradient

    def step(
        self, points: Tensor, index: Tensor, temperatures: Tensor, rivals: Tensor | None = None, *, judge: bool = False
    ) -> Step:
        """Query the search model (the judge if there is none, or with `judge`).

        Args:
            points: (M, ...) images in [0, 1].
            index: (M,) int64: which input each point belongs to.
            temperatures: (M,) in logits: how smooth the margin is (`softened`).
            rivals: (M, K) bool: the classes of other decisions that the smooth margin looks at; None: all of them.
        """
        if self._search is not None and not judge:
            return self._differentiate(self._search, points, index, temperatures, rivals)
        with full_float32():
            return self._differentiate(self._logits, points, index, temperatures, rivals)

    def climb(self, loss: Loss, points: Tensor, index: Tensor, looked_at: Tensor | None = None) -> Slope:
        """Any loss of the judge's logits, and its gradient with respect to the points.

        Args:
            loss: of logits in float32; what is to grow.
            points: (M, ...) images in [0, 1].
            index: (M,) int64: which input each point belongs to.
            looked_at: (M, K) bool: the classes of other decisions that the loss looks at; None: all of them.
        """

        def work(part: slice) -> Slope:
            leaf = points[part].detach().requires_grad_(True)
            with torch.enable_grad():
                found = self._logits(leaf)
                found = found.to(torch.promote_types(found.dtype, torch.float32))
                own = self.own(index[part], found)
                values = loss(found, own, ~own if looked_at is None else looked_at[part])
                (gradient,) = torch.autograd.grad(values.sum(), leaf)
            return Slope(values.detach(), margins(found.detach(), own).to(leaf), gradient.contiguous())

        self._count(points, index)
        with full_float32():
            return Slope(*map(torch.cat, zip(*self._in_parts(len(points), work), strict=True)))

    def own(self, index: Tensor, logits: Tensor) -> Tensor:
        """(M, K) bool: the classes of the right decision, for logits (M, K)."""
        return self.groups(logits)[None] == self.labels[index][:, None]

    def decide(self, logits: Tensor) -> Tensor:
        """Decisions (M,) of class logits (M, K)."""
        return self.groups(logits)[logits.argmax(1)]

    def groups(self, logits: Tensor) -> Tensor:
        """The decision of every class, (K,)."""
        if self._groups is None:
            self._groups = torch.arange(logits.shape[1], device=logits.device)
        return self._groups

    def _differentiate(
        self, logits: Logits, points: Tensor, index: Tensor, temperatures: Tensor, rivals: Tensor | None
    ) -> Step:
        def work(part: slice) -> Step:
            leaf = points[part].detach().requires_grad_(True)
            with torch.enable_grad():
                found = logits(leaf)
                found = found.to(torch.promote_types(found.dtype, torch.float32))
                own = self.own(index[part], found)
                seen = ~own if rivals is None else rivals[part]
                smooth = softened(found, own, seen, temperatures[part])
                (gradient,) = torch.autograd.grad(smooth.sum(), leaf)
            plain = found.detach()
            rival = plain.masked_fill(~seen, -torch.inf).argmax(1)
            return Step(smooth.detach().to(leaf), margins(plain, own).to(leaf), gradient.contiguous(), rival)

        self._count(points, index)
        return Step(*map(torch.cat, zip(*self._in_parts(len(points), work), strict=True)))

    def _in_parts(self, count: int, work: Callable[[slice], Answer]) -> list[Answer]:
        """Answers for slices of at most `batch_size`, which shrinks when the device runs out of memory."""
        answers: list[Answer] = []
        done = 0
        while done < count or not answers:
            size = min(count - done, self.batch_size or count)
            try:
                answers.append(work(slice(done, done + size)))
                done += size
                continue
            except torch.OutOfMemoryError:
                if size <= 1:
                    raise
            self.batch_size = size // 2  # outside the handler, whose traceback keeps the failed pass alive
            torch.cuda.empty_cache()
        return answers

    def _count(self, points: Tensor, index: Tensor) -> None:
        norms = self._norm(points.detach() - self.inputs[index]).double().nan_to_num(0.0)
        self.queries.index_add_(0, index, torch.ones_like(index))  # an input may have several points in one batch
        self.largest_tried.scatter_reduce_(0, index, norms, "amax")


def margins(logits: Tensor, own: Tensor) -> Tensor:
    """Largest logit of the right decision's classes minus the largest of all others, (M,).

    Args:
        logits: (M, K).
        own: (M, K) bool, the classes of the right decision.
    """
    return logits.masked_fill(~own, -torch.inf).amax(1) - logits.masked_fill(own, -torch.inf).amax(1)


def softened(logits: Tensor, own: Tensor, rivals: Tensor, temperatures: Tensor) -> Tensor:
    """The margin with T log sum exp(logits / T) in place of each largest logit, (M,); the largest itself for T = 0.

    Args:
        logits: (M, K).
        own: (M, K) bool, the classes of the right decision.
        rivals: (M, K) bool, classes of other decisions.
        temperatures: (M,), at least 0, in logits.
    """
    scale = torch.where(temperatures > 0, temperatures, 1.0).to(logits)
    sides = []
    for side in (own, rivals):
        inside = logits.masked_fill(~side, -torch.inf)
        smooth = scale * torch.logsumexp(inside / scale[:, None], 1)
        sides.append(torch.where(temperatures > 0, smooth, inside.amax(1)))
    return sides[0] - sides[1]


@contextmanager
def full_float32() -> Iterator[None]:
    """Keep GPUs from rounding float32 products to TF32's ten bits inside the block."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
