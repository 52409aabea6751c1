"""Where preferences come from: random and cyclic games, and dice."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_finite, require_number
from mdtheory.nlhf.reward_models import (
    Comparisons,
    NeuralPreference,
    bradley_terry,
    bradley_terry_preference,
    fit_preference,
)

# Those of rewards and networks stood here, and can still be imported from here.
__all__ = [
    "Comparisons",
    "NeuralPreference",
    "bradley_terry",
    "bradley_terry_preference",
    "cyclic_preference",
    "dice_preference",
    "fit_preference",
    "random_preference",
]


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
