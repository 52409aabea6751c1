"""Right-hand sides of the statements about search."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number, require_scale
from mdtheory.convex.mirror_maps import kl, span
from mdtheory.nlhf.decision_time_planning.common_payoff import CommonPayoffGame


def jeffreys(log_policy: Tensor, searched: Tensor) -> Tensor:
    r"""Both divergences of Kullback and Leibler, :math:`\mathrm{Jef}(\pi', \pi)`.

    Equation ``eq-jeffreys``.

    Args:
        log_policy: log-probabilities ``(..., n)``.
        searched: log-probabilities ``(..., n)``.

    Returns:
        Of the broadcast batch shape.
    """
    return kl(log_policy, searched) + kl(searched, log_policy)


def search_gain(
    game: CommonPayoffGame,
    log_policy: tuple[Tensor, ...],
    searched: tuple[Tensor, ...],
    reached_by: tuple[Tensor, ...],
    step_size: float | Tensor,
) -> Tensor:
    r"""What the divergences of a search promise, :math:`\frac1\eta\sum_h d(h)\,\mathrm{Jef}_h`.

    The right side of ``thm-one-searcher`` with the reach of the policies that play, and the first
    order of ``thm-all-search-once`` with that of the blueprint.

    Args:
        game: a game with a common payoff.
        log_policy: the blueprint, one tensor a player.
        searched: what the searches play.
        reached_by: the policies whose reach weighs the rows.
        step_size: :math:`\eta > 0`, a number or a tensor of the batch's shape.

    Returns:
        Of the batch's shape.

    Raises:
        TypeError: tensors of a wrong kind.
        ValueError: a wrong shape or range.
    """
    step = require_scale("step_size", step_size, game.payoff, strict=True)
    for name, policies in (("log_policy", log_policy), ("searched", searched)):
        game.check(name, policies)
    total = torch.zeros((), dtype=game.payoff.dtype, device=game.payoff.device)
    for reach, old, new in zip(game.reach(reached_by), log_policy, searched, strict=True):
        total = total + (reach * jeffreys(old, new)).sum(-1)
    return total / step


def simultaneous_gain_bound(
    first_order: Tensor, step_size: float | Tensor, reward_range: float | Tensor, players: int
) -> Tensor:
    r"""The lower bound of ``thm-all-search-once`` on the gain if all search, each acting once.

    :math:`\bigl(1 - (N - 1)\,\eta R/4\bigr)` times the first order.

    Args:
        first_order: :func:`search_gain` with the reach of the blueprint, ``(...)``.
        step_size: :math:`\eta`.
        reward_range: :math:`R`.
        players: :math:`N`.

    Returns:
        Of the batch's shape.

    Raises:
        ValueError: no player.
    """
    count = require_count("players", players)
    return (1 - (count - 1) * step_size * reward_range / 4) * first_order


def sequential_gain_bound(
    chi_square: Tensor, step_size: float | Tensor, reward_range: float | Tensor, decisions: int
) -> Tensor:
    r"""The lower bound of ``thm-all-search`` on the gain if all search, one after the other.

    With :math:`c = \eta R`:
    :math:`R\,X\bigl[1/(e^c - 1) - \frac14(D - 1)\,e^{c(D - 2)}\bigr]`.

    Args:
        chi_square: :math:`X = \mathbb{E}_\pi\sum_t\chi^2(\pi'_{h_t} \| \pi_{h_t})`, ``(...)``.
        step_size: :math:`\eta > 0`.
        reward_range: :math:`R > 0`.
        decisions: :math:`D`, the largest number of decisions on a path.

    Returns:
        Of the batch's shape.

    Raises:
        ValueError: no decision.
    """
    depth = require_count("decisions", decisions)
    c = torch.as_tensor(step_size * reward_range, dtype=chi_square.dtype, device=chi_square.device)
    second = (depth - 1) * (c * max(depth - 2, 0)).exp() / 4
    return reward_range * chi_square * (1 / c.expm1() - second)


def chi_square(
    game: CommonPayoffGame, log_policy: tuple[Tensor, ...], searched: tuple[Tensor, ...]
) -> Tensor:
    r"""How far a search moves, :math:`\mathbb{E}_\pi\sum_t\chi^2(\pi'_{h_t} \| \pi_{h_t})`.

    Args:
        game: a game with a common payoff.
        log_policy: the blueprint :math:`\pi`, one tensor a player.
        searched: :math:`\pi'`, one tensor a player.

    Returns:
        Of the batch's shape.

    Raises:
        TypeError: tensors of a wrong kind.
        ValueError: a wrong shape.
    """
    game.check("searched", searched)
    total = torch.zeros((), dtype=game.payoff.dtype, device=game.payoff.device)
    for reach, old, new in zip(game.reach(log_policy), log_policy, searched, strict=True):
        ratio = torch.where(old > -torch.inf, (new - old), 0.0).expm1()
        total = total + (reach * (old.exp() * ratio.square()).sum(-1)).sum(-1)
    return total


def safe_step(
    reward_range: float | Tensor, decisions: int, *, players: int | None = None
) -> float | Tensor:
    r"""A step with which search at every decision point never lowers the return.

    Without ``players`` that of ``thm-all-search``: the largest :math:`\eta = c/R` with
    :math:`(e^c - 1)\,e^{c(D - 2)}(D - 1) \le 4`. With them that of ``thm-all-search-once``,
    :math:`4/((N - 1)R)`, for games in which each of the players acts once and none sees another's
    action. Infinite where one decision alone is taken, or nothing depends on it.

    Args:
        reward_range: :math:`R \ge 0`, the largest payoff less the smallest, a number or a tensor.
        decisions: :math:`D`, the largest number of decisions, of all players, on a path.
        players: :math:`N`, at most ``decisions``, if each acts once and unseen.

    Returns:
        The step, shaped like ``reward_range``.

    Raises:
        TypeError: an argument of a wrong kind.
        ValueError: a negative range, no decision, or another number of players than of decisions.
    """
    depth = require_count("decisions", decisions)
    if isinstance(reward_range, Tensor):
        require_scale("reward_range", reward_range, reward_range)
    else:
        require_number("reward_range", reward_range, 0.0)
    if players is not None and require_count("players", players) != depth:
        raise ValueError(
            f"players: expected {depth}, as many as decisions, where each acts once, got {players}"
        )
    if depth == 1:
        c = math.inf
    elif players is not None:
        c = 4 / (players - 1)
    else:
        c = _largest(depth)
    if isinstance(reward_range, Tensor):
        return torch.where(reward_range > 0, c / reward_range, torch.inf)
    return c / reward_range if reward_range else math.inf


def _largest(depth: int) -> float:
    """The root of (e^c - 1) e^{c (D - 2)} (D - 1) = 4, by halving."""
    low, high = 0.0, 2.0
    for _ in range(60):
        middle = (low + high) / 2
        grown = math.expm1(middle) * math.exp(middle * (depth - 2)) * (depth - 1)
        low, high = (middle, high) if grown <= 4 else (low, middle)
    return low


def sampling_loss(errors: Tensor, step_size: float | Tensor) -> Tensor:
    r"""The most that errors of the values cost in a row: :math:`\eta\,\mathrm{span}(e)^2/16`.

    Theorem ``thm-sampled-search``.

    Args:
        errors: estimated less exact values, ``(..., n)``.
        step_size: :math:`\eta`, a number or a tensor of the batch's shape.

    Returns:
        Of the batch's shape; in units of payoff.
    """
    return step_size * span(errors).square() / 16


def sampled_search_loss(
    reward_range: float | Tensor,
    decisions: int,
    actions: int,
    samples: int,
    step_size: float | Tensor,
) -> float | Tensor:
    r"""The most that one searcher loses on average: :math:`T\eta A R^2/(32M)`.

    Theorem ``thm-sampled-search``.

    Args:
        reward_range: :math:`R`.
        decisions: :math:`T`, his decisions on a path at most.
        actions: :math:`A`, actions of a row at most.
        samples: :math:`M`, for each action.
        step_size: :math:`\eta`.

    Returns:
        In units of payoff.

    Raises:
        ValueError: a count below 1.
    """
    for name, value in {"decisions": decisions, "actions": actions, "samples": samples}.items():
        require_count(name, value)
    return decisions * step_size * actions * reward_range**2 / (32 * samples)


def argmax_loss(log_policy: Tensor, chosen: Tensor, step_size: float | Tensor) -> Tensor:
    r"""The most that the largest entry of the step may lose: :math:`(H(\pi) + \log\pi(a))/\eta`.

    Proposition ``prop-argmax-search``.

    Args:
        log_policy: the blueprint, ``(..., n)``.
        chosen: :math:`a`, the entry that is played, ``(...)``.
        step_size: :math:`\eta`, a number or a tensor of the batch's shape.

    Returns:
        Of the batch's shape; in units of payoff.
    """
    entropy = -torch.where(log_policy > -torch.inf, log_policy.exp() * log_policy, 0.0).sum(-1)
    return (entropy + log_policy.gather(-1, chosen[..., None])[..., 0]) / step_size
