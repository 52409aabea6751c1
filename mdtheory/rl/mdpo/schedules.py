"""How the step size of MDPO falls over its iterations."""

from __future__ import annotations

import math
from typing import Literal, get_args

from mdtheory.checks import require_count, require_number

Schedule = Literal["annealed", "constant", "square-root"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
FLOOR = 1e-3


def schedule(kind: Schedule, initial: float, iteration: int, iterations: int) -> float:
    r"""Step size :math:`t_k` of an iteration.

    Equation ``eq-schedules``: annealed is :math:`t_0 (1 - k / K)`, not below :math:`10^{-3} t_0`
    because the weight of the divergence is :math:`1 / t_k`; square-root is
    :math:`t_0 / \sqrt{k + 1}`.

    Args:
        kind: of :data:`SCHEDULES`.
        initial: :math:`t_0 > 0`.
        iteration: :math:`k`, from 0.
        iterations: :math:`K`.

    Returns:
        The step size.

    Raises:
        TypeError: an argument is no number.
        ValueError: an unknown kind, or a number out of range.
    """
    if kind not in SCHEDULES:
        raise ValueError(f"schedule: expected one of {SCHEDULES}, got {kind!r}")
    require_number("initial", initial, 0.0, strict=True)
    require_count("iteration", iteration, 0)
    require_count("iterations", iterations)
    if kind == "annealed":
        return initial * max(1 - iteration / iterations, FLOOR)
    return initial / math.sqrt(iteration + 1) if kind == "square-root" else initial
