"""Environments: streams of losses, fixed in advance or chosen against the learner."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from mdtheory.checks import (
    require_extra,
    require_finite,
    require_number,
    require_same_kind,
    require_shape,
    require_tensor,
    require_values,
)
from mdtheory.convex.mirror_maps import Ball, Box, Domain, Simplex
from mdtheory.convex.online_learning.comparators import best_of_linear_forms

# A solver's loss may exceed the least one by this share of what the losses vary by.
GAP = 1e-7


class Losses(ABC):
    r"""A stream of losses that does not depend on the decisions.

    It is an environment for :func:`play`: called with a round (from 1) and a decision it gives
    the loss and the gradient there.

    Attributes:
        rounds: the number of rounds that the stream has.
    """

    rounds: int

    @abstractmethod
    def __call__(self, round_: int, decision: Tensor) -> tuple[Tensor, Tensor]:
        """Loss :math:`f_t(x)`, shape ``(...)``, and gradient, shape ``(..., d)``.

        Args:
            round_: the round ``t``, from 1.
            decision: the point ``x``, shape ``(..., d)``.
        """

    @abstractmethod
    def loss_at(self, comparator: Tensor, rounds: int) -> Tensor:
        r"""Loss of a fixed point, :math:`\sum_{t\le T} f_t(u)`.

        Args:
            comparator: the point ``u``, of a shape that broadcasts with ``(..., d)``.
            rounds: how many rounds ``T`` count.

        Returns:
            Values of shape ``(...)``.
        """

    @abstractmethod
    def best_comparator(self, domain: Domain, rounds: int | None = None) -> Tensor:
        r"""The fixed point of a domain with the smallest loss in hindsight.

        Args:
            domain: where the comparator may lie.
            rounds: how many rounds count; all if ``None``.

        Returns:
            A minimiser of :math:`\sum_{t\le T} f_t(u)`, shape ``(..., d)``.
        """


class LinearLosses(Losses):
    r"""Linear losses :math:`f_t(x) = \langle\ell_t, x\rangle`.

    Args:
        losses: :math:`\ell_t`, shape ``(T, ..., d)``.

    Raises:
        TypeError: ``losses`` is no floating-point tensor.
        ValueError: a wrong shape or no round. A NaN or an infinity is refused where it is played.
    """

    def __init__(self, losses: Tensor) -> None:
        self.losses = _stream("losses", losses)
        self.rounds = losses.shape[0]

    def __call__(self, round_: int, decision: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient; see :class:`Losses`."""
        gradient = self.losses[round_ - 1].clone()
        return (gradient * decision).sum(-1), gradient

    def loss_at(self, comparator: Tensor, rounds: int) -> Tensor:
        """Loss of a fixed point; see :class:`Losses`."""
        return (self.losses[:rounds].sum(0) * comparator).sum(-1)

    def best_comparator(self, domain: Domain, rounds: int | None = None) -> Tensor:
        """Best fixed point, ``domain.minimize_linear`` of the summed losses."""
        return domain.minimize_linear(self.losses[:rounds].sum(0))


class QuadraticLosses(Losses):
    r"""Quadratic losses :math:`f_t(x) = \frac{\lambda}{2}\|x - z_t\|_2^2`.

    They are :math:`\lambda`-strongly convex, the example of ``thm-strongly-convex``.

    Args:
        targets: :math:`z_t`, shape ``(T, ..., d)``.
        curvature: :math:`\lambda > 0`.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a wrong shape, a NaN, no round, or a curvature that is not positive.
    """

    def __init__(self, targets: Tensor, curvature: float = 1.0) -> None:
        self.targets = _stream("targets", targets)
        require_finite("targets", targets)
        self.curvature = require_number("curvature", curvature, 0.0, strict=True)
        self.rounds = targets.shape[0]

    def __call__(self, round_: int, decision: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient; see :class:`Losses`."""
        offset = decision - self.targets[round_ - 1]
        return self.curvature / 2 * (offset * offset).sum(-1), self.curvature * offset

    def loss_at(self, comparator: Tensor, rounds: int) -> Tensor:
        """Loss of a fixed point; see :class:`Losses`."""
        targets = self.targets[:rounds]
        centre = targets.mean(0)
        spread = ((targets - centre) ** 2).sum(-1).sum(0)
        near = ((comparator - centre) ** 2).sum(-1)
        return self.curvature / 2 * (spread + rounds * near)

    def best_comparator(self, domain: Domain, rounds: int | None = None) -> Tensor:
        """Best fixed point: the projection of the mean target."""
        return domain.project(self.targets[:rounds].mean(0))


class LogisticLosses(Losses):
    r"""Logistic losses :math:`f_t(x) = \log(1 + \exp(-y_t\langle a_t, x\rangle))`.

    On points with :math:`|\langle a_t, x\rangle| \le b` they are :math:`e^{-b}`-exp-concave.

    Args:
        features: :math:`a_t`, shape ``(T, ..., d)``.
        labels: :math:`y_t`, each 1 or -1, shape ``(T, ...)``.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a wrong shape, a NaN, no round, or a label that is neither 1 nor -1.
    """

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        _stream("features", features)
        require_finite("features", features)
        require_tensor("labels", labels)
        require_shape("labels", labels, tuple(features.shape[:-1]))
        require_same_kind("labels", labels, "features", features)
        require_values("labels", labels, labels.abs() == 1, "labels 1 and -1")
        self.signed = features * labels[..., None]
        self.rounds = features.shape[0]

    def __call__(self, round_: int, decision: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient; see :class:`Losses`."""
        signed = self.signed[round_ - 1]
        margin = (signed * decision).sum(-1)
        slope = -torch.sigmoid(-margin)
        return torch.nn.functional.softplus(-margin), slope[..., None] * signed

    def loss_at(self, comparator: Tensor, rounds: int) -> Tensor:
        """Loss of a fixed point; see :class:`Losses`."""
        margins = (self.signed[:rounds] * comparator).sum(-1)
        return torch.nn.functional.softplus(-margins).sum(0)

    def best_comparator(self, domain: Domain, rounds: int | None = None) -> Tensor:
        """Best fixed point, certified; see :func:`best_of_linear_forms`.

        Raises:
            TypeError: a domain that is not known here.
            ArithmeticError: the best point found is not certified.
        """

        def terms(margin: Tensor) -> tuple[Tensor, Tensor]:
            slope = torch.sigmoid(-margin)
            return -slope, slope * torch.sigmoid(margin)

        return best_of_linear_forms(self.signed[:rounds], terms, domain)


class PortfolioLosses(Losses):
    r"""Losses of an investor, :math:`f_t(x) = -\log\langle r_t, x\rangle`; 1-exp-concave.

    The sum of the losses is minus the logarithm of the wealth that one unit of money becomes.

    Args:
        relatives: :math:`r_t > 0`, price of a day over that of the day before, ``(T, ..., d)``.
        tangent: give the gradient's part along the simplex, :math:`g - \bar g`, which has the
            same inner products with differences of portfolios and is shorter.

    Raises:
        TypeError: ``relatives`` is no floating-point tensor.
        ValueError: a wrong shape, no round, or a relative that is not positive and finite.
    """

    def __init__(self, relatives: Tensor, *, tangent: bool = False) -> None:
        self.relatives = _stream("relatives", relatives)
        positive = (relatives > 0) & relatives.isfinite()
        require_values("relatives", relatives, positive, "positive finite values")
        self.tangent = tangent
        self.rounds = relatives.shape[0]

    def __call__(self, round_: int, decision: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient; see :class:`Losses`."""
        relatives = self.relatives[round_ - 1]
        growth = (relatives * decision).sum(-1)
        gradient = -relatives / growth[..., None]
        if self.tangent:
            gradient = gradient - gradient.mean(-1, keepdim=True)
        return -growth.log(), gradient

    def loss_at(self, comparator: Tensor, rounds: int) -> Tensor:
        """Loss of a constant rebalanced portfolio; see :class:`Losses`."""
        return -(self.relatives[:rounds] * comparator).sum(-1).log().sum(0)

    def best_comparator(self, domain: Domain, rounds: int | None = None) -> Tensor:
        """Best constant rebalanced portfolio, by cvxpy for one play after the other.

        Raises:
            ImportError: cvxpy is not installed (extra ``notebooks``).
            TypeError: a domain that is not known here.
            ArithmeticError: the solver's point is not certified to be best.
        """

        def objective(cvxpy, point, play):  # type: ignore[no-untyped-def]
            return -cvxpy.sum(cvxpy.log(play @ point))

        def slopes(relatives: Tensor, point: Tensor) -> Tensor:
            return -relatives / (relatives * point).sum(-1, keepdim=True)

        # In units in which the best stock of a day is 1: constants change no comparator.
        relatives = self.relatives[:rounds]
        relatives = relatives / relatives.amax(-1, keepdim=True)
        return _solved(relatives, domain, objective, slopes)


class Adversary:
    r"""Linear losses chosen against the learner: :math:`\ell_t` is a rule of :math:`x_t`.

    Args:
        rule: from the round, the decision ``(..., d)`` and the sum of the losses so far
            ``(..., d)`` to the next loss ``(..., d)``.
    """

    def __init__(self, rule: Callable[[int, Tensor, Tensor], Tensor]) -> None:
        self.rule = rule
        self._total: Tensor | None = None

    def __call__(self, round_: int, decision: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient at the decision.

        Args:
            round_: the round, from 1; round 1 begins a new play.
            decision: shape ``(..., d)``.

        Returns:
            Loss ``(...)`` and gradient ``(..., d)``.
        """
        if round_ == 1 or self._total is None:
            self._total = torch.zeros_like(decision)
        gradient = self.rule(round_, decision, self._total.clone())
        self._total = self._total + gradient
        return (gradient * decision).sum(-1), gradient


def punish_heaviest(round_: int, decision: Tensor, total: Tensor) -> Tensor:
    """A rule for :class:`Adversary` on the simplex: loss 1 where the learner put most weight.

    Args:
        round_: the round, without effect.
        decision: shape ``(..., d)``.
        total: the losses so far, without effect.

    Returns:
        One unit vector for each play, shape ``(..., d)``.
    """
    heaviest = decision.argmax(-1, keepdim=True)
    return torch.zeros_like(decision).scatter(-1, heaviest, 1.0)


def push_sideways(round_: int, decision: Tensor, total: Tensor) -> Tensor:
    r"""A rule for :class:`Adversary` on a ball: a unit loss across decision and history.

    It is orthogonal to :math:`x_t` and, where :math:`d > 2` allows it, to
    :math:`\sum_{s<t}\ell_s`, so the learner loses nothing and the best comparator gains
    :math:`\sqrt T`: the lower bound for gradient descent.

    Args:
        round_: the round; it picks the coordinate from which the direction is made.
        decision: shape ``(..., d)``.
        total: the losses so far, shape ``(..., d)``.

    Returns:
        Unit vectors, shape ``(..., d)``; zero where no direction is left.
    """
    direction = torch.zeros_like(decision)
    direction[..., round_ % decision.shape[-1]] = 1
    for _ in range(2):  # twice, so that rounding leaves nothing
        first = _unit(decision)
        second = _unit(total - (total * first).sum(-1, keepdim=True) * first)
        for axis in (first, second):
            direction = direction - (direction * axis).sum(-1, keepdim=True) * axis
    return _unit(direction)


def _unit(x: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.where(length > 1e-12, x / length, torch.zeros_like(x))


def _stream(name: str, value: Tensor) -> Tensor:
    require_tensor(name, value)
    if value.ndim < 2 or value.shape[0] == 0:
        raise ValueError(
            f"{name}: expected shape (T, ..., d) with at least one round, got {tuple(value.shape)}"
        )
    return value


def _solved(plays: Tensor, domain: Domain, objective, slopes) -> Tensor:  # type: ignore[no-untyped-def]
    """Minimisers of a convex objective over a domain, one cvxpy problem for each play."""
    cvxpy = require_extra("cvxpy", "notebooks")
    batch, dimension = plays.shape[1:-1], plays.shape[-1]
    points = []
    for play in plays.reshape(plays.shape[0], -1, dimension).unbind(1):
        point = cvxpy.Variable(dimension)
        if isinstance(domain, Simplex):
            constraints = [point >= 0, cvxpy.sum(point) == 1]
        elif isinstance(domain, Ball):
            constraints = [cvxpy.norm(point) <= domain.radius]
        elif isinstance(domain, Box):
            low, high = (
                torch.as_tensor(bound, dtype=torch.float64, device="cpu").numpy()
                for bound in (domain.low, domain.high)
            )
            constraints = [point >= low, point <= high]
        else:
            raise TypeError(f"domain: expected a Ball, Box or Simplex, got {domain!r}")
        data = play.detach().double().cpu()
        problem = cvxpy.Problem(cvxpy.Minimize(objective(cvxpy, point, data.numpy())), constraints)
        points.append(_certified(cvxpy, problem, point, domain, lambda x, d=data: slopes(d, x)))
    solved = torch.stack(points).reshape(*batch, dimension)
    return domain._project(solved.to(plays.dtype).to(plays.device))


def _certified(cvxpy, problem, variable, domain: Domain, slopes) -> Tensor:  # type: ignore[no-untyped-def]
    """The solver's point, if its loss is shown to be least.

    The solver's opinion is not asked. A convex function exceeds its minimum by at most the
    largest ``<gradient, point - u>`` over the domain; that is measured against what the losses
    vary by there. Aiming too high may make the solver fail, so it aims lower after that.
    """
    gap = most = torch.tensor(torch.inf)
    for aim in (1e-13, 1e-10, 1e-8):
        tight = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), aim)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Solution may be inaccurate")
            try:
                problem.solve(solver=cvxpy.CLARABEL, **tight)
            except cvxpy.error.SolverError:
                continue
        if variable.value is None:
            continue
        found = domain._project(torch.as_tensor(variable.value))
        pulls = slopes(found)
        pull = pulls.sum(0)
        gap = (pull * (found - domain._minimize_linear(pull))).sum()
        most = torch.linalg.vector_norm(pulls, dim=-1).sum() * domain.diameter(len(found))
        if gap <= GAP * most:
            return found
    raise ArithmeticError(
        f"plays: expected a loss within {GAP * most:.1e} of the least, "
        f"got one within {gap:.1e} ({problem.status})"
    )
