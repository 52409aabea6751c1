"""Offline training without sampling: the expected loss over all answers of one old policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.agents import Network, adam, clip_gradients
from mdtheory.checks import require_count, require_number
from mdtheory.rl.group_relative.arithmetic import DIGITS, Products, imitate, repeated


class ExactRecord(NamedTuple):
    """What training on all answers leaves.

    Attributes:
        steps: the steps at which the points lie.
        value: expected reward, shape ``(points, shifts, seeds)``.
        before: probability of the right answer to each prompt under the old policy, shape
            ``(seeds, prompts)``.
        after: the same at the end, shape ``(shifts, seeds, prompts)``.
        likeliest: the digits that the policy would write at the end, each after the likeliest ones
            before, shape ``(shifts, seeds, prompts, length)``.
    """

    steps: list[int]
    value: Tensor
    before: Tensor
    after: Tensor
    likeliest: Tensor


class _Tree:
    """All beginnings of answers to all prompts: place ``l`` has ``prompts * 10**l`` of them."""

    def __init__(self, task: Products) -> None:
        self.task, self.sizes, rows = task, [], []
        device = task.answers.device
        for place in range(task.length):
            count = DIGITS**place
            prompts = torch.arange(task.prompts, device=device).repeat_interleave(count)
            begun = torch.arange(count, device=device).repeat(task.prompts)
            tokens = torch.zeros(len(prompts), task.length, dtype=torch.long, device=device)
            for k in range(place):
                tokens[:, k] = begun // DIGITS ** (place - 1 - k) % DIGITS
            rows.append(task.inputs(prompts[None], tokens[None])[0, :, place])
            self.sizes.append(len(prompts))
        self.rows = torch.cat(rows)
        powers = DIGITS ** torch.arange(task.length - 1, -1, -1, device=device)
        whole = (task.answers * powers).sum(-1)
        # Where the beginning of the right answer stands among those of its prompt.
        self.right = [whole // DIGITS ** (task.length - place) for place in range(task.length)]

    def laws(self, network: Network) -> Tensor:
        """Log-probabilities of the next digit after every beginning."""
        copies = network.parameters[0].shape[0]
        return network(self.rows.expand(copies, -1, -1)).log_softmax(-1)

    def levels(self, laws: Tensor) -> list[Tensor]:
        """The same by place, each ``(copies, prompts, 10**place, 10)``."""
        return [part.unflatten(1, (self.task.prompts, -1)) for part in laws.split(self.sizes, 1)]

    def log_right(self, laws: Tensor) -> Tensor:
        """Log-probability of the right answers, shape ``(copies, prompts)``."""
        prompts = torch.arange(self.task.prompts, device=laws.device)
        parts = [
            level[:, prompts, self.right[place], self.task.answers[:, place]]
            for place, level in enumerate(self.levels(laws))
        ]
        return torch.stack(parts).sum(0)

    def chances(self, laws: Tensor) -> Tensor:
        """Probability of every beginning with its next digit, laid out like ``laws``."""
        reached, parts = None, []
        for level in self.levels(laws.exp()):
            joint = level if reached is None else reached.unflatten(2, (-1, 1)) * level
            parts.append(joint.flatten(1, 2))
            reached = joint.flatten(2)
        return torch.cat(parts, 1)

    def likeliest(self, laws: Tensor) -> Tensor:
        """Digits written by taking the likeliest one each time, ``(copies, prompts, length)``."""
        begun = torch.zeros(laws.shape[0], self.task.prompts, dtype=torch.long, device=laws.device)
        digits = []
        for level in self.levels(laws):
            index = begun[..., None, None].expand(-1, -1, 1, DIGITS)
            digits.append(level.gather(2, index)[:, :, 0].argmax(-1))
            begun = begun * DIGITS + digits[-1]
        return torch.stack(digits, -1)


def train_on_all_answers(
    shifts: Sequence[float],
    steps: int,
    seeds: int,
    generator: torch.Generator,
    *,
    shared: bool = True,
    task: Products | None = None,
    hidden: Sequence[int] = (32, 32),
    base_steps: int = 300,
    noise: float = 0.3,
    learning_rate: float = 3e-3,
    every: int = 20,
    clip: float = 1.0,
) -> ExactRecord:
    r"""Offline REINFORCE in expectation: nothing is drawn, so nothing is due to chance.

    The loss is the mean over prompts of
    :math:`-\sum_y \mu(y)\,(r(y) - \bar r + \beta)\log\pi(y)` with the base policy as :math:`\mu`,
    the group's mean at its expectation. What is trained is the network, or a table with logits of
    its own for every beginning of an answer to every prompt.

    Args:
        shifts: :math:`\beta` of each run, 0 for REINFORCE.
        steps: steps of Adam.
        seeds: base policies, each taught by noisy imitation.
        generator: source of these.
        shared: whether the network is trained, or the table.
        task: as in :func:`train_group_relative`, as are the arguments below.
        hidden: as there.
        base_steps: as there.
        noise: as there.
        learning_rate: as there.
        every: as there.
        clip: as there.

    Returns:
        Values, and what became of each prompt.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: no shift, or a number out of range.
    """
    if not len(shifts):
        raise ValueError("shifts: expected at least one number, got none")
    for shift in shifts:
        require_number("shifts", shift)
    for name, number in (("steps", steps), ("seeds", seeds), ("every", every)):
        require_count(name, number)
    require_number("learning_rate", learning_rate, 0.0, strict=True)
    require_number("clip", clip, 0.0, strict=True)
    device, copies = generator.device, len(shifts)
    task = Products(device=device) if task is None else task
    tree, base = _Tree(task), task.policy(seeds, generator, hidden=hidden)
    imitate(task, base, base_steps, generator, noise=noise)
    with torch.no_grad():
        old = tree.laws(base)
        behaviour, success = tree.chances(old), tree.log_right(old).exp()
    network = repeated(base, copies)
    table = old.repeat(copies, 1, 1).requires_grad_()
    parameters = network.parameters if shared else [table]
    optimizer = adam(parameters, learning_rate)
    beta = torch.tensor(list(shifts), device=device).repeat_interleave(seeds)[:, None]
    good, all_answers = success.repeat(copies, 1), behaviour.repeat(copies, 1, 1)

    def laws() -> Tensor:
        return tree.laws(network) if shared else table.log_softmax(-1)

    curve = [(0, success.mean(-1).repeat(copies))]
    for k in range(steps):
        now = laws()
        # Rewards are 0 and 1, so only the right answer and the mean over all are needed.
        imitated = (all_answers * now).sum(-1).split(tree.sizes, 1)
        imitation = torch.stack([
            part.unflatten(1, (task.prompts, -1)).sum(-1) for part in imitated
        ]).sum(0)  # fmt: skip
        loss = -(good * tree.log_right(now) - (good - beta) * imitation).mean(-1)
        optimizer.zero_grad()
        loss.sum().backward()
        clip_gradients(parameters, clip)
        optimizer.step()
        if (k + 1) % every == 0 or k + 1 == steps:
            with torch.no_grad():
                curve.append((k + 1, tree.log_right(laws()).exp().mean(-1)))
    with torch.no_grad():
        last = laws()
        after, likeliest = tree.log_right(last).exp(), tree.likeliest(last)
    points, values = zip(*curve, strict=True)
    return ExactRecord(
        list(points),
        torch.stack(values).unflatten(1, (copies, seeds)),
        success,
        after.unflatten(0, (copies, seeds)),
        likeliest.unflatten(0, (copies, seeds)),
    )
