"""The combination lock, in which everything about returning can be computed by hand."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_scale
from mdtheory.convex.mirror_maps import dual_step
from mdtheory.rl.exploration.tables import F64, TableGame


class CombinationLock(TableGame):
    """A lock that opens after the right actions in a row; every wrong one ends the game.

    Definition ``def-lock``. State ``d`` is reached by ``d`` right actions, and the last right one
    gives 1.

    Args:
        depth: right actions to make, H, at least 1.
        actions: actions to choose from, A, at least 2.
        generator: source of the combination, on the CPU; the same one every time by default.

    Attributes:
        combination: the right action at each depth, int64, shape ``(depth,)``.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(self, depth: int, actions: int, generator: torch.Generator | None = None) -> None:
        require_count("depth", depth)
        require_count("actions", actions, 2)
        source = torch.Generator().manual_seed(0) if generator is None else generator
        self.depth = depth
        self.combination = torch.randint(actions, (depth,), generator=source)
        right = torch.nn.functional.one_hot(self.combination, actions).bool()
        here = torch.arange(depth)[:, None]
        last = here == depth - 1
        super().__init__(
            torch.where(right & ~last, here + 1, here), (right & last).to(F64), ~right | last
        )


def lock_trials(actions: int, depth: int, explore: float) -> float:
    r"""Expected trials until a lock opens: choose a depth with equal chances, return, explore.

    A trial returns to one of the depths in the archive and then makes at most ``explore`` uniform
    actions. Theorem ``thm-lock-uniform`` for one action, :math:`A H (H + 1) / 2`; theorem
    ``thm-lock-far`` where only death ends a trial,
    :math:`A + \frac{(A - 1)^2}{A} \sum_{n=2}^{H} n / (1 - A^{-n})`; in between the linear recursion
    ``eq-lock-recursion``.

    Args:
        actions: A, at least 2.
        depth: H, at least 1.
        explore: actions of a trial at most, a whole number or ``math.inf``.

    Returns:
        The expectation.

    Raises:
        ValueError: a number out of range.
    """
    a, h, k = _lock(actions, depth, explore)
    if k == 1:
        return a * h * (h + 1) / 2
    if k >= h:  # more actions than the lock has are as good as any number
        return a + (a - 1) ** 2 / a * sum(n / (1 - float(a) ** -n) for n in range(2, h + 1))
    return lock_recursion(actions, depth, explore)


def lock_recursion(actions: int, depth: int, explore: float) -> float:
    """The same expectation by the recursion ``eq-lock-recursion``, for any ``explore``.

    The arguments are those of :func:`lock_trials`.
    """
    a, h, k = _lock(actions, depth, explore)
    most = int(min(k, h))
    left = [0.0] * (h + 2)  # left[n]: from n depths in the archive; h + 1 stands for open
    for n in range(h, 0, -1):
        reach = [
            sum(float(a) ** (d - m) for d in range(max(0, m - most), n)) / n
            for m in range(n, h + 1)
        ]
        ahead = sum((reach[m - n] - reach[m + 1 - n]) * left[m + 1] for m in range(n, h))
        left[n] = (1 + ahead) / reach[0]
    return left[1]


def lock_variance(actions: int, depth: int) -> float:
    r"""Variance of the trials with one action each, theorem ``thm-lock-uniform``.

    :math:`A^2 H (H + 1)(2H + 1) / 6 - A H (H + 1) / 2`.

    Args:
        actions: A, at least 2.
        depth: H, at least 1.

    Returns:
        The variance.

    Raises:
        ValueError: a number out of range.
    """
    a, h, _ = _lock(actions, depth, 1)
    return a * a * h * (h + 1) * (2 * h + 1) / 6 - a * h * (h + 1) / 2


def lock_lower_bound(actions: int, depth: int, explore: float) -> float:
    r"""Fewest trials that any rule of selection can expect, theorem ``thm-lock-lower``.

    :math:`H (A - 1) / (1 - A^{-k})`, which is :math:`A H` for one action a trial.

    The arguments are those of :func:`lock_trials`.
    """
    a, h, k = _lock(actions, depth, explore)
    return h * (a - 1) / (1 - float(a) ** -k)


def simulate_lock(
    actions: int,
    depth: int,
    explore: float,
    generator: torch.Generator,
    *,
    runs: int = 1000,
    rule: str = "uniform",
) -> Tensor:
    """Trials until the lock opens, many runs at once.

    Args:
        actions: A, at least 2.
        depth: H, at least 1.
        explore: actions of a trial at most, a whole number or ``math.inf``.
        generator: source of randomness; the runs live on its device.
        runs: how many.
        rule: ``"uniform"``, ``"deepest"``, or ``"seen"`` for weights ``1 / sqrt(seen + 1)``.

    Returns:
        Trials of each run, int64, shape ``(runs,)``.

    Raises:
        ValueError: a number out of range or an unknown rule.
    """
    a, h, k = _lock(actions, depth, explore)
    require_count("runs", runs)
    if rule not in ("uniform", "deepest", "seen"):
        raise ValueError(f"rule: expected 'uniform', 'deepest' or 'seen', got {rule!r}")
    device = generator.device
    depths = torch.arange(h + 1, device=device)
    known = torch.ones(runs, dtype=torch.int64, device=device)  # depths 0 .. known - 1
    seen = torch.zeros(runs, h + 1, dtype=F64, device=device)
    trials = torch.zeros_like(known)

    def draw() -> Tensor:
        return torch.rand(runs, generator=generator, device=device, dtype=F64)

    while bool((alive := known <= h).any()):
        there = depths < known[:, None]
        if rule == "deepest":
            place = known - 1
        else:
            weight = there * ((seen + 1).rsqrt() if rule == "seen" else torch.ones_like(seen))
            total = weight.cumsum(1)
            place = (total <= (draw() * total[:, -1])[:, None]).sum(1)
            place = torch.minimum(place, known - 1)
        # Right actions in a row, of at most k, and of no more than are left.
        row = torch.floor(draw().log() / -math.log(a)).clamp(max=min(k, h)).long()
        reached = torch.minimum(place + row, torch.full_like(place, h))
        met = there & (depths >= place[:, None]) & (depths <= reached[:, None])
        seen += met & alive[:, None]
        known = torch.where(alive, torch.maximum(known, reached + 1), known)
        trials += alive
    return trials


def lock_descent(
    actions: int, depth: int, step_size: float | Tensor, iterations: int, weighted: bool = False
) -> Tensor:
    r"""Chance to open the lock while exact steps are taken from the uniform policy.

    Theorem ``thm-lock-exact``. The mirror step of the entropy uses the exact action values at
    every depth; the gradient of the chance itself, by the logits, weighs every depth by how often
    it is reached.

    Args:
        actions: A, at least 2.
        depth: H, at least 1.
        step_size: :math:`\eta > 0`, a number or shape ``(...)``.
        iterations: steps to take.
        weighted: whether to follow the gradient in place of the mirror step.

    Returns:
        Chances before the first step and after each, float64, shape ``(iterations + 1, ...)``.

    Raises:
        ValueError: a number out of range.
    """
    _lock(actions, depth, 1)
    require_count("iterations", iterations, 0)
    eta = torch.as_tensor(step_size, dtype=F64)
    require_scale("step_size", eta, eta, strict=True)
    dual = eta.new_zeros(*eta.shape, depth, actions)
    chances = []
    for step in range(iterations + 1):
        log_policy = dual.log_softmax(-1)
        right = log_policy[..., 0]  # which action is right does not matter
        onward = right.flip(-1).cumsum(-1).flip(-1)  # log of the chance to open from each depth
        chances.append(onward[..., 0].exp())
        if step == iterations:
            break
        if weighted:
            ascent = -log_policy.exp() * chances[-1][..., None, None]
            ascent[..., 0] += chances[-1][..., None]
        else:
            ascent = torch.zeros_like(dual)
            ascent[..., :-1, 0] = onward[..., 1:].exp()
            ascent[..., -1, 0] = 1.0
        dual = dual_step(dual, -ascent, eta[..., None, None])
    return torch.stack(chances)


def mirror_bound(actions: int, depth: int, step_size: Tensor, iterations: int) -> Tensor:
    r"""How far the mirror steps may still be from opening the lock for sure.

    Theorem ``thm-lock-exact``: :math:`H (1 + \log A / \eta) / (k + 1)` after ``k`` steps.

    Args:
        actions: A.
        depth: H.
        step_size: :math:`\eta`, shape ``(...)``.
        iterations: the last step.

    Returns:
        Bounds on 1 minus the chance, shape ``(iterations + 1, ...)``.
    """
    count = _column(1, iterations + 1, step_size)
    return depth * (1 + math.log(actions) / step_size) / count


def gradient_bound(actions: int, depth: int, step_size: Tensor, iterations: int) -> Tensor:
    r"""The most that gradient steps can have made of the chance to open the lock.

    Theorem ``thm-lock-exact``: :math:`1 / (A^H - \eta H (1 - 1/A) k)` after ``k`` steps, infinite
    from where the denominator is 0.

    Args:
        actions: A.
        depth: H.
        step_size: :math:`\eta`, shape ``(...)``.
        iterations: the last step.

    Returns:
        Bounds on the chance, shape ``(iterations + 1, ...)``.
    """
    count = _column(0, iterations, step_size)
    below = float(actions) ** depth - step_size * depth * (1 - 1 / actions) * count
    return torch.where(below > 0, 1 / below, torch.inf)


def _column(first: int, last: int, like: Tensor) -> Tensor:
    """Whole numbers along a first axis before those of a tensor."""
    count = torch.arange(first, last + 1, dtype=F64, device=like.device)
    return count.reshape(-1, *[1] * like.ndim)


def _lock(actions: int, depth: int, explore: float) -> tuple[int, int, float]:
    a, h = require_count("actions", actions, 2), require_count("depth", depth)
    if explore != math.inf:
        require_count("explore", explore)  # type: ignore[arg-type]
    return a, h, explore
