"""Occupancies of states and actions: what is mixed, measured and compared."""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcastable,
    require_count,
    require_same_kind,
    require_scale,
    require_simplex,
    require_tensor,
    require_values,
)
from mdtheory.convex.mirror_maps import kl
from mdtheory.rl.policy_mirror_descent import TabularMDP, occupancy


def ensemble_weights(n: int, step: float | Tensor) -> Tensor:
    r"""Weights of the first ``n`` learners after ``n - 1`` boosting steps of one size.

    Equation ``eq-ensemble-weights``: :math:`w_1 = (1 - \eta)^{n-1}` and
    :math:`w_i = \eta (1 - \eta)^{n-i}` for :math:`i \ge 2`. The first learner keeps all that the
    others have not taken, so it may be the heaviest for long.

    Args:
        n: number of learners, at least 1.
        step: :math:`\eta` in [0, 1], a number or a tensor ``(...)`` of step sizes; 1 keeps the last
            learner alone, 0 the first.

    Returns:
        Weights in the order of the learners, float64 for a number, shape ``(..., n)``; they sum to
        1.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: no learner, or a step size outside [0, 1].

    Source:
        Chang, Sreenivas, Huang, Brantley and Sun (2024), whose weights these are in closed form.
    """
    require_count("n", n)
    like = step if isinstance(step, Tensor) else torch.empty((), dtype=torch.float64)
    require_scale("step", step, like, maximum=1.0)
    size = torch.as_tensor(step, dtype=like.dtype, device=like.device)[..., None]
    age = torch.arange(n - 1, -1, -1, dtype=like.dtype, device=like.device)
    first = torch.arange(n, device=like.device) == 0
    return torch.where(first, 1.0, size) * (1 - size) ** age


def state_action_occupancy(mdp: TabularMDP, policy: Tensor, initial: Tensor) -> Tensor:
    r"""Discounted share of time that a policy spends in each pair of state and action.

    Equation ``eq-pair-occupancy``: :math:`d_\pi(s, a) = d_\rho^\pi(s)\,\pi(a \mid s)`, with the
    shares of :func:`~mdtheory.rl.policy_mirror_descent.occupancy`.

    Args:
        mdp: the processes.
        policy: probabilities, shape ``(..., S, A)``.
        initial: law of the first state :math:`\rho`, shape ``(..., S)``.

    Returns:
        Probabilities over pairs, shape ``(..., S, A)``; they sum to 1.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: ``policy`` or ``initial`` is no probability, or has a wrong shape.
    """
    return occupancy(mdp, policy, initial)[..., None] * policy


def initial_law(mdp: TabularMDP, pairs: Tensor) -> Tensor:
    r"""The law of the first state under which ``pairs`` is an occupancy.

    Equation ``eq-flow``, read from right to left:
    :math:`(1-\gamma)\rho(s) = \sum_a d(s, a) - \gamma\sum_{s', a'} P(s \mid s', a')\,d(s', a')`.
    What is no occupancy of any policy has negative entries here.

    Args:
        mdp: the processes, with a dense transition.
        pairs: :math:`d`, shape ``(..., S, A)``.

    Returns:
        Shape ``(..., S)``.

    Raises:
        TypeError: ``pairs`` is no tensor of the dtype of the rewards.
        ValueError: ``pairs`` is no law over pairs, or of a wrong shape.
    """
    require_pairs("pairs", pairs)
    require_same_kind("pairs", pairs, "the rewards", mdp.reward)
    if pairs.shape[-2:] != mdp.reward.shape[-2:]:
        raise ValueError(
            f"pairs: expected shape (..., {mdp.states}, {mdp.actions}), got {tuple(pairs.shape)}"
        )
    ahead = (pairs[..., None] * mdp.transition).sum((-3, -2))
    return (pairs.sum(-1) - mdp.discount * ahead) / (1 - mdp.discount)


def policy_of_occupancy(pairs: Tensor) -> Tensor:
    r"""The policy whose occupancy is ``pairs``.

    Equation ``eq-markov-policy``: :math:`\pi(a \mid s) = d(s, a) / \sum_{a'} d(s, a')`, uniform
    where a state is never visited.

    Args:
        pairs: :math:`d`, a law over pairs, shape ``(..., S, A)``.

    Returns:
        Probabilities, same shape.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: ``pairs`` is no law over pairs.
    """
    require_pairs("pairs", pairs)
    visits = pairs.sum(-1, keepdim=True)
    never = visits == 0
    return torch.where(never, 1 / pairs.shape[-1], pairs / torch.where(never, 1.0, visits))


def occupancy_divergence(d: Tensor, e: Tensor) -> Tensor:
    r"""The objective of boosting, :math:`\mathrm{KL}(d \,\|\, e)`, over pairs.

    Equation ``eq-imitation-objective``; the library's one
    :func:`~mdtheory.convex.mirror_maps.kl`, with the mixture in the first slot.

    Args:
        d: occupancy of the imitator, a law over pairs, shape ``(..., S, A)``.
        e: occupancy of the expert, of a shape that broadcasts with it.

    Returns:
        Divergences in nats, of the broadcast batch shape; infinite where ``e`` alone is 0
        somewhere.

    Raises:
        TypeError: no floating-point tensors, or of different dtypes.
        ValueError: one of them is no law over pairs, or shapes do not broadcast.
    """
    require_both(d=d, e=e)
    return divergence_unchecked(d, e)


def frank_wolfe_gap(d: Tensor, s: Tensor, e: Tensor) -> Tensor:
    r"""What the linear model of the objective promises for a move from ``d`` to ``s``.

    Equation ``eq-fw-gap``: :math:`G(d, s) = \langle\log(d/e),\, d - s\rangle`. If ``s`` is the
    answer of a linear oracle this is the Frank-Wolfe gap, and theorem ``thm-boost-certificate``
    makes it a certificate.

    Args:
        d: the mixture, a law over pairs, shape ``(..., S, A)``.
        s: occupancy of the new learner (on the page :math:`v`), of a shape that broadcasts.
        e: occupancy of the expert, positive where ``d`` or ``s`` is.

    Returns:
        Gaps in nats, of the broadcast batch shape; infinite where ``s`` visits what ``d`` does not.

    Raises:
        TypeError: no floating-point tensors, or of different dtypes.
        ValueError: one of them is no law over pairs, shapes do not broadcast, or ``e`` is 0 where
            ``d`` or ``s`` is not.
    """
    require_both(d=d, s=s, e=e)
    used = (d > 0) | (s > 0)
    require_values("e", e, (e > 0) | ~used, "positive shares where d or s has some")
    return gap_unchecked(d, s, e)


def divergence_unchecked(d: Tensor, e: Tensor) -> Tensor:
    """The same, unchecked. The arguments are those of :func:`occupancy_divergence`.

    Returns:
        Divergences in nats.
    """
    return kl(d.log().flatten(-2), e.log().flatten(-2))


def gap_unchecked(d: Tensor, s: Tensor, e: Tensor) -> Tensor:
    """The same, unchecked. The arguments are those of :func:`frank_wolfe_gap`.

    Returns:
        Gaps in nats.
    """
    away = d - s
    # What neither visits plays no part, whatever the logarithm is there.
    return torch.where(away == 0, 0.0, (d.log() - e.log()) * away).sum((-2, -1))


def require_pairs(name: str, value: object) -> Tensor:
    """Refuse what is no law over pairs of states and actions.

    Args:
        name: the argument's name, for the message.
        value: what came.

    Returns:
        ``value`` itself.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: fewer than two axes, or no probabilities over the last two.
    """
    pairs = require_tensor(name, value)
    if pairs.ndim < 2:
        raise ValueError(f"{name}: expected shape (..., S, A), got {tuple(pairs.shape)}")
    require_simplex(name, pairs.flatten(-2))
    return pairs


def require_both(**laws: object) -> None:
    """Refuse occupancies that do not meet: every one a law over the same pairs, of one dtype.

    Args:
        **laws: name and value of each.

    Raises:
        TypeError: no floating-point tensors, or of different dtypes.
        ValueError: one of them is no law over pairs, or shapes do not broadcast.
    """
    first: tuple[str, Tensor] | None = None
    for name, value in laws.items():
        pairs = require_pairs(name, value)
        if first is None:
            first = name, pairs
            continue
        require_same_kind(name, pairs, *first)
        if pairs.shape[-2:] != first[1].shape[-2:]:
            raise ValueError(
                f"{name}: expected pairs {tuple(first[1].shape[-2:])} like {first[0]}, got "
                f"{tuple(pairs.shape[-2:])}"
            )
        require_broadcastable(name, pairs, *first)
