"""The backward curriculum as an environment, for loops that train networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdtheory.agents.distributions import Categorical
from mdtheory.agents.policies import Policy
from mdtheory.checks import require_count, require_number
from mdtheory.environments import Environment, TimeStep, World
from mdtheory.rl.exploration.robust import move_back, ways_of
from mdtheory.rl.exploration.tables import F64, TableGame, TableWorld, require_game


class StickyGame(Environment):
    """A table game with sticky actions, all episodes from the start.

    Args:
        game: the game.
        sticky: chance that the last action is repeated, in [0, 1).

    Raises:
        TypeError: ``game`` is no table game.
        ValueError: ``sticky`` is out of its range.
    """

    discrete = True

    def __init__(self, game: TableGame, sticky: float = 0.25) -> None:
        self.game = require_game("game", game)
        if require_number("sticky", sticky, 0.0) >= 1:
            raise ValueError(f"sticky: expected a number in [0, 1), got {sticky!r}")
        self.sticky = sticky
        self.observed, self.actions = game.observed, game.actions

    def start(self, seeds: int, copies: int, generator: torch.Generator) -> World:
        """Copies of the game for each seed; see :meth:`Environment.start`."""
        return TableWorld(self.game, seeds, copies, generator, self.sticky)


class BackwardGame(StickyGame):
    """The game with starts that move backward along demonstrations, each seed by its successes.

    Algorithm ``alg-backward`` around whatever loop trains on this environment.

    Args:
        game: the game.
        demonstrations: action sequences from the start.
        sticky: chance that the last action is repeated, in [0, 1).
        threshold: share of successes at which the start moves, in (0, 1].
        window: starts are drawn from this many steps of the demonstration.
        back: how far the start moves.
        trials: episodes that end before successes are counted, for each seed and demonstration.

    Raises:
        TypeError: ``game`` is no table game.
        ValueError: no demonstrations, one that the game does not allow, or a number out of range.
    """

    def __init__(
        self,
        game: TableGame,
        demonstrations: Sequence[Sequence[int]],
        sticky: float = 0.25,
        *,
        threshold: float = 0.2,
        window: int = 8,
        back: int = 2,
        trials: int = 64,
    ) -> None:
        super().__init__(game, sticky)
        for name, count in (("window", window), ("back", back), ("trials", trials)):
            require_count(name, count)
        if require_number("threshold", threshold, 0.0, strict=True) > 1:
            raise ValueError(f"threshold: expected a number in (0, 1], got {threshold!r}")
        ways_of(game, demonstrations, torch.device("cpu"))
        self.demonstrations = [list(way) for way in demonstrations]
        self.threshold, self.window, self.back = threshold, window, back
        self.trials = trials

    def start(self, seeds: int, copies: int, generator: torch.Generator) -> BackwardWorld:
        """Copies of the game for each seed; see :meth:`Environment.start`."""
        return BackwardWorld(self, seeds, copies, generator)


class BackwardWorld(TableWorld):
    """Running copies of :class:`BackwardGame`.

    Attributes:
        index: where on each demonstration the episodes begin, int64, ``(seeds, demonstrations)``.
    """

    def __init__(
        self, given: BackwardGame, seeds: int, copies: int, generator: torch.Generator
    ) -> None:
        super().__init__(given.game, seeds, copies, generator, given.sticky)
        device = generator.device
        self.ways = ways_of(given.game, given.demonstrations, device)
        self.threshold, self.window, self.back = given.threshold, given.window, given.back
        self.trials = given.trials
        self.index = (self.ways.lengths - 1).expand(seeds, -1).clone()
        self.tried = torch.zeros(self.index.shape, dtype=F64, device=device)
        self.won = torch.zeros_like(self.tried)
        self.demo = torch.zeros(self.shape, dtype=torch.int64, device=device)
        self.goal = torch.zeros(self.shape, dtype=F64, device=device)
        self.earned = torch.zeros_like(self.goal)
        self.drawn = self.demo, self.goal

    def reset(self) -> Tensor:
        """Start new episodes everywhere; see :meth:`World.reset`."""
        observation = super().reset()
        self.demo, self.goal = self.drawn
        self.earned = torch.zeros_like(self.goal)
        return observation

    def _first(self) -> Tensor:
        device, lengths = self.index.device, self.ways.lengths
        demo = torch.randint(len(lengths), self.shape, generator=self.generator, device=device)
        spread = torch.rand(self.shape, generator=self.generator, device=device)
        low = self.index.gather(1, demo)
        wide = torch.minimum(low + self.window, lengths[demo]) - low
        place = low + (spread * wide).long()
        self.drawn = demo, self.ways.ahead[demo, place]
        start = self.ways.states[demo, place]
        return torch.stack([start // self.game_actions, start % self.game_actions], -1)

    def step(self, action: Tensor) -> TimeStep:
        """Act once everywhere; see :meth:`World.step`."""
        fresh = self.over
        result = super().step(action)
        demo, goal = self.drawn
        self.demo = torch.where(fresh, demo, self.demo)
        self.goal = torch.where(fresh, goal, self.goal)
        self.earned = torch.where(fresh, 0.0, self.earned + result.reward)
        over, won = self.over.double(), (self.over & (self.earned >= self.goal - 1e-6)).double()
        self.tried = self.tried.scatter_add(1, self.demo, over)
        self.won = self.won.scatter_add(1, self.demo, won)
        enough = self.tried >= self.trials
        share = torch.where(enough, self.won / self.tried, 0.0)
        self.index = move_back(self.index, share, self.threshold, self.back)
        self.tried = torch.where(enough, 0.0, self.tried)
        self.won = torch.where(enough, 0.0, self.won)
        return result


@torch.no_grad()
def tabulate(policy: Policy, game: TableGame) -> Tensor:
    """A trained policy as a table, to be evaluated exactly.

    Args:
        policy: networks of all seeds, trained on the game.
        game: the game.

    Returns:
        Probabilities for the process of :meth:`TableGame.sticky`, float64, shape
        ``(seeds, S * A + 1, A)``; uniform in its last state, the end.
    """
    device = policy.parameters[0].device
    seeds, actions = policy.parameters[0].shape[0], game.actions
    features = game.features.repeat_interleave(actions, 0)
    moves = torch.eye(actions).repeat(game.states, 1)
    seen = torch.cat([features, moves], 1).to(device).expand(seeds, -1, -1)
    law = policy.law(policy.see(seen))
    assert isinstance(law, Categorical)
    table = law.logits.double().softmax(-1)
    return torch.cat([table, table.new_full((seeds, 1, actions), 1 / actions)], 1)
