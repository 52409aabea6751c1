"""Policies in one batch of states: categorical over actions, diagonal Gaussian, squashed Gaussian.

The states are the second-last axis, shape ``(copies, n, ...)``; leading axes are seeds. The chapter
'Mirror descent policy optimisation' explains them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_number
from mdtheory.convex.mirror_maps import bregman_map, kl

HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


class Categorical(NamedTuple):
    """A law over finitely many actions in each state.

    Attributes:
        logits: log-probabilities up to a constant, shape ``(..., n, actions)``; minus infinity is
            the probability 0, as of an action that a state does not have.
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
        # A clock of 0 would ring even where the probability is 0.
        clocks = clocks.clamp(min=torch.finfo(clocks.dtype).tiny)
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
        chances = logs.exp()
        return -(chances * torch.where(chances > 0, logs, 0.0)).sum(-1)

    def kl(self, old: Categorical) -> Tensor:
        r""":math:`\mathrm{KL}(\text{self} \| \text{old})` in each state, shape ``(..., n)``.

        Computed in float64: the logarithms of two laws that nearly agree differ by less than
        float32 resolves.

        Args:
            old: the law in the second slot.

        Returns:
            Divergences in nats, in the dtype of the logits.
        """
        return kl(*self._logarithms(old)).to(self.logits.dtype)

    def divergence(self, old: Categorical, order: float = 1.0) -> Tensor:
        """Bregman divergence of :func:`tsallis_divergence` from ``old`` to this law.

        Args:
            old: the law in the second slot.
            order: :math:`q`; 1 is the KL.

        Returns:
            Divergences, shape ``(..., n)``, in the dtype of the logits.

        Raises:
            TypeError: the order is no number.
            ValueError: the order is not positive.
        """
        mirror_map = bregman_map(order)
        if order == 1:
            return self.kl(old)
        new, past = (logs.exp() for logs in torch.broadcast_tensors(*self._logarithms(old)))
        # Probabilities that are 0 in both add nothing, as 1 in both does, which has a slope.
        nowhere = (new == 0) & (past == 0)
        new, past = (torch.where(nowhere, 1.0, law) for law in (new, past))
        return mirror_map._divergence(new, past).to(self.logits.dtype)

    def _logarithms(self, old: Categorical) -> tuple[Tensor, Tensor]:
        double = torch.float64
        return self.logits.to(double).log_softmax(-1), old.logits.to(double).log_softmax(-1)

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
        moved = torch.where(p > 0, moved, 0.0)
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
        return (0.5 * (_above_line(2 * gap) + distance.square())).sum(-1)

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
        if require_number("order", order, 1.0) == 1:
            return self.kl(old)
        # With e = q - 1, g the difference of the log-deviations and z the distance of the means in
        # old deviations, every coordinate has its share in the logarithms of
        # int x^q / int y^q, which is -e g, and of int x y^e / int y^q, which is `cross`.
        e = order - 1
        z = ((self.mean - old.mean) * (-old.log_std).exp()).square()
        gap = (self.log_std - old.log_std).expand(z.shape)
        ratio = 2 * gap + math.log(e)
        pull = 0.5 * order * z * (-ratio).sigmoid()
        near = gap.abs() <= 0.5
        small = torch.where(near, gap, 0.0)
        # log((1 + e exp(2 g)) / (1 + e)), near and far.
        spread = torch.where(
            near,
            (e / order * (2 * small).expm1()).log1p(),
            torch.nn.functional.softplus(ratio) - math.log1p(e),
        )
        power = -e * gap.sum(-1)
        cross = -0.5 * spread.sum(-1) - e / order * pull.sum(-1)
        slow = (near.all(-1)) & (power.abs() <= 0.5) & (cross.abs() <= 0.5)
        # What is linear in g has cancelled here, by hand.
        curve = 0.5 * (_above_line(2 * small) - order / e * _above_line(
            torch.where(near, spread, 0.0))).sum(-1)  # fmt: skip
        low_power, low_cross = (torch.where(slow, part, 0.0) for part in (power, cross))
        close = curve + pull.sum(-1)
        close = close + (_above_line(low_power) - order * _above_line(low_cross)) / e
        high_power, high_cross = (torch.where(slow, 0.0, part) for part in (power, cross))
        far = (high_power.expm1() - order * high_cross.expm1()) / e
        size = _log_power_integral(old.log_std.expand(z.shape), order).sum(-1).exp()
        return size * torch.where(slow, close, far)

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
        # A deviation that several coordinates share counts for each of them.
        shared = self.mean.shape[-1] // self.log_std.shape[-1]
        return (mean * (-2 * self.log_std).exp(), 2 * shared * log_std)


def _above_line(x: Tensor) -> Tensor:
    r"""How far :math:`e^x` is above its tangent, :math:`e^x - 1 - x`, to all digits."""
    near = x.abs() < 1
    small = torch.where(near, x, 0.0)
    series = torch.zeros_like(small)
    for k in range(20, 2, -1):
        series = (1 + series) * small / k
    return torch.where(near, 0.5 * small.square() * (1 + series), x.expm1() - x)


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
