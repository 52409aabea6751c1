"""Gradients of rollouts by hand, how they grow, what a cut loses, and what sampling costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from mdtheory.checks import (
    require_broadcast,
    require_count,
    require_number,
    require_shape,
    require_tensor,
)
from mdtheory.environments.differentiable import Differentiable

Scheme = Literal["semi-implicit", "explicit"]
Steered = Callable[[Tensor, Tensor], Tensor]


class Linearisation(NamedTuple):
    r"""Derivatives of one step of the closed loop, along a trajectory.

    Attributes:
        transitions: :math:`A_t = f_s + f_a\,\pi_s`, ``(..., steps, n, n)``.
        influences: :math:`G_t = f_a\,\pi_\theta`, ``(..., steps, n, p)``.
    """

    transitions: Tensor
    influences: Tensor


def linearise(
    environment: Differentiable, policy: Steered, parameters: Tensor, states: Tensor
) -> Linearisation:
    """The two matrices of ``eq-linearisation`` in each state.

    Args:
        environment: the world.
        policy: from an observation ``(observed,)`` and parameters ``(p,)`` to an action.
        parameters: shape ``(p,)``.
        states: shape ``(..., steps, n)``.

    Returns:
        The matrices.

    Raises:
        TypeError: no floating-point tensors.
        ValueError: states of another width.
    """
    require_tensor("parameters", parameters)
    require_tensor("states", states)
    require_shape("states", states, (*states.shape[:-1], environment.width))

    def step(state: Tensor, theta: Tensor) -> Tensor:
        return environment.step(state, policy(environment.observe(state), theta))

    both = vmap(jacrev(step, argnums=(0, 1)), in_dims=(0, None))
    rows = both(states.reshape(-1, environment.width), parameters)
    return Linearisation(*(part.reshape(*states.shape[:-1], *part.shape[1:]) for part in rows))


def adjoint_gradient(linearisation: Linearisation, slopes: Tensor) -> Tensor:
    r"""The gradient in the policy's parameters by the recursion of ``thm-adjoint``.

    Args:
        linearisation: at the states but the last, ``(..., H - 1, n, n)`` and ``(..., H - 1, n, p)``
            (what comes for the last is left out).
        slopes: :math:`\partial L / \partial s_t`, shape ``(..., H, n)``.

    Returns:
        The gradient, shape ``(..., p)``.

    Raises:
        ValueError: slopes for another number of states, or of another width.
    """
    transitions, influences = linearisation
    require_shape("slopes", slopes, (*slopes.shape[:-1], transitions.shape[-1]))
    steps = transitions.shape[-3]
    if slopes.shape[-2] not in (steps, steps + 1):
        raise ValueError(
            f"slopes: expected {steps + 1} states for {steps} steps, got {slopes.shape[-2]}"
        )
    costate = slopes[..., -1, :]
    gradient = torch.zeros_like(influences[..., 0, 0, :])
    for t in range(slopes.shape[-2] - 2, -1, -1):
        gradient = gradient + (influences[..., t, :, :].mT @ costate[..., None])[..., 0]
        costate = slopes[..., t, :] + (transitions[..., t, :, :].mT @ costate[..., None])[..., 0]
    return gradient


def upright_matrix(
    rate: float, step: float, scheme: Scheme = "semi-implicit", *, balanced: bool = False
) -> Tensor:
    r"""One step of :math:`\ddot x = \omega^2x` for (angle, speed), as in ``prop-exploding``.

    Args:
        rate: :math:`\omega > 0`, in 1/s.
        step: :math:`h > 0`, in s.
        scheme: ``"semi-implicit"``, where the new speed moves the angle, or ``"explicit"``.
        balanced: whether the angle is counted in units of the speed, :math:`(\omega x, \dot x)`.

    Returns:
        The matrix, float64, shape ``(2, 2)``.

    Raises:
        ValueError: another scheme, or a number that is not positive.
    """
    w = require_number("rate", rate, 0.0, strict=True)
    h = require_number("step", step, 0.0, strict=True)
    if scheme not in get_args(Scheme):
        raise ValueError(f"scheme: expected one of {get_args(Scheme)}, got {scheme!r}")
    corner = 1 + (h * w) ** 2 if scheme == "semi-implicit" else 1.0
    across = (h * w, h * w) if balanced else (h, h * w * w)
    return torch.tensor([[corner, across[0]], [across[1], 1.0]], dtype=torch.float64)


def upright_growth(rate: float, step: float) -> float:
    r"""The top eigenvalue of the semi-implicit matrix: ``eq-upright-growth``.

    Args:
        rate: :math:`\omega > 0`.
        step: :math:`h > 0`.

    Returns:
        :math:`1 + q/2 + \sqrt{q + q^2/4}` with :math:`q = (h\omega)^2`.

    Raises:
        ValueError: a number that is not positive.
    """
    w = require_number("rate", rate, 0.0, strict=True)
    q = (require_number("step", step, 0.0, strict=True) * w) ** 2
    return 1 + q / 2 + math.sqrt(q + q * q / 4)


def kept_steps(states: int, every: int) -> Tensor:
    r"""How many steps before each state its gradient still reaches: :math:`r_t`.

    Args:
        states: their number H.
        every: steps between cuts.

    Returns:
        0 for the first, then :math:`((t - 1) \bmod k) + 1`, int64, shape ``(H,)``.

    Raises:
        ValueError: a count below 1.
    """
    t = torch.arange(require_count("states", states))
    return torch.where(t > 0, (t - 1) % require_count("every", every) + 1, 0)


def truncation_bound(rho: float, influence: float, slopes: Tensor, every: int) -> Tensor:
    r"""The bound of ``prop-truncation`` on what cuts take from a gradient.

    Args:
        rho: :math:`\rho > 0`, the largest norm of a transition; from 1 on the bound holds as
            well, but grows like the gradient itself.
        influence: :math:`g \ge 0`, the largest norm of an influence.
        slopes: norms of :math:`\partial L / \partial s_t`, shape ``(..., H)``.
        every: steps between cuts.

    Returns:
        The bound, shape ``(...)``.

    Raises:
        ValueError: a number out of range.
    """
    require_number("rho", rho, 0.0, strict=True)
    require_number("influence", influence, 0.0)
    require_tensor("slopes", slopes)
    t = torch.arange(slopes.shape[-1], dtype=slopes.dtype, device=slopes.device)
    kept = kept_steps(slopes.shape[-1], every).to(t)
    # Powers from r_t on, summed as such: the closed form has no digits near rho = 1.
    sums = (rho**t).cumsum(-1)
    sums = torch.cat([torch.zeros_like(sums[:1]), sums])
    lost = sums[t.long()] - sums[kept.long()]
    return influence * (slopes * lost).sum(-1)


def likelihood_ratio_gradient(
    means: Tensor, drawn: Tensor, paid: Tensor, deviation: float
) -> Tensor:
    r"""The estimate of ``eq-likelihood-ratio`` for normal actions, as a gradient in their means.

    In the parameters it is the sum over the steps of its products with the derivatives of the
    means. No derivative of the world is taken.

    Args:
        means: :math:`\mu_\theta(s_t)`, shape ``(..., actions)``.
        drawn: the actions :math:`\mu_\theta(s_t) + \sigma\epsilon_t`, of the same shape.
        paid: what each action is judged by, the loss less a baseline :math:`L - b`; shape
            ``(...)``, or one that broadcasts to it.
        deviation: :math:`\sigma > 0`.

    Returns:
        :math:`(L - b)\,\epsilon_t/\sigma`, of the shape of ``means``.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: shapes that do not fit, or a deviation that is not positive.
    """
    require_tensor("means", means)
    require_tensor("drawn", drawn)
    require_shape("drawn", drawn, means.shape)
    require_tensor("paid", paid, 0)
    require_broadcast("paid", paid.shape, means.shape[:-1], widens=False)
    require_number("deviation", deviation, 0.0, strict=True)
    return paid[..., None] * (drawn - means) / deviation**2


def likelihood_ratio_variance(
    weights: Tensor, mean: float | Tensor = 0.0, deviation: float = 1.0
) -> Tensor:
    r"""Variance of the likelihood-ratio gradient of a linear rollout, ``prop-ratio-variance``.

    Args:
        weights: :math:`c_t`, how much the last state takes from each action, ``(..., H)``.
        mean: expected last state less the baseline; 0 with the best constant baseline.
        deviation: :math:`\sigma > 0` of the actions.

    Returns:
        :math:`H\sum c_t^2 + (\sum c_t)^2 + H m^2/\sigma^2`, shape ``(...)``.

    Raises:
        ValueError: a deviation that is not positive.
    """
    require_tensor("weights", weights)
    require_number("deviation", deviation, 0.0, strict=True)
    horizon = weights.shape[-1]
    spread = horizon * weights.square().sum(-1) + weights.sum(-1).square()
    return spread + horizon * (mean / deviation) ** 2


def jump_slope(theta: Tensor, slope: float, jump: float, place: float, deviation: float) -> Tensor:
    r"""Derivative of :math:`\mathbb{E}f(\theta + \sigma\epsilon)` for a line with a jump.

    The statement is ``prop-jump``: the pathwise gradient is ``slope`` alone.

    Args:
        theta: any shape.
        slope: of the line.
        jump: its height.
        place: where it is.
        deviation: :math:`\sigma > 0`.

    Returns:
        Derivatives, of the shape of ``theta``.

    Raises:
        ValueError: a deviation that is not positive.
    """
    require_tensor("theta", theta, 0)
    require_number("deviation", deviation, 0.0, strict=True)
    z = (place - theta) / deviation
    density = (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi) / deviation
    return slope + jump * density
