"""A network that compares two answers, and its fit to judged pairs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mdtheory.checks import (
    require_count,
    require_finite,
    require_number,
    require_same_kind,
    require_shape,
    require_tensor,
    require_values,
)


class NeuralPreference(torch.nn.Module):
    r"""A network that says how likely one answer is preferred to another.

    :math:`P(y \succ z) = \sigma(f(y, z) - f(z, y))`, so the two orders sum to 1 whatever the
    weights are; an intransitive circle is no obstacle, which it is for a difference of rewards.

    Args:
        features: numbers that describe an answer.
        hidden: width of the two hidden layers.
        generator: source of the first weights, on the CPU.

    Raises:
        TypeError: a size that is no whole number.
        ValueError: a size below 1.
    """

    def __init__(self, features: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        sizes = [2 * require_count("features", features), require_count("hidden", hidden), hidden]
        self.features = features
        self.layers = torch.nn.ModuleList(
            torch.nn.Linear(inner, outer)
            for inner, outer in zip(sizes, [*sizes[1:], 1], strict=True)
        )
        with torch.no_grad():
            for weights in self.parameters():
                bound = weights.shape[-1] ** -0.5
                weights.uniform_(-bound, bound, generator=generator)

    def logit(self, first: Tensor, second: Tensor) -> Tensor:
        """Log-odds that the first answer is preferred.

        Args:
            first: features of answers, shape ``(..., features)``.
            second: likewise; the batch shapes broadcast.

        Returns:
            Shape ``(...)``; exchanging the answers changes the sign.
        """
        first, second = torch.broadcast_tensors(first, second)
        return self._score(first, second) - self._score(second, first)

    def forward(self, answers: Tensor) -> Tensor:
        """Preferences among all answers.

        Args:
            answers: features, shape ``(..., n, features)``.

        Returns:
            Shape ``(..., n, n)``.
        """
        return self.logit(answers[..., :, None, :], answers[..., None, :, :]).sigmoid()

    def _score(self, first: Tensor, second: Tensor) -> Tensor:
        x = torch.cat([first, second], -1)
        for layer in self.layers[:-1]:
            x = layer(x).tanh()
        score: Tensor = self.layers[-1](x)[..., 0]
        return score


class Comparisons(NamedTuple):
    """Judged pairs: features of both answers ``(m, features)``, and whether the first won."""

    first: Tensor
    second: Tensor
    won: Tensor


def fit_preference(
    model: NeuralPreference,
    data: Comparisons,
    generator: torch.Generator,
    *,
    steps: int = 500,
    batch: int = 256,
    learning_rate: float = 3e-3,
) -> list[float]:
    """Fit a preference model to judged pairs, by Adam on the cross-entropy.

    Args:
        model: what is fitted, in place.
        data: the pairs; ``won`` holds probabilities or 0 and 1, shape ``(m,)``.
        generator: source of the minibatches, on the CPU.
        steps: gradient steps.
        batch: pairs in a minibatch, drawn with replacement.
        learning_rate: of Adam.

    Returns:
        The loss of each step, in nats.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a wrong shape, or labels outside [0, 1].
    """
    first, second, won = data
    require_tensor("data.won", won)
    for name, answers in (("data.first", first), ("data.second", second)):
        require_same_kind(name, require_tensor(name, answers), "data.won", won)
        require_shape(name, answers, (won.shape[0], model.features))
        require_finite(name, answers)
    require_shape("data.won", won, (won.shape[0],))
    require_values("data.won", won, (won >= 0) & (won <= 1), "labels in [0, 1]")
    require_number("learning_rate", learning_rate, 0.0, strict=True)
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    losses = []
    for _ in range(require_count("steps", steps)):
        rows = torch.randint(len(won), (require_count("batch", batch),), generator=generator)
        rows = rows.to(won.device)
        logit = model.logit(first[rows], second[rows])
        loss = functional.binary_cross_entropy_with_logits(logit, won[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
