"""Shared by the tests of search at decision time."""

import itertools
import math

import torch

from mdtheory.nlhf import decision_time_planning as dtp
from mdtheory.nlhf.games import Chance, Decision, Terminal

F64 = torch.float64


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def tiny(generator, batch=(), x=3, y=2, a=2, b=3, prior=True):
    """Random payoffs in [0, 1], cards that are not independent."""
    payoff = torch.rand(*batch, x, y, a, b, generator=generator, dtype=F64)
    law = torch.rand(*batch, x, y, generator=generator, dtype=F64) + 0.1
    law = law / law.sum((-2, -1), keepdim=True)
    return dtp.TinyHanabi(payoff, law if prior else None)


def policy(game, generator, batch=(), spread=1.5):
    """A random policy with full support on the legal actions."""
    return tuple(
        (spread * torch.randn(*batch, *law.shape, generator=generator, dtype=F64))
        .masked_fill(law == -math.inf, -math.inf)
        .log_softmax(-1)
        for law in game.uniform()
    )


def to_unit(payoff):
    """Payoffs from 0 to 1 in each game, or 0 where all are equal."""
    low, high = payoff.amin(-1, keepdim=True), payoff.amax(-1, keepdim=True)
    return (payoff - low) / torch.where(high > low, high - low, 1.0)


def relay(rounds, cards, actions, generator, batch=(), coarse=False):
    """Two players with a private card each speak in turn; all that is said is heard."""
    rows, seen = [], {}
    for pair in itertools.product(range(cards), repeat=2):
        for said in itertools.product(range(actions), repeat=rounds):
            path = [
                seen.setdefault((t % 2, pair[t % 2], said[:t]), len(seen)) for t in range(rounds)
            ]
            rows.append((path, said))
    # Rows of the first player before those of the second.
    order = sorted(seen, key=lambda key: key[0])
    place = {seen[key]: k for k, key in enumerate(order)}
    path = torch.tensor([[place[row] for row in path] for path, _ in rows])
    said = torch.tensor([said for _, said in rows])
    owner = torch.tensor([key[0] for key in order])
    payoff = torch.rand(*batch, len(rows), generator=generator, dtype=F64)
    if coarse:
        payoff = payoff.round()
    payoff = to_unit(payoff)
    chance = torch.full((len(rows),), 1 / cards**2, dtype=F64)
    return dtp.CommonPayoffGame(payoff, chance, path, said, owner)


def once(players, types, actions, generator, batch=(), payoff=None):
    """Every player knows his type, acts once, and sees nothing else."""
    every = list(itertools.product(itertools.product(range(types), range(actions)), repeat=players))
    rows = torch.tensor([[k * types + one[0] for k, one in enumerate(end)] for end in every])
    acts = torch.tensor([[one[1] for one in end] for end in every])
    owner = torch.arange(players).repeat_interleave(types)
    if payoff is None:
        payoff = torch.rand(*batch, len(every), generator=generator, dtype=F64)
        payoff = payoff.round() if generator.initial_seed() % 2 else payoff
        payoff = to_unit(payoff)
    chance = torch.full((len(every),), 1 / types**players, dtype=F64)
    return dtp.CommonPayoffGame(payoff, chance, rows, acts, owner)


def anti_coordination(z):
    """Two players are paid for doing different things; both do the first with sigma(z)."""
    payoff = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=F64)
    game = once(2, 1, 2, draws(), payoff=payoff)
    law = torch.stack([z, torch.zeros_like(z)], -1).log_softmax(-1)[..., None, :]
    return game, (law, law)


class Node:
    """A state of a random common-payoff tree: chance, the first, chance, the second, the first."""

    def __init__(self, payoff, path=()):
        self.payoff, self.path = payoff, path

    def child(self, step):
        return Node(self.payoff, (*self.path, step))


PAYOFFS = torch.rand(2, 2, 2, 3, 2, generator=draws(9), dtype=F64)


def describe(state):
    path = state.path
    if len(path) == 0:
        return Chance([(0.3, state.child(0)), (0.7, state.child(1))])
    if len(path) == 1:  # knows the card
        return Decision(0, ("first", path[0]), [(str(k), state.child(k)) for k in range(2)])
    if len(path) == 2:
        chance = 0.6 if path[0] == path[1] else 0.2
        return Chance([(chance, state.child(0)), (1 - chance, state.child(1))])
    if len(path) == 3:  # sees the move and a signal, not the card
        moves = range(3 if path[1] else 2)
        return Decision(1, ("second", path[1], path[2]), [(str(k), state.child(k)) for k in moves])
    if len(path) == 4 and path[3] != 1:  # sees the answer, not the signal
        return Decision(
            0, ("third", path[0], path[1], path[3]), [(str(k), state.child(k)) for k in range(2)]
        )
    index = (*path, 0) if len(path) == 4 else path
    return Terminal(PAYOFFS[index].item())


def searched_by_hand(state, law, wanted, describe=describe):
    """Values of a row's actions by a walk: histories, their posterior, and play from there on.

    ``law`` maps a row's name to probabilities; the searcher's own past is left out.
    """
    found = {}

    def worth(state):
        here = describe(state)
        if isinstance(here, Terminal):
            return here.payoff
        if isinstance(here, Chance):
            return sum(p * worth(following) for p, following in here.outcomes)
        return sum(
            p * worth(following)
            for p, (_, following) in zip(law[here.information], here.moves, strict=False)
        )

    def walk(state, weight):
        here = describe(state)
        if isinstance(here, Terminal):
            return
        if isinstance(here, Chance):
            for p, following in here.outcomes:
                walk(following, weight * p)
            return
        if here.information == wanted[1]:
            for k, (_, following) in enumerate(here.moves):
                total, mass = found.get(k, (0.0, 0.0))
                found[k] = (total + weight * worth(following), mass + weight)
        for p, (_, following) in zip(law[here.information], here.moves, strict=False):
            walk(following, weight * (1.0 if here.player == wanted[0] else float(p)))

    walk(state, 1.0)
    return [found[k][0] / found[k][1] for k in sorted(found)]
