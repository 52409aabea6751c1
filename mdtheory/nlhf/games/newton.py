"""Regularised equilibria of matrix games by one damped Newton method, for one law or for two."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.checks import values_known

# Newton's method is started at a temperature that is easy and follows it down by this factor, in
# shorter steps of the temperature where it does not arrive.
EASY, COOLING, SLOWEST = 0.25, 0.5, 0.98
NEWTON_STEPS = 100
# How near a warmer equilibrium must be met before it is left; nearer where it is cold.
LOOSE, COLD = 1e-6, 1e-4


def regularized_equilibrium(
    costs: Tensor, sizes: tuple[int, ...], magnet: Tensor, temperature: Tensor, tolerance: float
) -> Tensor:
    r"""The laws :math:`z` with :math:`\tau(\log z - \log\rho) + M z` constant on each of them.

    Newton's method in the log-probabilities. ``M`` is skew up to constants, so the Jacobian is a
    positive diagonal plus a skew matrix and can always be solved. The residual of the answer is
    its certificate.

    Args:
        costs: :math:`M`, what each action costs against each, ``(..., k, k)``, from -1 to 1.
        sizes: how many of the ``k`` actions each law has.
        magnet: :math:`\log\rho`, all finite, ``(..., k)``.
        temperature: :math:`\tau > 0`, of the batch's shape.
        tolerance: the largest span of the residual on one law, never asked below what the dtype
            can hold.

    Returns:
        The laws side by side, log-probabilities ``(..., k)`` in their own memory.

    Raises:
        ArithmeticError: no answer within the tolerance was found.
    """
    batch = torch.broadcast_shapes(costs.shape[:-2], magnet.shape[:-1], temperature.shape)
    newton = _Newton(costs, sizes, magnet.expand(*batch, -1))
    tau = temperature.expand(batch)
    if not values_known(costs, magnet, tau):
        return newton.magnet.clone()
    with torch.no_grad():
        logs = _followed(newton, tau, tolerance)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (costs, magnet, tau)):
        # Newton's step at the answer has the derivative of the answer, and does not move it.
        value = newton.residual(logs, tau)
        logs = newton.normalize(logs + newton.direction(logs, tau, value))
    return logs


def _followed(newton: _Newton, tau: Tensor, tolerance: float) -> Tensor:
    """The equilibrium, followed down from a temperature that is easy."""
    logs = newton.magnet.clone()
    warm, factor = EASY, COOLING
    while bool((tau < warm).any()):
        try:
            near = max(tolerance, LOOSE * min(1.0, warm / COLD))
            found = newton.solve(logs, tau.clamp(min=warm), near)
        except ArithmeticError:
            # The last answer was too far away: go half of the way, on a log scale.
            if warm == EASY or factor > SLOWEST:
                raise
            warm, factor = warm / math.sqrt(factor), math.sqrt(factor)
            continue
        logs, factor = found, max(COOLING, factor**1.25)
        warm *= factor
    return newton.solve(logs, tau, tolerance)


class _Newton:
    """Newton's method on the conditions of the equilibrium at one temperature for each game."""

    def __init__(self, costs: Tensor, sizes: tuple[int, ...], magnet: Tensor) -> None:
        self.costs, self.sizes, self.magnet = costs, sizes, magnet
        self.owner = costs.new_zeros(sum(sizes), len(sizes))
        for law, part in enumerate(self.owner.split(sizes)):
            part[:, law] = 1

    def residual(self, logs: Tensor, tau: Tensor) -> Tensor:
        """The equation's left side, known up to a constant of each law."""
        cost = (self.costs @ logs.exp()[..., None])[..., 0]
        return tau[..., None] * (logs - self.magnet) + cost

    def left(self, value: Tensor, slack: Tensor) -> Tensor:
        """How far a residual is from a constant of each law, in units of what each entry may be.

        The least over constants ``c`` of the largest ``|v - c| / slack``.
        """
        found = []
        for v, s in zip(value.split(self.sizes, -1), slack.split(self.sizes, -1), strict=True):
            apart = v[..., :, None] - v[..., None, :]
            found.append((apart / (s[..., :, None] + s[..., None, :])).amax((-2, -1)))
        return torch.stack(found).amax(0)

    def direction(self, logs: Tensor, tau: Tensor, value: Tensor) -> Tensor:
        """Newton's change of the log-probabilities, beside the constants of the laws."""
        p, count, laws = logs.exp(), logs.shape[-1], len(self.sizes)
        full = p.new_zeros(*p.shape[:-1], count + laws, count + laws)
        full[..., :count, :count] = self.costs * p[..., None, :]
        full.diagonal(dim1=-2, dim2=-1)[..., :count] += tau[..., None]
        full[..., :count, count:] = self.owner
        full[..., count:, :count] = self.owner.mT * p[..., None, :]
        right = torch.nn.functional.pad(-value, (0, laws))
        # A system that is singular in this precision gives no finite change, and no step.
        return torch.linalg.solve_ex(full, right)[0][..., :count]

    def normalize(self, dual: Tensor) -> Tensor:
        return torch.cat([part.log_softmax(-1) for part in dual.split(self.sizes, -1)], -1)

    def solve(self, logs: Tensor, tau: Tensor, tolerance: float) -> Tensor:
        """From an answer nearby, by the longest of the steps 1, 1/2, 1/4, ... that comes nearer."""
        # What the rounding of its log-probability and of the sum over the actions leaves of each.
        reach = 1 + tau[..., None] * (1 + self.magnet.abs())
        eps = torch.finfo(logs.dtype).eps
        slack = (4 * eps * math.sqrt(logs.shape[-1]) * reach).clamp(min=tolerance / 2)
        value = self.residual(logs, tau)
        size = self.left(value, slack)
        for _ in range(NEWTON_STEPS):
            waiting = ~(size <= 1)
            if not bool(waiting.any()):
                return logs
            change, length = self.direction(logs, tau, value), 1.0
            before = size
            while bool(waiting.any()) and length > 1e-12:
                trial = self.normalize(logs + length * change)
                there = self.residual(trial, tau)
                left = self.left(there, slack)
                better = waiting & (left <= (1 - length / 4) * before)
                logs = torch.where(better[..., None], trial, logs)
                value = torch.where(better[..., None], there, value)
                size = torch.where(better, left, size)
                waiting = waiting & ~better
                length /= 2
            if bool(waiting.any()):
                break  # what no step brings nearer stays where it is
        raise ArithmeticError(
            f"tolerance: {tolerance!r} was not reached in {NEWTON_STEPS} steps of Newton's method; "
            f"{size.max().item():.3g} times what is allowed is left"
        )
