"""Training with EPO's loss in a world of turns, all modes and seeds in one program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.agents import Network, adam, clip_gradients
from mdtheory.checks import require_count, require_number
from mdtheory.rl.entropy.lock_chain import LockChain, TurnWorld
from mdtheory.rl.entropy.smoothing import (
    Kind,
    entropy_terms,
    phase_weight,
    require_kind,
    token_weights,
)
from mdtheory.rl.group_relative import group_advantages
from mdtheory.rl.mdpo.losses import clipped_surrogate

REFERENCES = ("cumulative", "sliding", "fixed")


class Mode(NamedTuple):
    r"""How a run treats entropy; each has a default, and the defaults together are plain GRPO.

    Attributes:
        coefficient: :math:`\lambda \ge 0` of the bonus.
        penalty: :math:`\alpha \ge 0` of the smoothing.
        low: :math:`\kappa_\ell`.
        high: :math:`\kappa_r`.
        kind: of the penalty, ``"relu"`` or ``"indicator"``.
        reference: which past makes :math:`\bar H`: the mean over all updates so far
            (``"cumulative"``), over the last ten (``"sliding"``), over the first five
            (``"fixed"``).
        rate: what multiplies the learning rate.
    """

    coefficient: float = 0.0
    penalty: float = 0.0
    low: float = 0.5
    high: float = 1.5
    kind: Kind = "relu"
    reference: str = "cumulative"
    rate: float = 1.0


class MultiTurnRecord(NamedTuple):
    """What a training run leaves, before each update; all of shape ``(updates, modes, seeds)``.

    Attributes:
        success: exact probability of success of the policy that acts.
        entropy: mean entropy of the batch's tokens, in nats.
        early: the same over the first third of the turns.
        late: over the last third; NaN where no episode lasts that long.
        reference: what the corridor was built around; NaN in the first update.
        rewarded: share of the batch's episodes that ended with success.
    """

    success: Tensor
    entropy: Tensor
    early: Tensor
    late: Tensor
    reference: Tensor
    rewarded: Tensor


class Batch(NamedTuple):
    """Episodes of all runs, as they were sampled; shapes ``(modes, seeds, episodes, ...)``.

    Attributes:
        context: context of each turn, int64, ``(..., turns)``.
        tokens: what was said, int64, ``(..., turns, tokens)``.
        mask: which turns took place, bool, ``(..., turns)``.
        log_prob: of each token under the policy that said it, ``(..., turns, tokens)``.
        reward: 1 after success, else 0, ``(...)``.
    """

    context: Tensor
    tokens: Tensor
    mask: Tensor
    log_prob: Tensor
    reward: Tensor


def train_multi_turn(
    modes: Sequence[Mode],
    seeds: int,
    updates: int,
    *,
    generator: torch.Generator,
    world: TurnWorld | None = None,
    turns: int = 20,
    locks: int = 4,
    groups: int = 16,
    group: int = 8,
    epochs: int = 4,
    learning_rate: float = 0.003,
    clip: float = 0.2,
    width: int = 32,
    decay: float = 3.0,
) -> MultiTurnRecord:
    r"""Train a policy for every mode and seed by GRPO with EPO's entropy terms, ``eq-epo``.

    In each update every run draws ``groups`` first contexts and plays ``group`` episodes from
    each; the advantage of an episode is its reward, standardised in its group. Then come
    ``epochs`` steps of Adam on the clipped surrogate, a mean over all tokens, less the entropy
    terms. All modes of a seed meet the same world, first weights and random numbers.

    Args:
        modes: how runs treat entropy, at least one.
        seeds: number of seeds.
        updates: :math:`K \ge 2`.
        generator: source of chance; everything lives on its device.
        world: a world of ``seeds`` worlds; a :class:`LockChain` by default.
        turns: of that default.
        locks: of that default.
        groups: first contexts in an update.
        group: episodes from each, at least 2.
        epochs: steps on each batch.
        learning_rate: of Adam, above 0; :attr:`Mode.rate` multiplies it.
        clip: half width of the ratio's interval.
        width: units of the two hidden layers.
        decay: :math:`\gamma_\beta` of :func:`~mdtheory.rl.entropy.phase_weight`.

    Returns:
        The record.

    Raises:
        TypeError: a number of the wrong kind.
        ValueError: a number out of range, an unknown kind or reference, no mode, or a world with
            other seeds.

    Source:
        Xu et al. (2026); Shao et al. (2024) for the policy's loss.
    """
    if not modes:
        raise ValueError("modes: expected at least one mode, got none")
    for mode in modes:
        _check_mode(mode)
    for name, count, least in (
        ("seeds", seeds, 1), ("updates", updates, 2), ("groups", groups, 1), ("group", group, 2),
        ("epochs", epochs, 1), ("width", width, 1),
    ):  # fmt: skip
        require_count(name, count, least)
    for name, number in (("learning_rate", learning_rate), ("clip", clip), ("decay", decay)):
        require_number(name, number, 0.0, strict=name == "learning_rate")
    if world is not None and world.seeds != seeds:
        raise ValueError(f"world: expected one for {seeds} seeds, got one for {world.seeds}")
    played = LockChain(seeds, turns, locks, generator) if world is None else world
    run = _Run(played, modes, width, generator)
    rows: list[tuple[Tensor, ...]] = []
    past: list[Tensor] = []
    for update in range(updates):
        batch = run.play(groups, group, generator)
        reference = _reference(past, modes)
        row = run.measure(batch, reference)
        rows.append(row)
        run.learn(
            batch, reference, phase_weight(update, updates, decay), group, epochs, learning_rate,
            clip,
        )  # fmt: skip
        past.append(row[1])
    return MultiTurnRecord(*(torch.stack(column) for column in zip(*rows, strict=True)))


class TokenPolicy:
    """Small networks that say a turn token by token: one trunk, a head for each token.

    Args:
        seeds: number of different first networks.
        copies: how often each is repeated, as the slower axis.
        inputs: numbers that a policy sees.
        tokens: sizes of the vocabularies of a turn's one or two tokens.
        width: units of the hidden layers.
        generator: source of the first weights.
    """

    def __init__(
        self,
        seeds: int,
        copies: int,
        inputs: int,
        tokens: Sequence[int],
        width: int,
        generator: torch.Generator,
    ) -> None:
        self.tokens = tuple(tokens)
        self.trunk = Network(seeds, [inputs, width, width], generator)
        self.heads = [
            Network(seeds, [width + sum(self.tokens[:k]), size], generator, last_gain=0.1)
            for k, size in enumerate(self.tokens)
        ]
        for network in (self.trunk, *self.heads):
            network.parameters = [
                p.detach().repeat(copies, 1, 1).requires_grad_() for p in network.parameters
            ]

    @property
    def parameters(self) -> list[Tensor]:
        """All weights, each with a leading axis of networks."""
        return [p for network in (self.trunk, *self.heads) for p in network.parameters]

    def tables(self, features: Tensor) -> list[Tensor]:
        """Log-probabilities of the tokens in every context.

        Contexts stand last: a softmax over an axis that is not the last one is much faster.

        Args:
            features: shape ``(networks, contexts, inputs)``.

        Returns:
            Of the first token ``(networks, V, contexts)`` and, if there is a second, of that after
            each first one, ``(networks, W, V, contexts)``.
        """
        hidden = self.trunk(features).tanh().mT
        width = hidden.shape[-2]
        found: list[Tensor] = []
        for head in self.heads:
            weight, bias = (p.mT for p in head.parameters)
            logits = torch.baddbmm(bias, weight[..., :width], hidden)
            if found:
                logits = logits[:, :, None] + weight[..., width:, None]
            found.append(logits.log_softmax(1))
        return found


class _Run:
    """Policies of all runs in a world."""

    def __init__(
        self, world: TurnWorld, modes: Sequence[Mode], width: int, generator: torch.Generator
    ) -> None:
        self.world, self.shape = world, (len(modes), world.seeds)
        features = world.features.expand(world.seeds, *world.features.shape[-2:])
        self.features = features.repeat(len(modes), 1, 1)
        self.policy = TokenPolicy(
            world.seeds, len(modes), features.shape[-1], world.tokens, width, generator
        )
        # A rate of 1: the step that Adam would take is scaled for each run below.
        self.optimizer = adam(self.policy.parameters, 1.0)
        like = self.features

        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]

        self.rate, self.coefficient, self.penalty, self.low, self.high = (
            column([getattr(mode, name) for mode in modes])
            for name in ("rate", "coefficient", "penalty", "low", "high")
        )
        self.indicator = column([mode.kind == "indicator" for mode in modes]) > 0

    def tables(self) -> list[Tensor]:
        """Log-probabilities, with the axes of modes and seeds apart."""
        return [t.unflatten(0, self.shape) for t in self.policy.tables(self.features)]

    @torch.no_grad()
    def play(self, groups: int, group: int, generator: torch.Generator) -> Batch:
        """Episodes under the present policies; modes of a seed share their random numbers."""
        tables, world = self.tables(), self.world
        episodes, tokens = groups * group, len(world.tokens)
        chance = torch.rand(
            world.turns, tokens, world.seeds, episodes, 1, generator=generator,
            device=generator.device, dtype=tables[0].dtype,
        )  # fmt: skip
        # Where a uniform number falls among the sums of the probabilities, that token is said.
        sums = [table.exp().cumsum(2)[:, :, :-1].movedim(2, -1).flatten(2, -2) for table in tables]
        first = world.start(groups, generator).repeat_interleave(group, 1)
        context = first.expand(*self.shape, episodes)
        over = torch.zeros(context.shape, dtype=torch.bool, device=context.device)
        won = torch.zeros_like(over)
        rows = []
        for turn in range(world.turns):
            said: list[Tensor] = []
            action, index, stride = torch.zeros_like(context), context, self.features.shape[-2]
            for k, size in enumerate(world.tokens):
                edges = sums[k].gather(2, index[..., None].expand(-1, -1, -1, size - 1))
                said.append((chance[turn, k] > edges).sum(-1))
                action = action * size + said[-1]
                index, stride = index + stride * said[-1], stride * size
            rows.append((context, torch.stack(said, -1), ~over))
            context, success = world.step(context, action)
            success = success & ~over
            won, over = won | success, over | success
        parts = [torch.stack(part, 3) for part in zip(*rows, strict=True)]
        reward = won.to(tables[0].dtype)
        batch = Batch(parts[0], parts[1], parts[2], torch.empty(0), reward)
        return batch._replace(log_prob=_log_probs(tables, batch))

    @torch.no_grad()
    def measure(self, batch: Batch, reference: Tensor | None) -> tuple[Tensor, ...]:
        """A row of the record."""
        tables = self.tables()
        joint = tables[0] if len(tables) == 1 else tables[0][:, :, None] + tables[1]
        # From the last token's axis first to the last token's last, contexts before all.
        joint = joint.permute(0, 1, -1, *range(joint.ndim - 2, 1, -1)).flatten(3)
        each = _entropies(tables, batch).mean(-1)
        there = batch.mask.to(each.dtype)
        third = max(1, batch.mask.shape[-1] // 3)

        def mean(part: slice) -> Tensor:
            total = (each * there)[..., part].sum((-2, -1))
            return total / there[..., part].sum((-2, -1))

        entropy = mean(slice(None))
        return (
            self.world.success(joint), entropy, mean(slice(third)), mean(slice(-third, None)),
            torch.full_like(entropy, math.nan) if reference is None else reference,
            batch.reward.mean(-1),
        )  # fmt: skip

    def learn(
        self,
        batch: Batch,
        reference: Tensor | None,
        weight: float,
        group: int,
        epochs: int,
        learning_rate: float,
        clip: float,
    ) -> None:
        """Some steps on a batch."""
        reward = batch.reward.unflatten(-1, (-1, group))
        advantage = group_advantages(reward, True, epsilon=0.0, unbiased=False)
        advantage = advantage.flatten(-2)[..., None, None]
        mask = batch.mask[..., None].expand(batch.log_prob.shape)
        weights = token_weights(mask, batch.log_prob.dtype)
        share = mask / mask.sum((-3, -2, -1), keepdim=True)
        lower = upper = None
        if reference is not None:
            lower, upper = (
                (edge * reference)[..., None, None, None] for edge in (self.low, self.high)
            )
        parameters = self.policy.parameters
        for _ in range(epochs):
            tables = self.tables()
            log_prob = _log_probs(tables, batch)
            surrogate = clipped_surrogate(log_prob - batch.log_prob, advantage, clip)
            loss = -(share * surrogate).sum((-3, -2, -1))
            loss = loss - entropy_terms(
                _entropies(tables, batch), weights, lower, upper, weight, self.coefficient,
                self.penalty, self.indicator[..., None, None, None],
            )  # fmt: skip
            self.optimizer.zero_grad()
            loss.sum().backward()
            clip_gradients(parameters, 1.0)
            before = [p.detach().clone() for p in parameters]
            self.optimizer.step()
            rate = (learning_rate * self.rate).expand(self.shape).reshape(-1, 1, 1)
            with torch.no_grad():
                for old, new in zip(before, parameters, strict=True):
                    new.copy_(old.lerp(new, rate))


def _log_probs(tables: Sequence[Tensor], batch: Batch) -> Tensor:
    """Of each token of a batch, ``(modes, seeds, episodes, turns, tokens)``."""
    index, stride, found = batch.context, tables[0].shape[-1], []
    for k, table in enumerate(tables):
        index, stride = index + stride * batch.tokens[..., k], stride * table.shape[2]
        found.append(table.flatten(2).gather(2, index.flatten(2)).unflatten(2, index.shape[2:]))
    return torch.stack(found, -1)


def _entropies(tables: Sequence[Tensor], batch: Batch) -> Tensor:
    """Entropy of the law from which each token of a batch was drawn."""
    index, stride, found = batch.context, tables[0].shape[-1], []
    for k, table in enumerate(tables):
        flat = -(table.exp() * table).sum(2).flatten(2)
        found.append(flat.gather(2, index.flatten(2)).unflatten(2, index.shape[2:]))
        index, stride = index + stride * batch.tokens[..., k], stride * table.shape[2]
    return torch.stack(found, -1)


def _reference(past: Sequence[Tensor], modes: Sequence[Mode]) -> Tensor | None:
    """The mean entropy of the past that each mode looks at, ``(modes, seeds)``."""
    if not past:
        return None
    rows = torch.stack(list(past))
    seen = {"cumulative": rows, "sliding": rows[-10:], "fixed": rows[:5]}
    means = {name: part.mean(0) for name, part in seen.items()}
    return torch.stack([means[mode.reference][k] for k, mode in enumerate(modes)])


def _check_mode(mode: Mode) -> None:
    if not isinstance(mode, Mode):
        raise TypeError(f"modes: expected Mode, got {type(mode).__name__}")
    for name in ("coefficient", "penalty", "low", "high", "rate"):
        require_number(name, getattr(mode, name), 0.0, strict=name == "rate")
    if mode.high < mode.low:
        raise ValueError(f"high: expected at least low = {mode.low!r}, got {mode.high!r}")
    require_kind(mode.kind)
    if mode.reference not in REFERENCES:
        raise ValueError(f"reference: expected one of {REFERENCES}, got {mode.reference!r}")
