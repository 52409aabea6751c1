"""Arithmetic with a verifiable reward: products as digits, and small policies that write them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.agents import Network, adam
from mdtheory.agents.networks import Activation
from mdtheory.checks import require_count, require_number, require_shape

DIGITS = 10


class Measures(NamedTuple):
    """What a policy is worth, exactly: all prompts, no sampling.

    Attributes:
        value: expected reward, the mean probability of the right answer, shape ``(copies,)``.
        greedy: share of prompts whose likeliest digits, each after right ones, are right.
        entropy: of a digit after right ones, in nats, the mean over prompts and places.
    """

    value: Tensor
    greedy: Tensor
    entropy: Tensor


class Products:
    """The product of two numbers below ``size``, written with all its digits, zeros in front.

    A prompt is a number: ``size`` times the first factor plus the second. The policy is a
    :class:`~mdtheory.agents.Network` that reads the factors, the place of the digit and the digits
    before it, each one-hot, and puts out the logits of the next digit.

    Args:
        size: numbers are 0, ..., ``size`` - 1.
        device: where its tables live.

    Raises:
        TypeError: not a whole number.
        ValueError: fewer than two numbers.
    """

    def __init__(self, size: int = 10, device: torch.device | str = "cpu") -> None:
        self.size = require_count("size", size, 2)
        self.length = len(str((size - 1) ** 2))
        self.prompts = size * size
        numbers = torch.arange(size, device=device)
        product = (numbers[:, None] * numbers).flatten()
        powers = DIGITS ** torch.arange(self.length - 1, -1, -1, device=device)
        self.answers = product[:, None] // powers % DIGITS
        self.features = 2 * size + self.length + (self.length - 1) * DIGITS
        # One row for each pair of prompt and place, without digits.
        place = torch.eye(self.length, device=device)
        one = torch.eye(size, device=device)
        pair = torch.cat([one.repeat_interleave(size, 0), one.repeat(size, 1)], -1)
        rest = place.new_zeros(self.prompts, self.length, self.features - 2 * size - self.length)
        self._rows = torch.cat([
            pair[:, None].expand(-1, self.length, -1), place.expand(self.prompts, -1, -1), rest
        ], -1)  # fmt: skip

    def policy(
        self,
        copies: int,
        generator: torch.Generator,
        *,
        hidden: Sequence[int] = (32, 32),
        activation: Activation = "relu",
    ) -> Network:
        """Policies with random weights, each near the uniform one.

        Args:
            copies: how many.
            generator: source of the weights, on the task's device.
            hidden: units of the hidden layers.
            activation: of these.

        Returns:
            The networks.
        """
        sizes = (self.features, *hidden, DIGITS)
        return Network(copies, sizes, generator, activation=activation, last_gain=0.1)

    def inputs(self, prompts: Tensor, tokens: Tensor) -> Tensor:
        """What the policy reads before each digit: the prompt and the digits so far.

        Args:
            prompts: numbers of prompts, int64, shape ``(copies, n)``.
            tokens: digits, int64, shape ``(copies, n, length)``; the last is not read.

        Returns:
            Shape ``(copies, n, length, features)``.
        """
        rows = self._rows[prompts]
        for before in range(self.length - 1):
            self._read(rows, before, tokens[..., before])
        return rows

    def _read(self, rows: Tensor, place: int, digit: Tensor) -> None:
        """Show a digit to all later places, in the memory of the caller's rows."""
        start = 2 * self.size + self.length + place * DIGITS
        chosen = torch.nn.functional.one_hot(digit, DIGITS).to(rows.dtype)
        rows[..., place + 1 :, start : start + DIGITS] = chosen[..., None, :]

    def log_probs(
        self, network: Network, rows: Tensor, parameters: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Log-probabilities of every digit at every place.

        Args:
            network: the policies.
            rows: from :meth:`inputs`, shape ``(copies, n, places, features)``.
            parameters: others to use in place of the network's own.

        Returns:
            Shape ``(copies, n, places, 10)``.
        """
        flat = network(rows.flatten(1, 2), parameters)
        return flat.unflatten(1, rows.shape[1:3]).log_softmax(-1)

    @torch.no_grad()
    def sample(
        self,
        network: Network,
        prompts: Tensor,
        uniform: Tensor,
        parameters: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Answers digit by digit; equal policies with equal draws give equal answers.

        Args:
            network: the policies.
            prompts: shape ``(copies, n)``.
            uniform: independent and uniform in [0, 1), shape ``(copies, n, length)``.
            parameters: others to use in place of the network's own.

        Returns:
            Digits ``(copies, n, length)``, their log-probabilities, and :meth:`inputs` of them.
        """
        rows = self._rows[prompts]
        tokens, chances = [], []
        for place in range(self.length):
            law = network(rows[..., place, :], parameters).softmax(-1)
            digit = (law.cumsum(-1) <= uniform[..., place, None]).sum(-1).clamp(max=DIGITS - 1)
            tokens.append(digit)
            chances.append(law.gather(-1, digit[..., None])[..., 0])
            if place + 1 < self.length:
                self._read(rows, place, digit)
        return torch.stack(tokens, -1), torch.stack(chances, -1).log(), rows

    def reward(self, prompts: Tensor, tokens: Tensor) -> Tensor:
        """1 where all digits are right, else 0.

        Args:
            prompts: shape ``(copies, n)``.
            tokens: shape ``(copies, n, length)``.

        Returns:
            Shape ``(copies, n)``, float32.
        """
        return (tokens == self.answers[prompts]).all(-1).to(torch.float32)

    @torch.no_grad()
    def measure(self, network: Network) -> Measures:
        """Value, greedy share and entropy of each policy.

        Args:
            network: the policies.

        Returns:
            The measures, shape ``(copies,)`` each.
        """
        copies = network.parameters[0].shape[0]
        prompts = torch.arange(self.prompts, device=self.answers.device).expand(copies, -1)
        truth = self.answers.expand(copies, -1, -1)
        law = self.log_probs(network, self.inputs(prompts, truth))
        right = law.gather(-1, truth[..., None])[..., 0]
        return Measures(
            right.sum(-1).exp().mean(-1),
            (law.argmax(-1) == truth).all(-1).to(law.dtype).mean(-1),
            -(law.exp() * law).sum(-1).mean((-2, -1)),
        )


def repeated(base: Network, times: int) -> Network:
    """Each of the networks several times, all first copies in front.

    Args:
        base: networks.
        times: how often.

    Returns:
        New networks with memory of their own, ``times`` as many.
    """
    network = copy.copy(base)
    network.parameters = [p.detach().repeat(times, 1, 1).requires_grad_() for p in base.parameters]
    return network


def imitate(
    task: Products,
    network: Network,
    steps: int,
    generator: torch.Generator,
    *,
    noise: float = 0.3,
    batch: int = 64,
    learning_rate: float = 3e-3,
) -> None:
    """Teach policies, in place, from right answers whose digits are random with some probability.

    Args:
        task: the task.
        network: the policies.
        steps: number of steps of Adam on the cross-entropy.
        generator: source of prompts and noise, on the task's device.
        noise: probability that a digit is drawn uniformly, in [0, 1].
        batch: answers in a step.
        learning_rate: of Adam, above 0.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a number out of range, or networks that do not fit the task.
    """
    require_shape(
        "network", network.parameters[0][0], (task.features, *network.parameters[0].shape[2:])
    )
    require_count("steps", steps, 0)
    require_number("noise", noise, 0.0, maximum=1.0)
    require_count("batch", batch)
    optimizer = adam(
        network.parameters, require_number("learning_rate", learning_rate, 0.0, strict=True)
    )
    copies, device = network.parameters[0].shape[0], task.answers.device
    for _ in range(steps):
        prompts = torch.randint(task.prompts, (copies, batch), generator=generator, device=device)
        label = task.answers[prompts]
        wrong = torch.rand(label.shape, generator=generator, device=device) < noise
        drawn = torch.randint(DIGITS, label.shape, generator=generator, device=device)
        label = torch.where(wrong, drawn, label)
        law = task.log_probs(network, task.inputs(prompts, label))
        loss = -law.gather(-1, label[..., None]).mean((1, 2, 3)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
