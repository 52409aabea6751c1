"""Policies in one batch of states: categorical over actions, diagonal Gaussian, squashed Gaussian.

The states are the second-last axis, shape ``(copies, n, ...)``; leading axes are seeds. The chapter
'Mirror descent policy optimisation' explains them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.convex.mirror_maps import bregman_map

HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


class Categorical(NamedTuple):
    """A law over finitely many actions in each state.

    Attributes:
        logits: log-probabilities up to a constant, shape ``(..., n, actions)``.
    """

    logits: Tensor

    def sample(self, generator: torch.Generator) -> Tensor:
        """One action in each state, int64, shape ``(..., n)``.

        Args:
            generator: source of randomness, on the device of the logits.

        Returns:
            Actions.
        """
        # The smallest of independent exponential clocks with rates p rings with probability p.
        clocks = torch.empty_like(self.logits).exponential_(generator=generator)
        return (self.logits - clocks.log()).argmax(-1)

    def mode(self) -> Tensor:
        """The likeliest action in each state, shape ``(..., n)``."""
        return self.logits.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-probability of ``action`` ``(..., n)``, same shape.

        Args:
            action: int64, shape ``(..., n)``.

        Returns:
            Log-probabilities.
        """
        chosen = self.logits.gather(-1, action[..., None])[..., 0]
        return chosen - self.logits.logsumexp(-1)

    def entropy(self) -> Tensor:
        """Entropy in nats, shape ``(..., n)``."""
        logs = self.logits.log_softmax(-1)
        return -(logs.exp() * logs).sum(-1)

    def kl(self, old: Categorical) -> Tensor:
        r""":math:`\mathrm{KL}(\text{self} \| \text{old})` in each state, shape ``(..., n)``.

        Args:
            old: the law in the second slot.

        Returns:
            Divergences in nats.
        """
        logs = self.logits.log_softmax(-1)
        return (logs.exp() * (logs - old.logits.log_softmax(-1))).sum(-1)

    def divergence(self, old: Categorical, order: float = 1.0) -> Tensor:
        """Bregman divergence of :func:`tsallis_divergence` from ``old`` to this law.

        Args:
            old: the law in the second slot.
            order: :math:`q`; 1 is the KL.

        Returns:
            Divergences, shape ``(..., n)``.
        """
        if order == 1:
            return self.kl(old)
        return bregman_map(order)._divergence(self.logits.softmax(-1), old.logits.softmax(-1))

    def detach(self) -> Categorical:
        """The same law without its history."""
        return Categorical(self.logits.detach())

    def metric(self, *change: Tensor) -> tuple[Tensor, ...]:
        """The Fisher matrix in each state times a change of the logits.

        Args:
            *change: change of the logits, shape ``(..., n, actions)``.

        Returns:
            The product, as a tuple of one.
        """
        (moved,) = change
        p = self.logits.softmax(-1)
        return (p * (moved - (p * moved).sum(-1, keepdim=True)),)


class Gaussian(NamedTuple):
    """Independent normal coordinates of an action in each state.

    Attributes:
        mean: shape ``(..., n, d)``.
        log_std: of a shape that broadcasts with it.
    """

    mean: Tensor
    log_std: Tensor

    def sample(self, generator: torch.Generator) -> Tensor:
        """One action in each state, shape ``(..., n, d)``; gradients flow through it.

        Args:
            generator: source of randomness, on the device of the mean.

        Returns:
            Actions.
        """
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return self.mean + self.log_std.exp() * noise

    def mode(self) -> Tensor:
        """The mean, shape ``(..., n, d)``."""
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-density of ``action`` ``(..., n, d)``, shape ``(..., n)``.

        Args:
            action: shape ``(..., n, d)``.

        Returns:
            Log-densities.
        """
        scaled = (action - self.mean) * (-self.log_std).exp()
        return (-0.5 * scaled.square() - self.log_std - HALF_LOG_TAU).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy in nats, shape ``(..., n)``."""
        return (self.log_std + HALF_LOG_TAU + 0.5).expand_as(self.mean).sum(-1)

    def kl(self, old: Gaussian) -> Tensor:
        r""":math:`\mathrm{KL}(\text{self} \| \text{old})`, shape ``(..., n)``.

        Args:
            old: the law in the second slot.

        Returns:
            Divergences in nats.
        """
        gap = self.log_std - old.log_std
        distance = (self.mean - old.mean) * (-old.log_std).exp()
        return (0.5 * ((2 * gap).exp() + distance.square() - 1) - gap).sum(-1)

    def divergence(self, old: Gaussian, order: float = 1.0) -> Tensor:
        r"""Bregman divergence of the Tsallis entropy of densities, in closed form.

        Equation ``eq-tsallis-gaussian``:
        :math:`\int x^q / (q-1) + \int y^q - q/(q-1) \int x\, y^{q-1}`; each integral of a product
        of Gaussians is one.

        Args:
            old: the law in the second slot.
            order: :math:`q \ge 1`; 1 is the KL.

        Returns:
            Divergences, shape ``(..., n)``.
        """
        if order == 1:
            return self.kl(old)
        q = order
        mine, its = (_log_power_integral(law.log_std, q).sum(-1) for law in (self, old))
        # N(m, s^2)^(q-1) is, up to a factor, a normal density with variance s^2 / (q - 1).
        spread = (2 * self.log_std).exp() + (2 * old.log_std).exp() / (q - 1)
        cross = _log_power_integral(old.log_std, q - 1) - 0.5 * (
            (self.mean - old.mean).square() / spread + spread.log()
        )
        cross = (cross - HALF_LOG_TAU).sum(-1)
        return (mine.exp() - q * cross.exp()) / (q - 1) + its.exp()

    def detach(self) -> Gaussian:
        """The same law without its history."""
        return Gaussian(self.mean.detach(), self.log_std.detach())

    def metric(self, *change: Tensor) -> tuple[Tensor, ...]:
        """The Fisher matrix in each state times a change of mean and log-deviation.

        Args:
            *change: change of the mean ``(..., n, d)``, and of the log-deviation.

        Returns:
            The two products.
        """
        mean, log_std = change
        return (mean * (-2 * self.log_std).exp(), 2 * log_std)


def _log_power_integral(log_std: Tensor, power: float) -> Tensor:
    r"""Log of :math:`\int N(z; m, s^2)^p \, dz = (2 \pi s^2)^{(1 - p) / 2} p^{-1/2}`."""
    return (1 - power) * (HALF_LOG_TAU + log_std) - 0.5 * math.log(power)


class SquashedGaussian(NamedTuple):
    """A Gaussian pressed into (-1, 1) by tanh, coordinate by coordinate.

    Attributes:
        mean: before the squashing, shape ``(..., n, d)``.
        log_std: before the squashing, same shape.
    """

    mean: Tensor
    log_std: Tensor

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One action in each state and its log-density; gradients flow through both.

        Args:
            generator: source of randomness, on the device of the mean.

        Returns:
            The point before the squashing, shape ``(..., n, d)``, and the log-density of its
            tanh, shape ``(..., n)``.
        """
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        raw = torch.addcmul(self.mean, self.log_std.exp(), noise)
        # The noise is known: no division by a small deviation.
        logs = -0.5 * noise.square() - self.log_std - HALF_LOG_TAU - log_slope_of_tanh(raw)
        return raw, logs.sum(-1)

    def log_prob(self, raw: Tensor) -> Tensor:
        """Log-density of ``tanh(raw)``, shape ``(..., n)``.

        Args:
            raw: points before the squashing, shape ``(..., n, d)``: tanh of a large one is
                1 in floating point and could not be undone.

        Returns:
            Log-densities.
        """
        return Gaussian(self.mean, self.log_std).log_prob(raw) - log_slope_of_tanh(raw).sum(-1)

    def mode(self) -> Tensor:
        """The squashed mean, shape ``(..., n, d)``."""
        return self.mean.tanh()

    def detach(self) -> SquashedGaussian:
        """The same law without its history."""
        return SquashedGaussian(self.mean.detach(), self.log_std.detach())


def log_slope_of_tanh(raw: Tensor) -> Tensor:
    r"""Log of the derivative of tanh, :math:`\log(1 - \tanh^2 x)`, exact for large :math:`|x|`.

    Args:
        raw: where, any shape.

    Returns:
        Logarithms, same shape.
    """
    # 1 - tanh^2 is 4 / (e^x + e^-x)^2, and x + softplus(-2x) is log(e^x + e^-x).
    return 2 * (math.log(2) - raw - torch.nn.functional.softplus(-2 * raw))
