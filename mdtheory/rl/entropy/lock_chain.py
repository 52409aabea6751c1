"""LockChain: a world of turns in which a long chain of right moves is paid once, at its end."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_scale, require_tensor
from mdtheory.convex.mirror_maps import entropy_step, kl


class TurnWorld(Protocol):
    """What a world of turns has; a turn is one or two tokens, all contexts are numbered.

    Attributes:
        seeds: number of worlds side by side.
        turns: turns after which an episode is cut.
        tokens: sizes of the vocabularies of a turn's tokens.
        features: what a policy sees in each context, ``([seeds,] contexts, inputs)``.
    """

    seeds: int
    turns: int
    tokens: tuple[int, ...]
    features: Tensor

    def start(self, groups: int, generator: torch.Generator) -> Tensor:
        """First contexts of groups of episodes.

        Args:
            groups: number of groups.
            generator: source of chance.

        Returns:
            Contexts, int64, shape ``(seeds, groups)``.
        """

    def step(self, context: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """One turn everywhere.

        Args:
            context: int64, shape ``(..., seeds, episodes)``.
            action: the turn's tokens as one number, the last token fastest, same shape.

        Returns:
            The next contexts, and whether the episode ended with success.
        """

    def success(self, log_policy: Tensor) -> Tensor:
        """Exact probability of success.

        Args:
            log_policy: log-probabilities of the actions, ``(..., seeds, contexts, actions)``.

        Returns:
            Shape ``(..., seeds)``.
        """


class Optimum(NamedTuple):
    """The best that any policy does; each of the shape of the entropy's weight.

    Attributes:
        value: success plus the weighted mean entropy.
        success: probability that all locks are open at the end.
        entropy: mean entropy of a token, in nats.
    """

    value: Tensor
    success: Tensor
    entropy: Tensor


class LockChain:
    """A chain of locks; in every turn a policy says a verb, then an object.

    The pair that opens the next lock depends on the goal, which is shown, and on how many locks
    are open; it is drawn for every seed. A wrong pair does nothing (or, if ``resets``, closes all
    locks). The reward is 1 once all are open, which ends the episode, and 0 after the last turn.

    A context is a goal, a number of open locks and a turn: ``goals * locks * turns`` of them, so
    policies can be written down as tables, sampled from them, and evaluated exactly.

    Args:
        seeds: number of worlds side by side, each with its own pairs.
        turns: turns in an episode.
        locks: locks in the chain.
        generator: source of the pairs; the world lives on its device.
        goals: number of goals.
        verbs: size of the first token's vocabulary.
        objects: size of the second's.
        resets: whether a wrong pair closes all locks again.

    Raises:
        TypeError: a number is no whole number.
        ValueError: a number is too small.

    Attributes:
        code: the pair that opens each lock, ``verb * objects + object``, ``(seeds, goals, locks)``.
        features: what a policy sees: goal and open locks, one-hot, and the share of turns gone;
            float32, shape ``(contexts, inputs)``.
    """

    def __init__(
        self,
        seeds: int,
        turns: int,
        locks: int,
        generator: torch.Generator,
        *,
        goals: int = 4,
        verbs: int = 5,
        objects: int = 8,
        resets: bool = False,
    ) -> None:
        self.seeds, self.turns = require_count("seeds", seeds), require_count("turns", turns)
        self.locks, self.goals = require_count("locks", locks), require_count("goals", goals)
        self.tokens: tuple[int, ...] = (
            require_count("verbs", verbs), require_count("objects", objects),
        )  # fmt: skip
        self.resets = resets
        device = generator.device
        self.code = torch.randint(
            verbs * objects, (seeds, goals, locks), generator=generator, device=device
        )
        goal, opened, turn = torch.cartesian_prod(
            *(torch.arange(n, device=device) for n in (goals, locks, turns))
        ).unbind(-1)
        self.features = torch.cat([
            torch.nn.functional.one_hot(goal, goals), torch.nn.functional.one_hot(opened, locks),
            (turn / turns)[:, None],
        ], -1)  # fmt: skip
        self._seed = torch.arange(seeds, device=device)[:, None]

    @property
    def contexts(self) -> int:
        """Number of contexts."""
        return self.goals * self.locks * self.turns

    def start(self, groups: int, generator: torch.Generator) -> Tensor:
        """First contexts: a goal for each group, no lock open, turn 0.

        Args:
            groups: number of groups.
            generator: source of the goals, on the world's device.

        Returns:
            Contexts, int64, shape ``(seeds, groups)``.
        """
        shape = (self.seeds, groups)
        goal = torch.randint(self.goals, shape, generator=generator, device=generator.device)
        return goal * (self.locks * self.turns)

    def step(self, context: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """One turn everywhere; unchecked.

        Args:
            context: int64, shape ``(..., seeds, episodes)``.
            action: ``verb * objects + object``, int64, same shape.

        Returns:
            The next contexts, and whether the last lock was opened. After the last turn, and once
            all locks are open, the context stays in range but means nothing.
        """
        place, turn = context // self.turns, context % self.turns
        opened = place % self.locks
        right = action == self.code.flatten(1)[self._seed, place]
        last = right & (opened == self.locks - 1)
        wrong = -opened if self.resets else torch.zeros_like(opened)
        moved = torch.where(last, 0, torch.where(right, 1, wrong))
        return context + moved * self.turns + (turn < self.turns - 1), last

    def success(self, log_policy: Tensor) -> Tensor:
        r"""Probability that a policy opens all locks, by dynamic programming: exact.

        Args:
            log_policy: log-probabilities of the pairs in each context, shape
                ``(..., seeds, contexts, verbs * objects)``.

        Returns:
            The mean over goals, shape ``(..., seeds)``.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: the shape does not fit.
        """
        require_tensor("log_policy", log_policy)
        wanted = (self.seeds, self.contexts, self.tokens[0] * self.tokens[1])
        if tuple(log_policy.shape[-3:]) != wanted:
            raise ValueError(
                f"log_policy: expected shape (..., {wanted[0]}, {wanted[1]}, {wanted[2]}), got "
                f"{tuple(log_policy.shape)}"
            )
        pair = self.code.flatten(1).repeat_interleave(self.turns, -1)[..., None]
        right = log_policy.gather(-1, pair.expand(*log_policy.shape[:-1], 1))[..., 0].exp()
        right = right.unflatten(-1, (self.goals, self.locks, self.turns))
        # The chance to end with all locks open, from each number of open locks; all open is 1.
        ahead = torch.zeros_like(right[..., 0])
        ahead = torch.cat([ahead, torch.ones_like(ahead[..., :1])], -1)
        for turn in range(self.turns - 1, -1, -1):
            back = ahead[..., :1] if self.resets else ahead[..., :-1]
            chance = right[..., turn]
            now = chance * ahead[..., 1:] + (1 - chance) * back
            ahead = torch.cat([now, ahead[..., -1:]], -1)
        return ahead[..., 0].mean(-1)

    def optimum(self, coefficient: float | Tensor = 0.0) -> Optimum:
        r"""The exact optimum of success plus an entropy bonus, by soft dynamic programming.

        The objective is :math:`V + \lambda H` with the mean entropy of all tokens of all turns;
        an episode goes on to its last turn here, with all locks open, so that each has as many
        tokens. By symmetry it is the same for all seeds and goals: only *right* and *wrong* count.

        Args:
            coefficient: :math:`\lambda \ge 0`, a number or a tensor of any shape.

        Returns:
            Value, success and entropy of the best policy, of the shape of ``coefficient``.

        Raises:
            TypeError: neither a number nor a tensor.
            ValueError: a negative or infinite coefficient.
        """
        like = torch.zeros((), dtype=torch.float64, device=self.code.device)
        like = coefficient if isinstance(coefficient, Tensor) else like
        weight = torch.as_tensor(require_scale("coefficient", coefficient, like)).to(like)
        pairs = self.tokens[0] * self.tokens[1]
        uniform = like.new_tensor([1 / pairs, (pairs - 1) / pairs]).log()
        # Two tokens a turn, so a turn's pair has this weight per nat.
        scale = weight[..., None] / (2 * self.turns)
        # By the number of open locks: value, success and entropy still to come, after the end.
        opened = torch.arange(self.locks + 1, device=like.device)
        ahead = (opened + 1).clamp(max=self.locks)
        back = torch.where(opened == self.locks, opened, 0) if self.resets else opened
        success = (opened == self.locks).to(like).expand(*weight.shape, -1)
        value, entropy = success, torch.zeros_like(success)
        for _ in range(self.turns):
            choices = [
                torch.stack([part[..., ahead], part[..., back]], -1)
                for part in (value, success, entropy)
            ]
            law = _best_law(choices[0], scale[..., None], uniform)
            nats = like.new_tensor(pairs).log() - kl(law, uniform)
            value, success, entropy = ((law.exp() * part).sum(-1) for part in choices)
            value, entropy = value + scale * nats, entropy + nats
        return Optimum(value[..., 0], success[..., 0], entropy[..., 0] / (2 * self.turns))


def _best_law(choices: Tensor, scale: Tensor, uniform: Tensor) -> Tensor:
    """The best law over right and wrong: the step of infinite length to a uniform magnet."""
    soft = scale > 0
    weight = torch.where(soft, scale, 1.0)
    law = entropy_step(torch.zeros_like(choices), -choices, torch.inf, uniform, weight)
    # Without a bonus the better of the two; where they tie, the uniform law.
    better = choices == choices.amax(-1, keepdim=True)
    plain = torch.where(better, uniform, -torch.inf).log_softmax(-1)
    return torch.where(soft, law, plain)
