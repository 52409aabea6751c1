"""Phase two: a policy that stands noise, trained backward along demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number
from mdtheory.convex.mirror_maps import entropy_step
from mdtheory.rl.exploration.tables import F64, TableGame, follow, require_game

# Visits that a state's running value, and an action's advantage, count for more than one batch:
# means of few samples are drawn towards what was known, or towards 0.
VALUE_PRIOR, ADVANTAGE_PRIOR = 20.0, 3.0


class Robust(NamedTuple):
    """What :func:`robustify` returns.

    Attributes:
        policy: probabilities for the process of :meth:`TableGame.sticky`, shape ``(S * A + 1, A)``.
        start_index: where on the demonstrations the episodes began in the end, 0 for the start;
            the largest of all demonstrations.
        success: share of the last episodes that did as well as the demonstration.
    """

    policy: Tensor
    start_index: int
    success: float


class Batch(NamedTuple):
    """Episodes side by side: one row a step, one column an episode.

    Attributes:
        places: state of the sticky process before each step.
        wanted: the action that was wanted.
        rewards: what the step gave; 0 after the end.
        used: whether the wanted action was made, and the episode not over before.
        alive: whether the episode was not over before.
    """

    places: Tensor
    wanted: Tensor
    rewards: Tensor
    used: Tensor
    alive: Tensor


def robustify(
    environment: TableGame,
    demonstrations: Sequence[Sequence[int]],
    generator: torch.Generator,
    *,
    sticky: float = 0.25,
    threshold: float = 0.2,
    window: int = 8,
    back: int = 2,
    discount: float = 0.99,
    step_size: float = 0.5,
    steps: int = 3_000_000,
    episodes: int = 128,
    limit: int = 300,
    curriculum: bool = True,
) -> Robust:
    r"""Train a policy for sticky actions on starts that move backward along demonstrations.

    Algorithm ``alg-backward``. Each batch of episodes is one mirror step ``eq-robust-step`` on
    advantages that were sampled. Where the share of episodes that earn what the demonstration
    earned from the same start reaches ``threshold``, the start moves ``back``. Once all starts are
    at the beginning the steps fall linearly to 0.

    Args:
        environment: the game.
        demonstrations: action sequences from the start.
        generator: source of randomness; the training runs on its device.
        sticky: chance that the last action is repeated whatever the policy wants, in [0, 1).
        threshold: share of successes at which the start moves, in (0, 1].
        window: starts are drawn from this many steps of the demonstration.
        back: how far the start moves.
        discount: :math:`\gamma`, in [0, 1).
        step_size: :math:`\eta` of the mirror steps.
        steps: steps of the game in all; the last batch is finished.
        episodes: of a batch.
        limit: steps after which an episode is cut.
        curriculum: whether to start on the demonstrations; without, every episode begins at the
            start, and what remains is mirror descent policy optimisation on tables.

    Returns:
        The policy, where its episodes began in the end, and their last share of successes.

    Raises:
        TypeError: ``environment`` is no table game.
        ValueError: no demonstrations, one that the game does not allow, or a number out of range.

    Source:
        Salimans and Chen (2018), the curriculum; Ecoffet et al. (2019), section 2.2.
    """
    game = require_game("environment", environment)
    for name, count in (("window", window), ("back", back), ("steps", steps),
                        ("episodes", episodes), ("limit", limit)):  # fmt: skip
        require_count(name, count)
    for name, number, strict in (("sticky", sticky, False), ("discount", discount, False)):
        if require_number(name, number, 0.0, strict=strict) >= 1:
            raise ValueError(f"{name}: expected a number in [0, 1), got {number!r}")
    if require_number("threshold", threshold, 0.0, strict=True) > 1:
        raise ValueError(f"threshold: expected a number in (0, 1], got {threshold!r}")
    require_number("step_size", step_size, 0.0, strict=True)
    ways = ways_of(game, demonstrations, generator.device)
    start = ways.lengths - 1 if curriculum else torch.zeros_like(ways.lengths)
    learner = _Learner(game, step_size, discount, generator)
    done, since, success = 0, None, 0.0
    while done < steps:
        at_start = bool((start == 0).all())
        since = done if at_start and since is None else since
        fall = 1.0 if since is None else (steps - done) / (steps - since)
        demo = torch.randint(
            len(ways.lengths), (episodes,), generator=generator, device=generator.device
        )
        spread = torch.rand(episodes, generator=generator, device=generator.device)
        wide = torch.minimum(start + window, ways.lengths) - start if curriculum else start + 1
        place = start[demo] + (spread * wide[demo]).long()
        batch = learner.play(ways.states[demo, place], sticky, limit)
        learner.learn(batch, fall)
        won = batch.rewards.sum(0) >= ways.ahead[demo, place] - 1e-9
        done += int(batch.alive.sum())
        success = won.double().mean().item()
        tried = torch.bincount(demo, minlength=len(start))
        share = torch.bincount(demo, won.double(), len(start)) / tried
        start = move_back(start, share, threshold, back)
    return Robust(learner.log_policy.exp(), int(start.max()), success)


def move_back(index: Tensor, successes: Tensor, threshold: float = 0.2, back: int = 2) -> Tensor:
    """Where episodes begin next: earlier, once enough of them do as well as the demonstration.

    Args:
        index: where they began, int64, any shape.
        successes: share that did as well, of that shape; NaN where none was tried.
        threshold: the share at which the start moves; it suffices to reach it.
        back: how far.

    Returns:
        The indices, at least 0.
    """
    return torch.where(successes >= threshold, (index - back).clamp(min=0), index)


class Ways(NamedTuple):
    """Demonstrations side by side, filled up with zeros.

    Attributes:
        states: state of the sticky process before each step, shape ``(n, longest)``.
        ahead: the rewards still to come, not discounted, of that shape.
        lengths: steps of each, shape ``(n,)``.
    """

    states: Tensor
    ahead: Tensor
    lengths: Tensor


def ways_of(game: TableGame, demonstrations: Sequence[Sequence[int]], device: torch.device) -> Ways:
    """Demonstrations as states and rewards.

    Args:
        game: the game.
        demonstrations: action sequences from the start.
        device: where the tensors are wanted.

    Returns:
        All of them.

    Raises:
        ValueError: none, or one that the game does not allow.
    """
    if len(demonstrations) == 0:
        raise ValueError("demonstrations: expected at least one")
    longest = max(len(way) for way in demonstrations)
    places = torch.zeros(len(demonstrations), longest, dtype=torch.int64)
    ahead = torch.zeros(len(demonstrations), longest, dtype=F64)
    for k, way in enumerate(demonstrations):
        states, rewards = follow(game, list(way))
        places[k, : len(way)] = states * game.actions + torch.tensor([0, *way[:-1]])
        ahead[k, : len(way)] = rewards.flip(0).cumsum(0).flip(0)
    lengths = torch.tensor([len(way) for way in demonstrations])
    return Ways(places.to(device), ahead.to(device), lengths.to(device))


class _Learner:
    """A policy and a running value for every state of the sticky process."""

    def __init__(
        self, game: TableGame, step_size: float, discount: float, generator: torch.Generator
    ) -> None:
        self.generator, device = generator, generator.device
        self.step_size, self.discount, self.actions = step_size, discount, game.actions
        self.next, self.reward = game.next.to(device), game.reward.to(device)
        self.end = game.end.to(device)
        shape = (game.states * game.actions + 1, game.actions)
        zeros = torch.zeros(shape, dtype=F64, device=device)
        self.log_policy = zeros.log_softmax(-1)
        self.value = zeros[:, 0].clone()

    def play(self, places: Tensor, sticky: float, limit: int) -> Batch:
        """Episodes from these states."""
        shape, device = (2, limit, len(places)), places.device
        draws = torch.rand(shape, generator=self.generator, device=device, dtype=F64)
        chances = self.log_policy.exp().cumsum(-1)[:, :-1]
        alive = torch.ones_like(places, dtype=torch.bool)
        kept: list[tuple[Tensor, ...]] = []
        for u, stick in zip(draws[0], draws[1] < sticky, strict=True):
            state, before = places // self.actions, places % self.actions
            wanted = (chances[places] <= u[:, None]).sum(1)
            action = torch.where(stick, before, wanted)
            kept.append((
                places, wanted, self.reward[state, action] * alive, alive & ~stick, alive
            ))  # fmt: skip
            alive = alive & ~self.end[state, action]
            places = self.next[state, action] * self.actions + action
            if not bool(alive.any()):
                break
        return Batch(*(torch.stack(part) for part in zip(*kept, strict=True)))

    def learn(self, batch: Batch, fall: float) -> None:
        """One mirror step on the advantages of a batch, times ``fall``."""
        to_come = torch.zeros_like(batch.rewards)
        ahead = torch.zeros_like(batch.rewards[0])
        for k in range(len(to_come) - 1, -1, -1):
            ahead = batch.rewards[k] + self.discount * ahead
            to_come[k] = ahead
        met, gains = batch.places[batch.alive], to_come[batch.alive]
        visits = torch.zeros_like(self.value).index_add(0, met, torch.ones_like(gains))
        total = torch.zeros_like(self.value).index_add(0, met, gains)
        # A running mean that trusts a batch the more, the more of it there is.
        self.value = self.value + (total - visits * self.value) / (visits + VALUE_PRIOR)
        pairs = (batch.places * self.actions + batch.wanted)[batch.used]
        excess = to_come[batch.used] - self.value[batch.places[batch.used]]
        zero = torch.zeros_like(self.log_policy).flatten()
        tries = zero.index_add(0, pairs, torch.ones_like(excess))
        advantage = zero.index_add(0, pairs, excess) / (tries + ADVANTAGE_PRIOR)
        ascent = advantage.reshape(self.log_policy.shape)
        self.log_policy = entropy_step(self.log_policy, -ascent, fall * self.step_size)
