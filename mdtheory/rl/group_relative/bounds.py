"""Right-hand sides of the chapter's bounds, unchecked."""

from __future__ import annotations

from torch import Tensor


def suboptimality_bound(loss: Tensor, weights: Tensor, temperature: float | Tensor) -> Tensor:
    r"""What a small consistency loss buys, theorem ``thm-consistency``.

    Args:
        loss: the weighted variance over all answers, shape ``(...)``.
        weights: :math:`w`, a law on the answers, shape ``(..., n)``.
        temperature: :math:`\tau`, a number or of the loss's shape.

    Returns:
        :math:`\mathcal L_w/(4\tau\min_y w_y)`, shape ``(...)``.
    """
    return loss / (4 * temperature * weights.amin(-1))


def stale_gap_bound(divergence: Tensor, step_size: float | Tensor, steps: int) -> Tensor:
    r"""How far the objective of stale REINFORCE is from its limit, theorem ``thm-stale-hedge``.

    Args:
        divergence: :math:`\mathrm{KL}(q\|\pi_0)`.
        step_size: :math:`\eta`.
        steps: :math:`T`.

    Returns:
        :math:`\mathrm{KL}(q\|\pi_0)/(\eta T)`.
    """
    return divergence / (step_size * steps)


def stale_distance_bound(
    divergence: Tensor, step_size: float | Tensor, total: Tensor, steps: int
) -> Tensor:
    r"""How far the policy of stale REINFORCE is from its limit, squared.

    Theorem ``thm-stale-hedge``.

    Args:
        divergence: :math:`\mathrm{KL}(q\|\pi_0)`.
        step_size: :math:`\eta`.
        total: :math:`b > 0`.
        steps: :math:`T`.

    Returns:
        :math:`2\,\mathrm{KL}(q\|\pi_0)/(\eta bT)`, a bound on
        :math:`\lVert\pi_T - q\rVert_2^2`.
    """
    return 2 * divergence / (step_size * total * steps)


def ascent_bound(policy: Tensor, behaviour: Tensor, rewards: Tensor) -> Tensor:
    r"""Least rate at which old answers raise the value if rewards are 0 and 1.

    Proposition ``prop-direction``.

    Args:
        policy: probabilities ``(..., n)``.
        behaviour: probabilities ``(..., n)``.
        rewards: 0 and 1, some of each, shape ``(..., n)``.

    Returns:
        :math:`V(1 - V)[(1 - p)\min_{r=1}\mu + p\min_{r=0}\mu]`, shape ``(...)``.
    """
    value, success = (policy * rewards).sum(-1), (behaviour * rewards).sum(-1)
    right = (behaviour / rewards).amin(-1)  # infinite where the reward is 0
    wrong = (behaviour / (1 - rewards)).amin(-1)
    return value * (1 - value) * ((1 - success) * right + success * wrong)
