"""Search at decision time as one mirror step from the blueprint."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import overload

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcast,
    require_count,
    require_finite,
    require_same_kind,
    require_scale,
    require_tensor,
    require_values,
)
from mdtheory.convex.mirror_maps import entropy_step, require_log_probabilities
from mdtheory.nlhf.decision_time_planning.common_payoff import CommonPayoffGame
from mdtheory.nlhf.decision_time_planning.ends import ends_of
from mdtheory.nlhf.decision_time_planning.tiny import TinyHanabi
from mdtheory.nlhf.games import ExtensiveGame, MatrixGame

Game = TinyHanabi | CommonPayoffGame | ExtensiveGame | MatrixGame
PLAYS = ("sample", "argmax")


def mirror_descent_search(
    log_policy: Tensor,
    action_values: Tensor,
    step_size: float | Tensor,
    *,
    play: str = "sample",
) -> Tensor:
    r"""What mirror descent search plays in an information set.

    Equation ``eq-search-step``: :math:`\pi'(a) \propto \pi(a)\,e^{\eta q(a)}`. An infinite step is
    Monte Carlo search, all mass on the best of what the blueprint may do.

    Args:
        log_policy: the blueprint :math:`\log\pi`, shape ``(..., n)``; ``-inf`` stays ``-inf``.
        action_values: :math:`q`, exact or estimated, of a shape that broadcasts with it.
        step_size: :math:`\eta > 0`, a number or a tensor of the batch's shape; infinity allowed.
        play: ``"sample"``, or ``"argmax"`` for all mass on the largest entry of :math:`\pi'`; the
            blueprint decides a tie, and after it the first entry.

    Returns:
        Log-probabilities ``(..., n)`` from which the action is drawn.

    Raises:
        TypeError: no tensors of one dtype.
        ValueError: no log-probabilities, shapes that do not broadcast, a NaN, or out of range.

    Source:
        Sokota et al. (2024).
    """
    if play not in PLAYS:
        raise ValueError(f"play: expected one of {PLAYS}, got {play!r}")
    searched = magnetic_search(log_policy, action_values, step_size, 0.0)
    if play == "sample":
        return searched
    best = searched == searched.amax(-1, keepdim=True)
    choice = torch.where(best, log_policy, -torch.inf).argmax(-1, keepdim=True)
    return torch.full_like(searched, -torch.inf).scatter(-1, choice, 0.0)


def magnetic_search(
    log_policy: Tensor,
    action_values: Tensor,
    step_size: float | Tensor,
    temperature: float | Tensor,
    magnet: Tensor | None = None,
) -> Tensor:
    r"""What magnetic mirror descent search plays in an information set.

    Equation ``eq-magnetic-search``:
    :math:`\pi'(a) \propto \bigl(\pi(a)\,e^{\eta q(a)}\rho(a)^{\eta\tau}\bigr)^{1/(1 + \eta\tau)}`.

    Args:
        log_policy: the blueprint :math:`\log\pi`, shape ``(..., n)``.
        action_values: :math:`q`, exact or estimated, of a shape that broadcasts with it.
        step_size: :math:`\eta > 0`, a number or a tensor of the batch's shape; infinity allowed.
        temperature: :math:`\tau \ge 0`, likewise, but finite. With an infinite step and
            temperature 0 all mass goes to the best of what the blueprint may do.
        magnet: :math:`\log\rho`, shape ``(..., n)``; uniform over what the blueprint may do by
            default.

    Returns:
        Log-probabilities ``(..., n)``.

    Raises:
        TypeError: no tensors of one dtype.
        ValueError: no log-probabilities, shapes that do not broadcast, a NaN, out of range, or a
            magnet with probability 0 where the blueprint has more.

    Source:
        Sokota et al. (2024).
    """
    law = require_log_probabilities("log_policy", log_policy)
    values = require_tensor("action_values", action_values)
    require_same_kind("action_values", values, "log_policy", law)
    require_finite("action_values", values)
    if values.shape[-1] != law.shape[-1]:
        raise ValueError(
            f"action_values: expected {law.shape[-1]} entries in the last axis, got shape "
            f"{tuple(values.shape)}"
        )
    require_broadcast("action_values", values.shape, law.shape)
    if magnet is None:
        pull = torch.where(law > -torch.inf, torch.zeros_like(law), -torch.inf)
    else:
        pull = require_log_probabilities("magnet", magnet)
        require_same_kind("magnet", pull, "log_policy", law)
        if pull.shape[-1] != law.shape[-1]:
            raise ValueError(
                f"magnet: expected {law.shape[-1]} entries in the last axis, got shape "
                f"{tuple(pull.shape)}"
            )
        require_broadcast("magnet", pull.shape, law.shape)
        held = (pull > -torch.inf) | (law == -torch.inf)
        require_values("magnet", pull.expand_as(held), held, "a magnet above probability 0 where "
                       "the blueprint is")  # fmt: skip
    batch = torch.broadcast_shapes(law.shape, values.shape, pull.shape)[:-1]
    step = require_scale("step_size", step_size, law, batch, strict=True, infinite=True, trailing=1)
    weight = require_scale("temperature", temperature, law, batch, trailing=1)
    return _step(law, values, step, weight, pull)


def _step(
    law: Tensor, values: Tensor, step: float | Tensor, weight: float | Tensor, pull: Tensor
) -> Tensor:
    """The step, and its limit where it is infinite without a magnet."""
    pull_or_none = pull if isinstance(weight, Tensor) or weight > 0 else None
    if not isinstance(step, Tensor) and not isinstance(weight, Tensor):
        if math.isinf(step) and weight == 0:
            return _greedy(law, values)
        return entropy_step(law, -values, step, pull_or_none, weight)
    steps, weights = (
        v if isinstance(v, Tensor) else law.new_full((), v) for v in (step, weight)
    )  # fmt: skip
    endless = steps.isinf() & (weights == 0)
    finite = torch.where(endless, 1.0, steps)
    moved = entropy_step(law, -values, finite, pull_or_none, weight)
    return torch.where(endless, _greedy(law, values), moved)


def _greedy(law: Tensor, values: Tensor) -> Tensor:
    """The blueprint, restricted to the best of what it may do."""
    worth = torch.where(law > -torch.inf, values, -torch.inf)
    best = worth == worth.amax(-1, keepdim=True)
    return torch.where(best, law, -torch.inf).log_softmax(-1)


@overload
def exact_search_policy(
    game: ExtensiveGame | MatrixGame | TinyHanabi,
    log_policy: tuple[Tensor, ...],
    step_size: float | Tensor,
    *,
    players: str | int | Iterable[int] = ...,
    temperature: float | Tensor = ...,
    magnet: tuple[Tensor, ...] | None = ...,
) -> tuple[Tensor, Tensor]: ...


@overload
def exact_search_policy(
    game: CommonPayoffGame,
    log_policy: tuple[Tensor, ...],
    step_size: float | Tensor,
    *,
    players: str | int | Iterable[int] = ...,
    temperature: float | Tensor = ...,
    magnet: tuple[Tensor, ...] | None = ...,
) -> tuple[Tensor, ...]: ...


def exact_search_policy(
    game: Game,
    log_policy: tuple[Tensor, ...],
    step_size: float | Tensor,
    *,
    players: str | int | Iterable[int] = "all",
    temperature: float | Tensor = 0.0,
    magnet: tuple[Tensor, ...] | None = None,
) -> tuple[Tensor, ...]:
    r"""What is played if a search with exact values runs at every decision point.

    Definition ``def-update-equivalence``: one iteration of (magnetic) mirror descent from the
    blueprint, all rows at once.

    Args:
        game: a game with a common payoff, or a zero-sum game of two players.
        log_policy: the blueprint, one tensor a player, as the game takes it.
        step_size: :math:`\eta > 0`, a number or a tensor of the batch's shape; infinity allowed.
        players: who searches: ``"all"``, a player's number, or several; the others keep to the
            blueprint.
        temperature: :math:`\tau \ge 0`, likewise.
        magnet: one tensor a player; uniform over what the blueprint may do by default.

    Returns:
        One tensor of log-probabilities a player, in memory of their own.

    Raises:
        TypeError: no such game, or tensors of a wrong kind.
        ValueError: a wrong shape or range, or a player whom the game does not have.

    Source:
        Sokota et al. (2024).
    """
    axes = _row_axes(game)
    values = action_values(game, log_policy)
    chosen = _chosen(players, len(axes))
    pulls: tuple[Tensor | None, ...] = (None,) * len(axes)
    if magnet is not None:
        if not isinstance(magnet, (tuple, list)) or len(magnet) != len(axes):
            raise TypeError(f"magnet: expected one tensor for each of {len(axes)} players")
        pulls = tuple(magnet)
    found = []
    for player, (law, worth) in enumerate(zip(log_policy, values, strict=True)):
        if player not in chosen:
            found.append(law.clone())
            continue
        step, weight = (_per_row(v, axes[player]) for v in (step_size, temperature))
        found.append(magnetic_search(law, worth, step, weight, pulls[player]))
    return tuple(found)


def action_values(game: Game, log_policy: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The return expected after each action by whoever is in a row, equation ``eq-search-value``.

    Args:
        game: as :func:`exact_search_policy` takes it.
        log_policy: the blueprint, one tensor a player.

    Returns:
        One tensor a player, shaped like the blueprint's.

    Raises:
        TypeError: no such game, or tensors of a wrong kind.
        ValueError: a wrong shape, a NaN, or no log-probabilities.
    """
    if isinstance(game, MatrixGame):
        joint = game.check("log_policy", log_policy).exp()
        return game.split(-game.losses(joint))
    _row_axes(game)
    return game.action_values(log_policy)  # type: ignore[arg-type]


def sampled_action_values(
    game: TinyHanabi | CommonPayoffGame | ExtensiveGame,
    log_policy: tuple[Tensor, ...],
    samples: int,
    generator: torch.Generator,
) -> tuple[Tensor, ...]:
    """Action values from sampled play, as a search has them, in every row at once.

    In a row what cannot be seen there is drawn from its law given the row: by chance and by the
    others' blueprints. Every legal action is tried on the same draws, and the game is played on by
    the blueprint. The means have no bias (equation ``eq-sampled-value``).

    Args:
        game: a game with a common payoff, or a zero-sum game in extensive form.
        log_policy: the blueprint, one tensor a player; leading axes are searches of their own.
        samples: :math:`M`, draws for each row.
        generator: draws them.

    Returns:
        One tensor a player, shaped like the blueprint's; 0 as in :func:`action_values`.

    Raises:
        TypeError: no such game, or tensors of a wrong kind.
        ValueError: a wrong shape, a NaN, no log-probabilities, or no sample.
    """
    count = require_count("samples", samples)
    if isinstance(game, ExtensiveGame):
        game.check("log_policy", log_policy)
        ends = ends_of(game)
        policy = torch.cat(tuple(log_policy), -2).exp()
        whose = torch.where(ends.choices >= 0, ends.owner[ends.choices // ends.actions], 0)
        sign = 1 - 2 * whose.T.to(game.payoff.dtype)
        values = ends.sampled(policy, game.payoff * sign, count, generator)
        return values.split(game.rows, -2)
    if not isinstance(game, (TinyHanabi, CommonPayoffGame)):
        raise TypeError(
            f"game: expected a TinyHanabi, a CommonPayoffGame or an ExtensiveGame, got "
            f"{type(game).__name__}"
        )
    return game.sampled_values(log_policy, count, generator)


def _row_axes(game: object) -> tuple[int, ...]:
    """How many axes of rows each player's tensor has."""
    if isinstance(game, TinyHanabi):
        return (1, 2)
    if isinstance(game, MatrixGame):
        return (0, 0)
    if isinstance(game, ExtensiveGame):
        return (1, 1)
    if isinstance(game, CommonPayoffGame):
        return (1,) * game.players
    raise TypeError(
        "game: expected a TinyHanabi, a CommonPayoffGame, an ExtensiveGame or a MatrixGame, got "
        f"{type(game).__name__}"
    )


def _per_row(value: float | Tensor, axes: int) -> float | Tensor:
    """A tensor of the batch's shape, ready to meet rows."""
    if isinstance(value, Tensor) and value.ndim:
        return value.reshape(value.shape + (1,) * axes)
    return value


def _chosen(players: str | int | Iterable[int], count: int) -> set[int]:
    if isinstance(players, str):
        if players != "all":
            raise ValueError(f"players: expected 'all' or numbers of players, got {players!r}")
        return set(range(count))
    numbers = [players] if isinstance(players, int) else list(players)
    chosen = {require_count("players", number, 0) for number in numbers}
    if chosen and max(chosen) >= count:
        raise ValueError(f"players: expected numbers below {count}, got {max(chosen)}")
    return chosen
