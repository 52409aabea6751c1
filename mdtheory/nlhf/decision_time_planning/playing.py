"""Whole games of the small Hanabi, with and without search."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_count
from mdtheory.nlhf.decision_time_planning.beliefs import Belief
from mdtheory.nlhf.decision_time_planning.hanabi import HanabiState, SmallHanabi
from mdtheory.nlhf.decision_time_planning.search import PLAYS, mirror_descent_search

# A blueprint that plays the likeliest move, and one that draws it.
ROLLOUTS = ("sample", "argmax")


class HanabiRecord(NamedTuple):
    """What came of some games.

    Args:
        score: cards in the fireworks, ``(n,)``.
        lost: whether the lives were gone, ``(n,)``.
        searches: how many searches there were, in all games together.
        rollouts: how many games were played on inside them.
        changed: share of the searches whose move is not the blueprint's likeliest.
    """

    score: Tensor
    lost: Tensor
    searches: int
    rollouts: int
    changed: float


def roll_out(
    game: SmallHanabi,
    state: HanabiState,
    generator: torch.Generator,
    *,
    noise: float = 0.15,
    rollouts: str = "sample",
    groups: Tensor | None = None,
) -> Tensor:
    """Scores of games that the blueprint plays to their ends.

    Args:
        game: the rules.
        state: the games, over or not.
        generator: draws the moves.
        noise: of the blueprint.
        rollouts: ``"sample"``, or ``"argmax"`` for its likeliest move.
        groups: games with one number share their random numbers, ``(n,)``; by default none do.

    Returns:
        Scores ``(n,)``.
    """
    score = state.score().double()
    index = torch.nonzero(~state.over)[:, 0]
    state = state.take(index)
    group = torch.arange(len(score), device=index.device) if groups is None else groups
    count = int(group.max()) + 1 if len(group) else 0
    while len(index):
        number = torch.rand(count, generator=generator, dtype=score.dtype, device=index.device)
        law = game.blueprint(state, noise)
        move = draw(law, number[group[index]]) if rollouts == "sample" else law.argmax(-1)
        state = game._apply(state, move)
        score[index] = state.score().double()
        kept = ~state.over
        index, state = index[kept], state.take(kept)
    return score


def draw(log_policy: Tensor, number: Tensor) -> Tensor:
    """Moves drawn by inverting their law, so that one number gives alike laws alike moves.

    Args:
        log_policy: ``(n, moves)``.
        number: uniform in [0, 1), ``(n,)``.

    Returns:
        Moves ``(n,)``, none with probability 0.
    """
    below = log_policy.exp().cumsum(-1)
    found = (below <= (number * below[:, -1])[:, None]).sum(-1)
    last = (log_policy > -torch.inf).long().cumsum(-1).argmax(-1)
    return found.minimum(last)


def hanabi_action_values(
    game: SmallHanabi,
    state: HanabiState,
    belief: Belief,
    samples: int,
    generator: torch.Generator,
    *,
    rollouts: str = "sample",
) -> Tensor:
    """Mean scores after each legal move, with hands and decks from the belief.

    All moves of a game are tried on the same hands and decks, with the same random numbers.

    Args:
        game: the rules.
        state: games in which it is the belief's player's turn.
        belief: about these games and no others.
        samples: hands for each game.
        generator: draws hands, decks and moves.
        rollouts: as in :func:`roll_out`. The belief weighs moves by the softened blueprint all the
            same.

    Returns:
        Shape ``(n, moves)``, 0 where a move is not legal.
    """
    n, player = len(state.turn), belief.player
    every = torch.arange(n, device=state.turn.device)
    hands = belief.sample(every, samples, generator).flatten(0, 1)
    base = state.take(every.repeat_interleave(samples))
    base = game.with_hand(base, player, hands, base.deck)
    base = replace(base, deck=_shuffled(game, base, generator))
    legal = game.legal(state)
    row, move = torch.nonzero(legal, as_tuple=True)
    which = (row[:, None] * samples + torch.arange(samples, device=row.device)).flatten()
    after = game._apply(base.take(which), move.repeat_interleave(samples))
    score = roll_out(
        game, after, generator, noise=belief.noise, rollouts=rollouts, groups=which
    )  # fmt: skip
    values = score.new_zeros(legal.shape)
    values[row, move] = score.unflatten(0, (-1, samples)).mean(-1)
    return values


def _shuffled(game: SmallHanabi, state: HanabiState, generator: torch.Generator) -> Tensor:
    """Decks whose undrawn cards are what neither lies open nor is held, in random order."""
    size = state.deck.shape[1]
    held = game._counts(state.hand.flatten(1))
    rest = game.copies.to(held.device) - game.seen_by_all(state) - held
    ends = rest.cumsum(-1)
    slot = torch.arange(size, device=held.device).expand(len(rest), size).contiguous()
    kinds = torch.searchsorted(ends, slot, right=True).clamp(max=game.kinds - 1)
    key = torch.rand(slot.shape, generator=generator, device=held.device)
    order = torch.where(slot < ends[:, -1:], key, 2.0).argsort(-1)
    cards = kinds.gather(-1, order)
    place = (slot - state.drawn[:, None]).clamp(min=0)
    return torch.where(slot >= state.drawn[:, None], cards.gather(-1, place), state.deck)


def play_hanabi(
    game: SmallHanabi,
    state: HanabiState,
    generator: torch.Generator,
    *,
    searchers: Iterable[int] = (0,),
    samples: int = 10,
    step_size: float = 5.0,
    play: str = "argmax",
    rollouts: str = "sample",
    noise: float = 0.15,
) -> HanabiRecord:
    r"""Games from deal to end, some players searching, algorithm ``alg-hanabi-search``.

    Args:
        game: the rules.
        state: the games before the first move.
        generator: draws everything but the decks.
        searchers: who searches; the others draw from the blueprint (or play its likeliest move).
        samples: :math:`M`, hands for each search.
        step_size: :math:`\eta`, for values in points; infinite is Monte Carlo search.
        play: ``"sample"`` or ``"argmax"``, as in :func:`mirror_descent_search`.
        rollouts: ``"sample"``, or ``"argmax"`` for a blueprint that plays its likeliest move,
            inside the search and outside. Beliefs weigh moves by the softened blueprint all the
            same.
        noise: of the blueprint.

    Returns:
        What came of them.

    Raises:
        ValueError: a setting that is none.
    """
    count = require_count("samples", samples)
    if rollouts not in ROLLOUTS:
        raise ValueError(f"rollouts: expected one of {ROLLOUTS}, got {rollouts!r}")
    if play not in PLAYS:
        raise ValueError(f"play: expected one of {PLAYS}, got {play!r}")
    who = sorted(set(searchers))
    if not set(who) <= {0, 1}:
        raise ValueError(f"searchers: expected players among 0 and 1, got {who}")
    beliefs = [Belief(game, state, player, noise) for player in who]
    searches = total = changed = 0
    while not bool(state.over.all()):
        law = game.blueprint(state, noise)
        likeliest = law.argmax(-1)
        number = torch.rand(len(law), generator=generator, dtype=law.dtype, device=law.device)
        move = draw(law, number) if rollouts == "sample" else likeliest.clone()
        for belief in beliefs:
            rows = torch.nonzero((state.turn == belief.player) & ~state.over)[:, 0]
            if not len(rows):
                continue
            here = state.take(rows)
            values = hanabi_action_values(
                game, here, belief.of_games(rows), count, generator, rollouts=rollouts
            )
            searched = mirror_descent_search(law[rows], values, step_size, play=play)
            move[rows] = draw(searched, number[rows])
            searches += len(rows)
            total += count * int(game.legal(here).sum())
            changed += int((move[rows] != likeliest[rows]).sum())
        move = torch.where(state.over, 0, move)
        after = game._apply(state, move)
        for belief in beliefs:
            belief.update(state, move, after)
        state = after
    return HanabiRecord(
        state.score(), state.lives <= 0, searches, total, changed / max(searches, 1)
    )  # fmt: skip
