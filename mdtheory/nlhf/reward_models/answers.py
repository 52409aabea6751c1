"""A world of answers whose true reward is known, so that a proxy can be caught cheating."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number, require_shape, require_tensor
from mdtheory.nlhf.reward_models.networks import Comparisons

REFERENCE = 20000


class AnswerWorld:
    r"""Answers are vectors of features; gold likes a direction and dislikes extremes.

    Equation ``eq-gold``, :math:`\langle v, x\rangle - \max(\lVert x\rVert - 1.35\sqrt d, 0)`
    in units in which it has mean 0 and standard deviation 1 over the reference. The reference is a
    standard normal law, whose draws are stretched with a small probability: odd answers.

    Args:
        seeds: number of worlds, each with its own direction :math:`v`.
        generator: source of the directions; the world lives on its device.
        features: :math:`d`.
        odd: probability of an odd answer, in [0, 1].
        stretch: what its features are multiplied by, at least 1.
        dtype: of all that is drawn.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a number out of its range.
    """

    def __init__(
        self,
        seeds: int,
        generator: torch.Generator,
        *,
        features: int = 16,
        odd: float = 0.05,
        stretch: float = 2.5,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.seeds = require_count("seeds", seeds)
        self.features = require_count("features", features)
        self.odd = require_number("odd", odd, 0.0, maximum=1.0)
        self.stretch = require_number("stretch", stretch, 1.0)
        self.dtype, self.device = dtype, generator.device
        way = torch.randn(seeds, features, generator=generator, device=self.device, dtype=dtype)
        self.direction = way / way.norm(dim=-1, keepdim=True)
        raw = self._raw(self.draw(REFERENCE, generator=generator))
        self.mean, self.deviation = raw.mean(-1), raw.std(-1)

    def draw(self, *shape: int, generator: torch.Generator, odd: float | None = None) -> Tensor:
        """Answers of the reference.

        Args:
            *shape: how many for each seed.
            generator: source of randomness, on the world's device.
            odd: probability of an odd answer, the world's own by default.

        Returns:
            Shape ``(seeds, *shape, features)``.
        """
        odd = self.odd if odd is None else require_number("odd", odd, 0.0, maximum=1.0)
        place, dtype, lead = self.device, self.dtype, (self.seeds, *shape)
        x = torch.randn(*lead, self.features, generator=generator, device=place, dtype=dtype)
        stretched = torch.rand(*lead, 1, generator=generator, device=place, dtype=dtype) < odd
        return torch.where(stretched, self.stretch * x, x)

    def gold(self, answers: Tensor) -> Tensor:
        """The true reward.

        Args:
            answers: shape ``(seeds, ..., features)``.

        Returns:
            Shape ``(seeds, ...)``.

        Raises:
            TypeError: not a floating-point tensor.
            ValueError: another number of seeds or features.
        """
        require_tensor("answers", answers)
        require_shape("answers", answers, (self.seeds, *answers.shape[1:-1], self.features))
        lead = (self.seeds, *(1,) * (answers.ndim - 2))
        return (self._raw(answers) - self.mean.view(lead)) / self.deviation.view(lead)

    def compare(
        self,
        pairs: int,
        generator: torch.Generator,
        *,
        noise: Sequence[float] = (0.0,),
        odd: float | None = None,
        length_bias: float = 0.0,
    ) -> Comparisons:
        """Judged pairs: the answer with more gold wins, but some labels are flipped.

        Args:
            pairs: how many for each seed.
            generator: source of randomness, on the world's device.
            noise: probabilities of a flipped label, each in [0, 1]; the pairs are the same for
                all, and so are the coins.
            odd: probability of an odd answer among the pairs, the world's own by default.
            length_bias: how much raters like long answers: gold per half unit of the norm.

        Returns:
            Features ``(seeds, 1, pairs, features)`` and labels ``(seeds, len(noise), pairs)``.

        Raises:
            TypeError: an argument of the wrong kind.
            ValueError: a number out of its range.
        """
        require_count("pairs", pairs)
        require_number("length_bias", length_bias)
        levels = [require_number("noise", level, 0.0, maximum=1.0) for level in noise]
        first, second = (self.draw(1, pairs, generator=generator, odd=odd) for _ in range(2))
        ahead = self.gold(first) - self.gold(second)
        ahead = ahead + length_bias / 2 * (first.norm(dim=-1) - second.norm(dim=-1))
        coin = torch.rand(self.seeds, 1, pairs, generator=generator, device=self.device)
        flipped = coin < torch.tensor(levels, device=self.device)[:, None]
        return Comparisons(first, second, ((ahead > 0) ^ flipped).to(self.dtype))

    def is_odd(self, answers: Tensor) -> Tensor:
        """Whether answers ``(..., features)`` are further out than the reference usually is."""
        return answers.norm(dim=-1) > 1.6 * math.sqrt(self.features)

    def _raw(self, answers: Tensor) -> Tensor:
        along = torch.einsum("s...d,sd->s...", answers, self.direction)
        return along - torch.relu(answers.norm(dim=-1) - 1.35 * math.sqrt(self.features))
