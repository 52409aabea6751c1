"""Nature between chance and malice: losses whose variance and variation are known exactly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdtheory.checks import (
    require_count,
    require_finite,
    require_number,
    require_same_kind,
    require_scale,
    require_shape,
    require_tensor,
    require_values,
)
from mdtheory.convex.mirror_maps import Ball, Box, Domain
from mdtheory.convex.mirror_maps.quadratic import secular_root
from mdtheory.convex.online_learning.learners import number_like


class StochasticallyExtendedAdversary:
    r"""An environment of the stochastically extended adversarial model.

    Definition ``def-sea``. The loss of round :math:`t` is drawn from a distribution that nature
    chose,

    .. math::
        f_t(x) = \tfrac12 x^\top A x + \langle b_t + \xi_t, x\rangle, \qquad
        F_t(x) = \mathbb E f_t(x) = \tfrac12 x^\top A x + \langle b_t, x\rangle,

    with a diagonal :math:`A \succeq 0`, slopes :math:`b_t = b + v\,m_t` and noise
    :math:`\xi_t = s\,n_t` of mean 0. Noise and differences of the expected gradients do not depend
    on the point, so the model's two quantities are exact: the variance
    :math:`\sigma_t^2 = \mathbb E\|\xi_t\|^2` and the variation
    :math:`\Sigma_t^2 = \|b_t - b_{t-1}\|^2`. Leading axes are plays: seeds, and the cells of a grid
    over ``noise_scale`` (:math:`s`) and ``drift_scale`` (:math:`v`), which share the draws
    :math:`n_t`. It is an environment for :func:`mdtheory.convex.online_learning.play`.

    Args:
        moves: :math:`m_t`, shape ``(T, ..., d)``.
        noise: :math:`n_t`, mean 0 given the past, shape ``(T, ..., d)``; ``None`` for no noise.
        variance: :math:`\mathbb E\|n_t\|^2` given the past, shape ``(T, ...)``; it comes with
            ``noise``.
        curvature: diagonal of :math:`A`, at least 0: a number, or ``d`` of them; 0 makes the
            losses linear.
        offset: :math:`b`, a shape that broadcasts with ``(..., d)``; 0 if ``None``.
        noise_scale: :math:`s \ge 0`, a number or a shape that broadcasts with the batch ``(...)``.
        drift_scale: :math:`v \ge 0`, likewise.

    Attributes:
        rounds: the number of rounds ``T``.
        batch: the shape of the batch of plays.
        dimension: ``d``.

    Raises:
        TypeError: an argument of a wrong type, or tensors of different dtypes.
        ValueError: shapes that do not fit, a NaN, a negative curvature, variance or scale, noise
            without its variance, or tensors on different devices.

    Source:
        Sachs, Hadiji, van Erven and Guzmán (2022).
    """

    def __init__(
        self,
        moves: Tensor,
        noise: Tensor | None = None,
        variance: Tensor | None = None,
        *,
        curvature: float | Sequence[float] = 0.0,
        offset: Tensor | None = None,
        noise_scale: float | Tensor = 1.0,
        drift_scale: float | Tensor = 1.0,
    ) -> None:
        self.moves = _stream("moves", moves)
        self.rounds, self.dimension = moves.shape[0], moves.shape[-1]
        if (noise is None) != (variance is None):
            raise ValueError("variance: expected with noise and only with noise")
        if noise is not None and variance is not None:
            require_same_kind("noise", _stream("noise", noise), "moves", moves)
            require_same_kind("variance", variance, "moves", moves)
            require_shape("variance", variance, tuple(noise.shape[:-1]))
            known = (variance >= 0) & variance.isfinite()
            require_values("variance", variance, known, "finite values >= 0")
            if noise.shape[0] != self.rounds or noise.shape[-1] != self.dimension:
                raise ValueError(
                    f"noise: expected {self.rounds} rounds and {self.dimension} coordinates like "
                    f"moves, got shape {tuple(noise.shape)}"
                )
        self.noise, self.variance = noise, variance
        self._curvatures = _curvatures(curvature, self.dimension)
        self.curvature = torch.stack([number_like(value, moves) for value in self._curvatures])
        if offset is not None:
            require_same_kind("offset", require_tensor("offset", offset), "moves", moves)
            require_finite("offset", offset)
            if offset.shape[-1] != self.dimension:
                raise ValueError(
                    f"offset: expected {self.dimension} coordinates, got {tuple(offset.shape)}"
                )
        self.offset = moves.new_zeros(self.dimension) if offset is None else offset
        self.noise_scale = _scale("noise_scale", noise_scale, moves)
        self.drift_scale = _scale("drift_scale", drift_scale, moves)
        shapes = {
            "noise": () if noise is None else noise.shape[1:-1],
            "offset": self.offset.shape[:-1],
            "noise_scale": self.noise_scale.shape,
            "drift_scale": self.drift_scale.shape,
        }
        self.batch = tuple(moves.shape[1:-1])
        for name, shape in shapes.items():
            try:
                self.batch = tuple(torch.broadcast_shapes(self.batch, shape))
            except RuntimeError:
                raise ValueError(
                    f"{name}: expected a batch that broadcasts with {self.batch}, "
                    f"got {tuple(shape)}"
                ) from None

    def __call__(self, round_: int, decision: Tensor) -> tuple[Tensor, Tensor]:
        """Loss :math:`f_t(x)`, shape ``(...)``, and gradient, shape ``(..., d)``.

        Args:
            round_: the round ``t``, from 1.
            decision: the point ``x``, shape ``(..., d)``.
        """
        return self._at(decision, self._slope(round_))

    def expected(self, round_: int, decision: Tensor) -> tuple[Tensor, Tensor]:
        """The expected loss of a round and its gradient.

        Args:
            round_: the round ``t``, from 1.
            decision: the point ``x``, shape ``(..., d)``.

        Returns:
            :math:`F_t(x)`, shape ``(...)``, and its gradient, shape ``(..., d)``.
        """
        return self._at(decision, self._mean(round_))

    def start(self) -> Tensor:
        """The origin for every play of the batch, shape ``(..., d)``."""
        return self.moves.new_zeros((*self.batch, self.dimension))

    @property
    def smoothness(self) -> float:
        """Smoothness :math:`L` of the losses: the largest curvature."""
        return max(self._curvatures)

    @property
    def strong_convexity(self) -> float:
        r"""Strong convexity :math:`\lambda` of the losses: the smallest curvature."""
        return min(self._curvatures)

    @property
    def variances(self) -> Tensor:
        r"""Variances :math:`\sigma_t^2` of all rounds, shape ``(T, ...)``."""
        if self.variance is None:
            return self.moves.new_zeros((self.rounds, *self.batch))
        return (self.noise_scale**2 * self._each_round(self.variance)).expand(
            self.rounds, *self.batch
        )

    @property
    def variations(self) -> Tensor:
        r"""Variations :math:`\Sigma_t^2` of the rounds from the second, shape ``(T - 1, ...)``."""
        moved = self._each_round(((self.moves[1:] - self.moves[:-1]) ** 2).sum(-1))
        return (self.drift_scale**2 * moved).expand(self.rounds - 1, *self.batch)

    def gradient_bound(self, radius: float) -> Tensor:
        r"""A bound :math:`G` on the gradients at points with :math:`\|x\|_2 \le r`.

        By the triangle inequality, so not the smallest; it needs no pass over the grid.

        Args:
            radius: :math:`r`.

        Returns:
            :math:`G`, shape ``(...)``.
        """
        require_number("radius", radius, 0.0)
        largest = self.drift_scale * _largest(self.moves) + torch.linalg.vector_norm(
            self.offset, dim=-1
        )
        if self.noise is not None:
            largest = largest + self.noise_scale * _largest(self.noise)
        return (self.smoothness * radius + largest).expand(self.batch)

    def loss_at(self, comparator: Tensor, rounds: int) -> Tensor:
        r"""Loss of a fixed point over the first rounds.

        Args:
            comparator: the point ``u``, of a shape that broadcasts with ``(..., d)``.
            rounds: how many rounds ``T`` count, from the first.

        Returns:
            :math:`\sum_{t\le T} f_t(u)`, shape ``(...)``.

        Raises:
            TypeError: ``rounds`` is no whole number.
            ValueError: ``rounds`` is below 1 or above the rounds of the environment.
        """
        total = self._total(rounds, noisy=True)
        return self._at(comparator, total / rounds)[0] * rounds

    def best_comparator(
        self, domain: Domain, rounds: int | None = None, *, hindsight: bool = False
    ) -> Tensor:
        r"""The fixed point of a domain with the smallest expected loss, :math:`\sum_t F_t(u)`.

        It does not depend on the noise, as a bound on the *expected* regret asks of a comparator.
        In random order the moves are drawn, too: there ``hindsight`` gives the comparator that is
        fixed, since the sum of all losses does not depend on the order.

        Args:
            domain: where the comparator may lie: a ``Ball``, a ``Box``, or any other where the
                losses are linear.
            rounds: how many rounds count; all if ``None``.
            hindsight: minimise :math:`\sum_t f_t(u)` instead, which knows the noise.

        Returns:
            The minimisers, shape ``(..., d)``.

        Raises:
            TypeError: a domain that is not known here, or ``rounds`` is no whole number.
            ValueError: ``rounds`` is below 1 or above the rounds of the environment.
        """
        rounds = self.rounds if rounds is None else rounds
        slope = self._total(rounds, noisy=hindsight) / rounds
        if self.smoothness == 0:
            return domain.minimize_linear(slope)
        if isinstance(domain, Ball):
            # The secular equation wants positive curvatures; a flat direction gets next to none.
            curvature = self.curvature.clamp(min=torch.finfo(slope.dtype).eps * self.smoothness)
            shift = secular_root(-slope, curvature, domain.radius)
            return domain._project(-slope / (curvature + shift))
        if isinstance(domain, Box):
            # Separable: each coordinate stops at its own minimiser or at a side of the box.
            curved = self.curvature > 0
            inside = domain._project(-slope / torch.where(curved, self.curvature, 1.0))
            return torch.where(curved, inside, domain._minimize_linear(slope))
        raise TypeError(f"domain: expected a Ball or a Box, got {domain!r}")

    def _mean(self, round_: int) -> Tensor:
        return self.offset + self.drift_scale[..., None] * self.moves[round_ - 1]

    def _slope(self, round_: int) -> Tensor:
        mean = self._mean(round_)
        if self.noise is None:
            return mean
        return mean + self.noise_scale[..., None] * self.noise[round_ - 1]

    def _total(self, rounds: int, *, noisy: bool) -> Tensor:
        if require_count("rounds", rounds) > self.rounds:
            raise ValueError(f"rounds: expected at most {self.rounds}, got {rounds}")
        total = rounds * self.offset + self.drift_scale[..., None] * self.moves[:rounds].sum(0)
        if noisy and self.noise is not None:
            total = total + self.noise_scale[..., None] * self.noise[:rounds].sum(0)
        return total.expand(*self.batch, self.dimension)

    def _at(self, point: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        if self.smoothness == 0:
            if slope.shape != point.shape:
                slope = slope.expand(torch.broadcast_shapes(slope.shape, point.shape))
            return (point * slope).sum(-1), slope
        bent = self.curvature * point
        return (point * (bent / 2 + slope)).sum(-1), bent + slope

    def _each_round(self, values: Tensor) -> Tensor:
        """Values ``(T, ...)`` with axes put in after the first, so that they meet the batch."""
        missing = 1 + len(self.batch) - values.ndim
        return values.reshape(values.shape[0], *(1,) * missing, *values.shape[1:])


def _stream(name: str, value: Tensor) -> Tensor:
    require_tensor(name, value)
    if value.ndim < 2 or value.shape[0] == 0:
        raise ValueError(
            f"{name}: expected shape (T, ..., d) with at least one round, got {tuple(value.shape)}"
        )
    require_finite(name, value)
    return value


def _curvatures(curvature: float | Sequence[float], dimension: int) -> list[float]:
    values = list(curvature) if isinstance(curvature, Sequence) else [curvature] * dimension
    if len(values) != dimension:
        raise ValueError(f"curvature: expected {dimension} numbers, got {len(values)}")
    return [require_number("curvature", value, 0.0) for value in values]


def _scale(name: str, value: float | Tensor, like: Tensor) -> Tensor:
    return number_like(require_scale(name, value, like), like)


def _largest(stream: Tensor) -> Tensor:
    return torch.linalg.vector_norm(stream, dim=-1).amax(0)
