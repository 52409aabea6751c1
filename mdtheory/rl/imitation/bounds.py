"""Right-hand sides of the statements about imitation."""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number, require_values
from mdtheory.rl.imitation.occupancies import require_both


def curvature(change: Tensor, step: Tensor) -> Tensor:
    r"""How much a run's steps bend the objective, :math:`C = \sup_t 2\,\mathrm{KL}/\eta_t^2`.

    Equation ``eq-curvature``, over the rounds of a record.

    Args:
        change: :math:`\mathrm{KL}(d_{t+1} \| d_t)` of each round, ``(T, ...)``.
        step: :math:`\eta_t`, ``(T, ...)``.

    Returns:
        :math:`C`, shape ``(...)``.
    """
    moved = step > 0  # a step of 0 bends nothing
    return torch.where(moved, 2 * change / torch.where(moved, step, 1.0).square(), 0.0).amax(0)


def chi_square(s: Tensor, d: Tensor) -> Tensor:
    r"""The divergence :math:`\chi^2(v \| d) = \sum v^2/d - 1`, half of a bound on the curvature.

    Proposition ``prop-curvature``.

    Args:
        s: occupancy of a learner (:math:`v` on the page), ``(..., S, A)``.
        d: the mixture, of a shape that broadcasts with it.

    Returns:
        Of the broadcast batch shape; infinite where ``d`` alone is 0.

    Raises:
        TypeError: no floating-point tensors, or of different dtypes.
        ValueError: one of them is no law over pairs.
    """
    require_both(s=s, d=d)
    # As the sum of squares of what differs: nothing cancels where the two nearly agree.
    away = (s - d).square()
    return torch.where(away == 0, 0.0, away / d).sum((-2, -1))


def share_of_gap(gap: Tensor, divergence: Tensor) -> Tensor:
    r"""The weakest learner of a run: :math:`\kappa = \min_t G(d_t, v_t) / \mathrm{KL}(d_t \| e)`.

    Definition ``def-weak-learner``; at most 1 is returned, which is what an exact oracle has.

    Args:
        gap: :math:`G(d_t, v_t)`, ``(T, ...)``.
        divergence: :math:`\mathrm{KL}(d_t \| e) > 0` before each round, ``(T, ...)``.

    Returns:
        :math:`\kappa`, shape ``(...)``; not positive where some learner made no progress.
    """
    return (gap / divergence).amin(0).clamp(max=1)


def constant_step_bound(
    start: float | Tensor,
    curvature: float | Tensor,
    step: float | Tensor,
    rounds: int,
    kappa: float | Tensor = 1.0,
) -> Tensor:
    r"""The bound of ``thm-boost-rate`` for a constant step.

    :math:`(1 - \kappa\eta)^T h_0 + (1 - (1 - \kappa\eta)^T)\,\eta C / (2\kappa)`.

    Args:
        start: :math:`h_0`, the divergence at the start.
        curvature: :math:`C`.
        step: :math:`\eta` in (0, 1].
        rounds: :math:`T`.
        kappa: :math:`\kappa` in (0, 1].

    Returns:
        The bound on :math:`h_T`.

    Raises:
        ValueError: a number out of range.
    """
    require_count("rounds", rounds, 0)
    for name, value in {"step": step, "kappa": kappa}.items():
        if isinstance(value, Tensor):
            require_values(name, value, (value > 0) & (value <= 1), "numbers in (0, 1]")
        else:
            require_number(name, value, 0.0, maximum=1.0, strict=True)
    left = (1 - torch.as_tensor(kappa * step)) ** rounds
    return left * start + (1 - left) * step * curvature / (2 * kappa)


def open_loop_bound(start: float | Tensor, curvature: float | Tensor, rounds: int) -> Tensor:
    r"""The bound of ``thm-boost-rate`` for the steps :math:`2/(t + 3)` and an exact oracle.

    :math:`\max(2C, 2h_0)/(T + 2)`.

    Args:
        start: :math:`h_0`.
        curvature: :math:`C`.
        rounds: :math:`T`.

    Returns:
        The bound on :math:`h_T`.

    Raises:
        ValueError: a negative number of rounds.
    """
    require_count("rounds", rounds, 0)
    worst = torch.maximum(torch.as_tensor(2 * start), torch.as_tensor(2 * curvature))
    return worst / (rounds + 2)


def mirror_bound(start: float | Tensor, step: float | Tensor, rounds: int) -> float | Tensor:
    r"""The bound of ``thm-imitation-mirror``: :math:`(1 - \eta)^T\,\mathrm{KL}(e \| x_0)`.

    Args:
        start: :math:`\mathrm{KL}(e \| x_0)`.
        step: :math:`\eta` in [0, 1].
        rounds: :math:`T`.

    Returns:
        The bound on :math:`\mathrm{KL}(e \| x_T)`.

    Raises:
        ValueError: a negative number of rounds.
    """
    return (1 - step) ** require_count("rounds", rounds, 0) * start


def log_mean_bias_bound(least: float | Tensor, variance: float | Tensor, n: int) -> Tensor:
    r"""The bound of ``thm-dice-bias`` on :math:`\log\mathbb{E}u - \mathbb{E}\log\bar u_n`.

    :math:`k(c)\,\operatorname{Var}(u)/n` with :math:`k(c) = (c - 1 - \log c)/(1 - c)^2`, for
    :math:`u` of mean 1 that is never below :math:`c`.

    Args:
        least: :math:`c` in (0, 1), the least value of :math:`u`.
        variance: variance of :math:`u`.
        n: size of the minibatch.

    Returns:
        The bound, in nats.

    Raises:
        ValueError: ``least`` outside (0, 1), or no sample.
    """
    c = torch.as_tensor(least, dtype=torch.float64) if not isinstance(least, Tensor) else least
    require_values("least", c, (c > 0) & (c < 1), "numbers in (0, 1)")
    return (c - 1 - c.log()) / (1 - c).square() * variance / require_count("n", n)


def single_sample_bound(spread: float | Tensor, discount: float) -> float | Tensor:
    r"""The bound of ``thm-dice-bias`` on what one sampled next state costs: :math:`\gamma^2R^2/8`.

    Args:
        spread: :math:`R`, how far the next values of one pair lie apart at most.
        discount: :math:`\gamma` in [0, 1).

    Returns:
        The bound, in nats.

    Raises:
        ValueError: a discount outside [0, 1).
    """
    if require_number("discount", discount, 0.0) >= 1:
        raise ValueError(f"discount: expected a number below 1, got {discount!r}")
    return discount**2 * spread**2 / 8
