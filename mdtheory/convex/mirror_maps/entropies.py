"""Mirror maps made from entropies of vectors: on the simplex, the orthant and the box."""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import require_tensor, require_values
from mdtheory.convex.mirror_maps.base import MirrorMap
from mdtheory.convex.mirror_maps.domains import Box, Simplex
from mdtheory.convex.mirror_maps.exact import (
    differentiated,
    kl_parts,
    log_ratio,
    logarithm,
    settled,
    x_log_x,
)

# On the CPU PyTorch's softmax and sums are slow along an axis shorter than its vectors.
SHORT = 16
# Below it the exponential is 0 in every dtype, which it finds out quicker for -infinity.
VANISHING = -746.0


class Entropy(MirrorMap):
    r"""Negative entropy :math:`\psi(x) = \sum_i x_i \log x_i` on the simplex.

    The divergence is Kullback and Leibler's; the dual is log-probability up to a constant, and
    ``to_primal`` is the softmax.
    """

    domain = Simplex()
    strong_convexity = 1.0

    def norm(self, x: Tensor) -> Tensor:
        r"""Norm :math:`\|x\|_1`; see :meth:`MirrorMap.norm`."""
        return require_tensor("x", x).abs().sum(-1)

    def dual_norm(self, gradient: Tensor) -> Tensor:
        r"""Norm :math:`\|g\|_\infty`; see :meth:`MirrorMap.dual_norm`."""
        return require_tensor("gradient", gradient).abs().amax(-1)

    def check_dual(self, name: str, theta: Tensor) -> Tensor:
        r"""Refuse what is no dual; :math:`-\infty` is one, the dual of a probability of 0."""
        return _check_log_weights(name, theta, some_finite=True)

    def _potential(self, x: Tensor) -> Tensor:
        return x_log_x(x).sum(-1)

    def _to_dual(self, x: Tensor) -> Tensor:
        return 1 + logarithm(x)

    def _to_primal(self, theta: Tensor) -> Tensor:
        if theta.shape[-1] >= SHORT or theta.device.type != "cpu":
            return theta.softmax(-1)
        below = theta - theta.amax(-1, keepdim=True)
        weights = torch.nn.functional.threshold(below, VANISHING, -torch.inf).exp()
        return weights / (weights @ weights.new_ones(theta.shape[-1]))[..., None]

    def _conjugate(self, theta: Tensor) -> Tensor:
        return theta.logsumexp(-1)

    def _divergence(self, x: Tensor, y: Tensor) -> Tensor:
        return _total_kl(x, y)


class PositiveEntropy(MirrorMap):
    r"""Negative entropy :math:`\psi(x) = \sum_i x_i \log x_i` on the positive orthant."""

    strong_convexity = 0.0

    def check_point(self, name: str, x: Tensor, *, border: bool = False) -> Tensor:
        """Refuse negative entries; see :meth:`MirrorMap.check_point`."""
        super().check_point(name, x)
        require_values(name, x, x >= 0, "nonnegative entries")
        return x

    def check_dual(self, name: str, theta: Tensor) -> Tensor:
        r"""Refuse what is no dual; :math:`-\infty` is one, the dual of 0."""
        return _check_log_weights(name, theta, some_finite=False)

    def _potential(self, x: Tensor) -> Tensor:
        return x_log_x(x).sum(-1)

    def _to_dual(self, x: Tensor) -> Tensor:
        return 1 + logarithm(x)

    def _to_primal(self, theta: Tensor) -> Tensor:
        return (theta - 1).exp()

    def _conjugate(self, theta: Tensor) -> Tensor:
        return (theta - 1).exp().sum(-1)

    def _divergence(self, x: Tensor, y: Tensor) -> Tensor:
        return _total_kl(x, y)


class BinaryEntropy(MirrorMap):
    r"""Bit entropy :math:`\psi(x) = \sum_i x_i \log x_i + (1-x_i)\log(1-x_i)` on the unit box."""

    domain = Box(0.0, 1.0)
    strong_convexity = 4.0

    def check_point(self, name: str, x: Tensor, *, border: bool = False) -> Tensor:
        """Refuse entries outside [0, 1]; see :meth:`MirrorMap.check_point`."""
        require_tensor(name, x)
        require_values(name, x, (x >= 0) & (x <= 1), "entries in [0, 1]")
        return x

    def check_dual(self, name: str, theta: Tensor) -> Tensor:
        """Refuse a NaN; infinities are the duals of 0 and 1."""
        require_tensor(name, theta)
        require_values(name, theta, ~theta.isnan(), "no NaN")
        return theta

    def _potential(self, x: Tensor) -> Tensor:
        # The other half with log1p, so that x near 0 keeps its digits.
        return (x_log_x(x) + (1 - x) * torch.where(x < 1, -x, 0.0).log1p()).sum(-1)

    def _to_dual(self, x: Tensor) -> Tensor:
        return logarithm(x) - torch.where(x == 1, -torch.inf, torch.where(x == 1, 0.0, -x).log1p())

    def _to_primal(self, theta: Tensor) -> Tensor:
        return theta.sigmoid()

    def _conjugate(self, theta: Tensor) -> Tensor:
        return torch.nn.functional.softplus(theta, threshold=40.0).sum(-1)

    def _divergence(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = torch.broadcast_tensors(x, y)
        return (_generalized_kl(x, y) + _generalized_kl(1 - x, 1 - y, y - x)).sum(-1)


def _total_kl(x: Tensor, y: Tensor) -> Tensor:
    """Sum of ``x log(x / y) - x + y``, by parts where the plain formula would cancel."""
    if not differentiated(x, y):
        own, other = torch.xlogy(x, x), torch.xlogy(x, y)
        plain = (own - other - x + y).sum(-1)
        if settled(plain, own.abs().sum(-1) + other.abs().sum(-1) + x.sum(-1) + y.sum(-1)):
            return plain
    return _generalized_kl(x, y).sum(-1)


def _generalized_kl(x: Tensor, y: Tensor, difference: Tensor | None = None) -> Tensor:
    """``x log(x / y) - x + y`` entrywise, infinite where only ``y`` is 0."""
    x, y = torch.broadcast_tensors(x, y)
    present = x > 0
    if difference is not None:
        difference = torch.where(present, difference, 0.0)
    ratio = log_ratio(torch.where(present, x, 1.0), torch.where(present, y, 1.0), difference)
    return kl_parts(x, y, ratio)


def _check_log_weights(name: str, theta: Tensor, *, some_finite: bool) -> Tensor:
    require_tensor(name, theta)
    require_values(name, theta, theta < torch.inf, "entries below infinity")
    if some_finite:
        has_mass = (theta > -torch.inf).any(-1)
        require_values(name, theta, has_mass, "a finite entry in every vector")
    return theta
