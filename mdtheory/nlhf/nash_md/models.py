"""Where preferences come from: random and cyclic games, dice, rewards, and learned models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mdtheory.checks import (
    require_broadcast,
    require_count,
    require_finite,
    require_number,
    require_same_kind,
    require_shape,
    require_tensor,
    require_values,
)
from mdtheory.nlhf.nash_md.preference import require_preference

NEWTON_STEPS = 200


def random_preference(n: int, generator: torch.Generator, batch: tuple[int, ...] = ()) -> Tensor:
    """Preferences drawn at random: every pair's probability is uniform on [0, 1].

    Args:
        n: number of actions.
        generator: source of randomness; its device is the result's.
        batch: leading axes.

    Returns:
        Shape ``(*batch, n, n)``, float64.

    Raises:
        TypeError: ``n`` is no whole number.
        ValueError: ``n`` below 1.
    """
    require_count("n", n)
    drawn = torch.rand(
        *batch, n, n, generator=generator, device=generator.device, dtype=torch.float64
    )
    above = drawn.triu(1)
    below = (1 - drawn).triu(1).mT
    half = torch.full((n,), 0.5, dtype=torch.float64, device=generator.device)
    return above + below + half.diag()


def cyclic_preference(strength: float, n: int = 3, *, device: torch.device | None = None) -> Tensor:
    r"""Actions on a circle: each is preferred to those within half a turn ahead of it.

    With three actions it is rock, paper and scissors with :math:`P = 1/2 + s` around the cycle.

    Args:
        strength: :math:`s` in [0, 1/2].
        n: number of actions, odd.
        device: where the result is made.

    Returns:
        Shape ``(n, n)``, float64; its Nash equilibrium is uniform.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a strength out of range, or an even number of actions.
    """
    if require_number("strength", strength, 0.0) > 0.5:
        raise ValueError(f"strength: expected a number in [0, 0.5], got {strength!r}")
    if require_count("n", n) % 2 == 0:
        raise ValueError(f"n: expected an odd number, got {n!r}")
    place = torch.arange(n, device=device)
    ahead = (place[None, :] - place[:, None]) % n
    sign = torch.where(ahead == 0, 0, torch.where(ahead <= n // 2, 1, -1))
    return 0.5 + strength * sign.to(torch.float64)


def dice_preference(
    dice: Sequence[Sequence[float]], *, device: torch.device | None = None
) -> Tensor:
    """How often each die shows more than another; a tie counts half.

    Args:
        dice: the numbers on the faces of each die, all faces equally likely.
        device: where the result is made.

    Returns:
        Shape ``(n, n)`` for ``n`` dice, float64.

    Raises:
        ValueError: no dice, a die without faces, or a number that is not finite.
    """
    if not len(dice) or not all(len(die) for die in dice):
        raise ValueError("dice: expected at least one die, each with at least one face")
    faces = [torch.tensor(die, dtype=torch.float64) for die in dice]
    for numbers in faces:
        require_finite("dice", numbers)
    table = torch.stack([
        torch.stack([((mine[:, None] - its).sign() + 1).mean() / 2 for its in faces])
        for mine in faces
    ])  # fmt: skip
    return table.to(device)


def bradley_terry_preference(reward: Tensor) -> Tensor:
    r"""Preferences that a reward explains, :math:`P[y, z] = \sigma(r_y - r_z)`.

    Equation ``eq-bradley-terry``.

    Args:
        reward: :math:`r`, shape ``(..., n)``.

    Returns:
        Shape ``(..., n, n)``.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: a wrong shape, a NaN or an infinity.

    Source:
        Bradley and Terry (1952).
    """
    require_finite("reward", require_tensor("reward", reward))
    return (reward[..., :, None] - reward[..., None, :]).sigmoid()


def bradley_terry(
    preference: Tensor, weights: Tensor | None = None, tolerance: float = 1e-12
) -> Tensor:
    r"""The reward of greatest likelihood, when pairs are drawn and judged by given preferences.

    It minimises :math:`-\sum_{y \ne z} w[y, z]\, P[y, z] \log\sigma(r_y - r_z)`, a convex function,
    by Newton's method with halved steps. Where :math:`P` comes from a reward the weights do not
    matter; elsewhere they do.

    Args:
        preference: :math:`P`, shape ``(..., n, n)``.
        weights: how often a pair is drawn, nonnegative, shape ``(..., n, n)``; only the sum of
            ``w[y, z]`` and ``w[z, y]`` counts. All pairs alike by default. Where the sum is 0 the
            preference is not looked at, whatever it is.
        tolerance: largest entry of the gradient that is allowed, per unit of weight of a row;
            never asked below what the dtype can hold.

    Returns:
        Rewards of mean 0, shape ``(..., n)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a wrong shape or range, or no maximum exists: pairs that are drawn do not
            connect all actions, or some actions always win against the others.
        ArithmeticError: the tolerance was not met.

    Source:
        Bradley and Terry (1952); Zermelo (1929) for when a maximum exists.
    """
    require_number("tolerance", tolerance, 0.0, strict=True)
    pairs = _pairs(require_tensor("preference", preference, 2), weights)
    # What is never drawn says nothing, not even that it is unknown.
    known = (pairs > 0) | torch.eye(pairs.shape[-1], dtype=torch.bool, device=pairs.device)
    preference = require_preference("preference", torch.where(known, preference, 0.5))
    won = pairs * preference
    drawn = won + won.mT
    _require_connected(won)
    tolerance = max(tolerance, 16 * torch.finfo(won.dtype).eps)
    reward = torch.zeros_like(won[..., 0])
    scale = drawn.sum(-1).amax(-1)
    loss = _loss(reward, won)
    for _ in range(NEWTON_STEPS):
        chance = bradley_terry_preference(reward)
        gradient = (drawn * chance - won).sum(-1)
        if bool((gradient.abs().amax(-1) <= tolerance * scale).all()):
            return reward - reward.mean(-1, keepdim=True)
        curvature = drawn * chance * (1 - chance)
        # The Laplacian of a connected graph; the constant shift makes it invertible.
        hessian = torch.diag_embed(curvature.sum(-1)) - curvature
        shift = curvature.sum((-2, -1), keepdim=True) / curvature.shape[-1] ** 2
        change = torch.linalg.solve(hessian + shift, -gradient[..., None])[..., 0]
        slope = (gradient * change).sum(-1)
        size = torch.ones_like(slope)
        for _ in range(60):
            trial = _loss(reward + size[..., None] * change, won)
            slack = 8 * torch.finfo(loss.dtype).eps * (scale + loss.abs())
            worse = trial > loss + size * slope / 4 + slack
            if not bool(worse.any()):
                break
            size = torch.where(worse, size / 2, size)
        reward = reward + size[..., None] * change
        loss = _loss(reward, won)
    left = (gradient.abs().amax(-1) / scale).max().item()
    raise ArithmeticError(
        f"tolerance: {tolerance!r} was not met in {NEWTON_STEPS} Newton steps; {left!r} is left"
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


def _pairs(preference: Tensor, weights: Tensor | None) -> Tensor:
    """How often each pair is drawn, symmetric, 0 on the diagonal and at most 1."""
    if weights is None:
        return _off_diagonal(torch.ones_like(preference))
    require_tensor("weights", weights, 2)
    require_same_kind("weights", weights, "preference", preference)
    require_shape("weights", weights, (*weights.shape[:-2], *preference.shape[-2:]))
    require_broadcast("weights", weights.shape[:-2], preference.shape[:-2])
    require_values("weights", weights, (weights >= 0) & weights.isfinite(), "finite weights >= 0")
    pairs = _off_diagonal(weights / 2 + weights.mT / 2)
    largest = pairs.amax((-2, -1), keepdim=True)
    return pairs / torch.where(largest > 0, largest, 1.0)


def _off_diagonal(matrix: Tensor) -> Tensor:
    return matrix - torch.diag_embed(matrix.diagonal(dim1=-2, dim2=-1))


def _loss(reward: Tensor, won: Tensor) -> Tensor:
    ahead = reward[..., :, None] - reward[..., None, :]
    return -(won * functional.logsigmoid(ahead)).sum((-2, -1))


def _require_connected(won: Tensor) -> None:
    """Every action beats every other along some path of wins (Zermelo's condition)."""
    reach = (won > 0).to(won.dtype) + torch.eye(won.shape[-1], dtype=won.dtype, device=won.device)
    steps = 1
    while steps < won.shape[-1]:
        reach = (reach @ reach > 0).to(won.dtype)
        steps *= 2
    require_values(
        "preference, weights", reach, reach > 0,
        "a path of wins from every action to every other (else rewards run away)",
    )  # fmt: skip
