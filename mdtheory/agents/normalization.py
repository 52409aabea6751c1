"""Running moments of observations and rewards, for each seed its own; frozen in evaluation.

The chapter 'Mirror descent policy optimisation' explains it.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Moments:
    """Mean and variance of all rows seen so far, for each seed.

    Args:
        seeds: number of seeds.
        width: numbers in a row.
        like: tensor whose dtype and device are kept.
    """

    def __init__(self, seeds: int, width: int, like: Tensor) -> None:
        # In double precision: sums over millions of rows.
        self.count = like.new_zeros(seeds, 1, dtype=torch.float64)
        self.mean = like.new_zeros(seeds, width, dtype=torch.float64)
        self.square = torch.zeros_like(self.mean)
        self._set(like)

    def _set(self, like: Tensor) -> None:
        variance = self.square / self.count.clamp(min=1)
        variance = torch.where(self.count > 0, variance, torch.ones_like(variance))
        self.shift = self.mean[:, None].to(like)
        self.scale = (variance + 1e-8).rsqrt()[:, None].to(like)

    def update(self, rows: Tensor, weight: Tensor) -> None:
        """Count more rows.

        Args:
            rows: shape ``(seeds, n, width)``.
            weight: 1 where a row counts, else 0, shape ``(seeds, n)``.
        """
        # Chan, Golub and LeVeque's rule for the moments of two samples together.
        weights = weight.double()[..., None]
        values = rows.double()
        number = weights.sum(1)
        mean = (weights * values).sum(1) / number.clamp(min=1)
        square = (weights * (values - mean[:, None]).square()).sum(1)
        total = (self.count + number).clamp(min=1)
        gap = mean - self.mean
        self.square = self.square + square + gap.square() * self.count * number / total
        self.mean = self.mean + gap * number / total
        self.count = self.count + number
        self._set(rows)

    def standardize(self, rows: Tensor, most: float = 10.0) -> Tensor:
        """Rows with mean 0 and variance 1, clipped.

        Args:
            rows: shape ``(seeds, n, width)``.
            most: largest absolute value of what is returned.

        Returns:
            Rows, same shape. Before the first update they are only clipped.
        """
        return ((rows - self.shift) * self.scale).clamp(-most, most)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {"count": self.count, "mean": self.mean, "square": self.square}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what a checkpoint kept.

        Args:
            state: as :meth:`state` returned it.
        """
        self.count, self.mean, self.square = state["count"], state["mean"], state["square"]
        self._set(self.shift)


class RewardScale:
    r"""Divides rewards by the deviation of discounted returns, for each seed.

    The return is summed forwards, :math:`G_t = \gamma G_{t-1} + r_t`, and starts anew with each
    episode; its variance is the scale of what the critic must learn.

    Args:
        seeds: number of seeds.
        copies: copies of the environment of each seed.
        discount: :math:`\gamma`.
        like: tensor whose dtype and device are kept.
    """

    def __init__(self, seeds: int, copies: int, discount: float, like: Tensor) -> None:
        self.moments = Moments(seeds, 1, like)
        self.discount = discount
        self.sums = torch.zeros(seeds, copies, dtype=like.dtype, device=like.device)

    def scale(self, rewards: Tensor, ended: Tensor, weight: Tensor) -> Tensor:
        """Count the rewards of a rollout, then scale them.

        Args:
            rewards: shape ``(T, seeds, copies)``.
            ended: whether an episode ended with the step, same shape.
            weight: 1 where a step counts, else 0, same shape.

        Returns:
            Scaled rewards, clipped to [-10, 10], same shape.
        """
        sums = []
        for reward, end in zip(rewards, ended, strict=True):
            self.sums = self.discount * self.sums + reward
            sums.append(self.sums)
            self.sums = self.sums.masked_fill(end, 0.0)
        rows = torch.stack(sums).movedim(0, -1).flatten(1)[..., None]
        self.moments.update(rows, weight.movedim(0, -1).flatten(1))
        return (rewards * self.moments.scale[..., 0]).clamp(-10, 10)

    def forget(self) -> None:
        """Start new sums, as where all environments are reset."""
        self.sums = torch.zeros_like(self.sums)
