"""Deterministic games as tables: to walk in, to train in, and to solve exactly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number
from mdtheory.environments import Environment, TensorWorld, World
from mdtheory.environments.simulators import Simulator
from mdtheory.rl.policy_mirror_descent import TabularMDP

F64 = torch.float64


class TableGame(Simulator, Environment):
    """A deterministic game with finitely many states, in two tables and a mark for its ends.

    One copy is a :class:`Simulator` whose state is a number; many copies are a world of
    :meth:`start`; with sticky actions it is a Markov decision process, :meth:`sticky`.

    Args:
        next: state after each action, int64, shape ``(S, A)``; what stands where the game ends
            plays no part.
        reward: of each action, float64, shape ``(S, A)``.
        end: whether the action ends the game, truth values ``(S, A)``.
        features: what a network sees of each state, shape ``(S, d)``; all states apart by default.
        limit: steps after which an episode of a world is cut.

    Attributes:
        initial: the first state, 0.
        next: as given.
        reward: as given.
        end: as given.
    """

    initial = 0
    discrete = True

    def __init__(
        self,
        next: Tensor,  # noqa: A002
        reward: Tensor,
        end: Tensor,
        features: Tensor | None = None,
        limit: int = 500,
    ) -> None:
        if next.ndim != 2 or reward.shape != next.shape or end.shape != next.shape:
            raise ValueError(
                f"next, reward, end: expected one shape (S, A), got {tuple(next.shape)}, "
                f"{tuple(reward.shape)}, {tuple(end.shape)}"
            )
        if not bool(((next >= 0) & (next < len(next))).all()):
            raise ValueError(f"next: expected states below {len(next)}")
        self.next, self.reward, self.end = next, reward.to(F64), end
        self.states, self.actions = next.shape
        self.features = torch.eye(self.states) if features is None else features.float()
        self.observed = self.features.shape[1] + self.actions
        self.limit = require_count("limit", limit)
        self._rows = list(zip(next.tolist(), reward.tolist(), end.tolist(), strict=True))
        self.here = self.initial

    def reset(self) -> None:
        """Begin at the first state."""
        self.here = self.initial

    def state(self) -> int:
        """The number of the state."""
        return self.here

    def restore(self, state: int) -> None:
        """Go to a state."""
        self.here = state

    def view(self) -> int:
        """The number of the state."""
        return self.here

    def step(self, action: int) -> tuple[float, bool]:
        """Act once; see :meth:`Simulator.step`."""
        after, reward, end = self._rows[self.here]
        self.here = after[action]
        return reward[action], end[action]

    def start(self, seeds: int, copies: int, generator: torch.Generator) -> World:
        """Copies without sticky actions, all from the first state; see :meth:`Environment.start`.

        What is seen are the features and the last action, one-hot.
        """
        return TableWorld(self, seeds, copies, generator)

    def mdp(self, discount: float = 0.99) -> TabularMDP:
        """The game as a Markov decision process; its last state is the end.

        Args:
            discount: in [0, 1).

        Returns:
            A process with ``S + 1`` states and a sparse transition matrix.
        """
        after = torch.where(self.end, self.states, self.next)
        loop = torch.full((1, self.actions), self.states)
        return _process(torch.cat([after, loop])[..., None], _padded(self.reward), None, discount)

    def sticky(self, p: float = 0.25, discount: float = 0.99) -> TabularMDP:
        r"""The game where the last action is repeated with probability ``p`` whatever one wants.

        Equation ``eq-sticky``. State ``s * A + b`` is state ``s`` after the action ``b``; the game
        begins in ``initial * A``, as if after action 0; the last state is the end.

        Args:
            p: chance of a repetition, in [0, 1].
            discount: in [0, 1).

        Returns:
            A process with ``S * A + 1`` states and a sparse transition matrix.

        Raises:
            ValueError: a number out of range.
        """
        if require_number("p", p, 0.0) > 1:
            raise ValueError(f"p: expected a probability, got {p!r}")
        actions, end = self.actions, self.states * self.actions
        play = torch.arange(actions)
        after = torch.where(self.end, end, self.next * actions + play)
        wanted = after[:, None, :].expand(-1, actions, -1).flatten(0, 1)
        forced = after[:, :, None].expand(-1, -1, actions).flatten(0, 1)
        targets = torch.stack([wanted, forced], -1)
        targets = torch.cat([targets, torch.full((1, actions, 2), end)])
        gain = (1 - p) * self.reward[:, None, :] + p * self.reward[:, :, None]
        return _process(targets, _padded(gain.flatten(0, 1)), p, discount)


def _padded(reward: Tensor) -> Tensor:
    """With a row of zeros for the end."""
    return torch.cat([reward, reward.new_zeros(1, reward.shape[1])])


def _process(targets: Tensor, reward: Tensor, p: float | None, discount: float) -> TabularMDP:
    """A process whose rows have one target, or a wanted one and one that comes with chance p."""
    states, actions, ways = targets.shape
    rows = torch.arange(states * actions).repeat_interleave(ways)
    chance = torch.tensor([1.0] if p is None else [1 - p, p], dtype=F64)
    matrix = torch.sparse_coo_tensor(
        torch.stack([rows, targets.flatten()]),
        chance.expand(states * actions, -1).flatten(),
        (states * actions, states),
        check_invariants=False,
    ).coalesce()
    return TabularMDP(matrix, reward, discount)


class TableWorld(TensorWorld):
    """Copies of a table game, with sticky actions and a law of first states.

    Args:
        game: the game.
        seeds: number of seeds.
        copies: copies of each.
        generator: source of randomness; the world lives on its device.
        sticky: chance that the last action is repeated.
        starts: states and the actions before them to begin with, drawn with equal chances, int64,
            shape ``(n, 2)``; the first state after action 0 by default.
    """

    width = 2

    def __init__(
        self,
        game: TableGame,
        seeds: int,
        copies: int,
        generator: torch.Generator,
        sticky: float = 0.0,
        starts: Tensor | None = None,
    ) -> None:
        super().__init__(seeds, copies, generator, torch.int64)
        device = generator.device
        if starts is None:
            starts = torch.tensor([[game.initial, 0]])
        self.limit, self.chance, self.starts = game.limit, sticky, starts.to(device)
        self.next, self.end = game.next.to(device), game.end.to(device)
        self.game_actions = game.actions
        self.gain = game.reward.to(device, torch.float32)
        moves = torch.eye(game.actions)
        self.features, self.moves = game.features.to(device), moves.to(device)

    def _first(self) -> Tensor:
        if len(self.starts) == 1:
            return self.starts[0].expand(*self.shape, 2).clone()
        place = torch.randint(
            len(self.starts), self.shape, generator=self.generator, device=self.starts.device
        )
        return self.starts[place]

    def _move(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        here, before = state.unbind(-1)
        if self.chance > 0:
            draw = torch.rand(self.shape, generator=self.generator, device=here.device)
            action = torch.where(draw < self.chance, before, action)
        after = torch.stack([self.next[here, action], action], -1)
        return after, self.gain[here, action], self.end[here, action]

    def _observe(self, state: Tensor) -> Tensor:
        return torch.cat([self.features[state[..., 0]], self.moves[state[..., 1]]], -1)


def require_game(name: str, value: object) -> TableGame:
    """Refuse what is no table game.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, TableGame):
        raise TypeError(f"{name}: expected a TableGame, got {type(value).__name__}")
    return value


def follow(game: TableGame, actions: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The states before each of these actions from the start, and the rewards.

    Args:
        game: the game.
        actions: what to do; none may come after the end.

    Returns:
        States, int64, and rewards, float64, each of shape ``(len(actions),)``.

    Raises:
        ValueError: no actions, one that the game does not have, or one after its end.
    """
    if len(actions) == 0:
        raise ValueError("actions: expected at least one")
    states: list[int] = []
    rewards: list[float] = []
    here, over = game.initial, False
    for action in actions:
        if over or not 0 <= action < game.actions:
            what = "none after the end" if over else f"numbers below {game.actions}"
            raise ValueError(f"actions: expected {what}, got {action!r} after {len(states)}")
        states.append(here)
        after, reward, end = game._rows[here]
        here, over = after[action], end[action]
        rewards.append(reward[action])
    return torch.tensor(states), torch.tensor(rewards, dtype=F64)
