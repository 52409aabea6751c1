"""How tight is a bound? A hill climb over instances looks for the one that comes nearest to it.

A registry (one module a part of the book) lists problems: a label of the ledger, the length of a
vector of real numbers, and a function from a batch of vectors to the two sides of the bound. The
search knows nothing else. ``benchmarks/tightness_study.py`` runs it and records for each label the
largest ratio of random vectors, the largest that the climb finds, and its vector, so that a test
computes the recorded ratio again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.runs import read_record

# A bound of which an instance reaches a third is 'within a factor'; this near to 1, 'sharp'.
WITHIN, SHARP = 1 / 3, 0.98
# Random vectors are normal, times one of these scales: half of a batch has the first.
SCALES = (1.0, 0.03, 10.0, 0.3)
ROUNDING = 1e-9


class Problem(NamedTuple):
    """A bound to be attained.

    Attributes:
        label: of the statement.
        size: length of the vectors.
        sides: from vectors ``(n, size)`` in float64 to both sides, ``(n,)``. An instance that does
            not count has a right side that is not positive.
        start: a vector that is known to be hard, or none.
    """

    label: str
    size: int
    sides: Callable[[Tensor], tuple[Tensor, Tensor]]
    start: tuple[float, ...] = ()


class Hardest(NamedTuple):
    """What the search found: the ``random`` ratio, the ``hardest``, its ``vector``."""

    label: str
    random: float
    hardest: float
    vector: list[float]


def ratios(problem: Problem, vectors: Tensor) -> Tensor:
    """Left over right of every instance, minus infinity where there is none.

    Args:
        problem: the bound.
        vectors: shape ``(n, size)``.

    Returns:
        The ratios, shape ``(n,)``.

    Raises:
        ArithmeticError: an instance breaks the bound; the text has its vector.
    """
    left, right = problem.sides(vectors)
    broken = left > right + ROUNDING * (1 + right.abs())
    if bool(broken.any()):
        at = int(broken.double().argmax())
        raise ArithmeticError(
            f"{problem.label}: {left[at].item()!r} > {right[at].item()!r} at {vectors[at].tolist()}"
        )
    counts = (right > ROUNDING) & left.isfinite() & right.isfinite()
    return torch.where(counts, left / torch.where(counts, right, 1.0), -math.inf)


def climb(
    problem: Problem, generator: torch.Generator, *, population: int = 64, steps: int = 400
) -> Hardest:
    """Random vectors, then changes of each that make its ratio larger.

    A change adds normal noise of a random width to a random part of the coordinates; sometimes
    the best vector so far is what is changed.

    Args:
        problem: the bound.
        generator: source of randomness, on the CPU.
        population: how many vectors climb at once.
        steps: tries of each.

    Returns:
        The random and the hardest ratio. The random one is the largest of as many instances as
        there are vectors, times four.
    """

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    shape = (4 * population, problem.size)
    scale = torch.tensor(SCALES, dtype=torch.float64).repeat(population)[:, None]
    drawn = normal(*shape)
    first = ratios(problem, drawn * torch.where(uniform(4 * population, 1) < 0.5, 1.0, scale))
    vectors = drawn * scale
    if problem.start:
        vectors[0] = torch.tensor(problem.start, dtype=torch.float64)
    best = ratios(problem, vectors)
    kept = best.argsort(descending=True)[:population]
    vectors, best = vectors[kept], best[kept]
    for _ in range(steps):
        width = 10 ** (3.5 * uniform(population, 1) - 3)
        touched = uniform(population, problem.size) < uniform(population, 1)
        lead = uniform(population, 1) < 0.1
        base = torch.where(lead, vectors[best.argmax()], vectors)
        trial = base + torch.where(touched, width * normal(population, problem.size), 0.0)
        value = ratios(problem, trial)
        better = value > best
        vectors = torch.where(better[:, None], trial, vectors)
        best = torch.where(better, value, best)
    top = int(best.argmax())
    return Hardest(problem.label, first.max().item(), best[top].item(), vectors[top].tolist())


def verdict(ratio: float) -> str:
    """What a hardest ratio says of the bound: sharp, within a factor, or order only."""
    if ratio >= SHARP:
        return "sharp"
    return f"within {1 / ratio:.2g}" if ratio >= WITHIN else "order only"


def recorded(root: Path) -> dict[str, Hardest]:
    """Every label that a record ``tightness_*.csv`` has, with what was found."""
    found = {}
    for path in sorted((root / "book" / "results").glob("tightness_*.csv")):
        record = read_record(path.stem, folder=path.parent)
        for label, random, hardest, vector in zip(
            record.columns["label"],
            record.numbers("random"),
            record.numbers("hardest"),
            record.columns["vector"],
            strict=True,
        ):
            found[label] = Hardest(label, random, hardest, json.loads(vector))
    return found
