"""A result over seeds with its interval."""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number


def bootstrap_interval(
    samples: Tensor,
    generator: torch.Generator,
    *,
    statistic: str = "median",
    level: float = 0.95,
    resamples: int = 2000,
) -> tuple[Tensor, Tensor, Tensor]:
    """A statistic over seeds with its percentile bootstrap interval.

    Args:
        samples: one result a seed, shape ``(seeds, ...)``.
        generator: source of the resampling, on the device of ``samples``.
        statistic: ``"median"``, ``"mean"`` or ``"iqm"`` (the mean of the middle half).
        level: coverage of the interval, in (0, 1).
        resamples: number of bootstrap samples.

    Returns:
        The statistic, the lower and the upper end, each of shape ``(...)``.

    Raises:
        ValueError: no seeds, an unknown statistic, or a level outside (0, 1).
    """
    if samples.ndim == 0 or samples.shape[0] == 0:
        raise ValueError(f"samples: expected shape (seeds, ...), got {tuple(samples.shape)}")
    if statistic not in ("median", "mean", "iqm"):
        raise ValueError(f"statistic: expected 'median', 'mean' or 'iqm', got {statistic!r}")
    if require_number("level", level, 0.0, strict=True) >= 1:
        raise ValueError(f"level: expected a number below 1, got {level!r}")
    require_count("resamples", resamples)
    seeds = samples.shape[0]
    picks = torch.randint(seeds, (resamples, seeds), generator=generator, device=samples.device)
    spread = _statistic(samples[picks].movedim(1, 0), statistic)
    edges = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=samples.dtype)
    low, high = torch.quantile(spread, edges.to(samples.device), dim=0)
    return _statistic(samples, statistic), low, high


def _statistic(samples: Tensor, statistic: str) -> Tensor:
    if statistic == "mean":
        return samples.mean(0)
    if statistic == "median":
        return samples.quantile(0.5, dim=0)
    trimmed = samples.shape[0] // 4
    return samples.sort(0).values[trimmed : samples.shape[0] - trimmed].mean(0)
