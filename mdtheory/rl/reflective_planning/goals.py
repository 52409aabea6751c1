"""Where a plan may end: proposals that are likely and far from each other.

The chapter 'Reflective planning' explains it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import (
    require_count,
    require_number,
    require_same_kind,
    require_shape,
    require_tensor,
)
from mdtheory.rl.reflective_planning.codebook import Codebook
from mdtheory.rl.reflective_planning.diffusion import MaskedDenoiser, fill
from mdtheory.rl.reflective_planning.plans import PLANS, waypoints_of
from mdtheory.rl.reflective_planning.scenes import Scenes
from mdtheory.rl.reflective_planning.scoring import Scorer


def non_maximum_suppression(
    points: Tensor, log_probability: Tensor, distance: float, count: int
) -> Tensor:
    """Likely points that are not near a likelier one, equation ``eq-suppression``.

    Points are walked from the likeliest down, and one is kept if it is at least ``distance`` from
    all that are kept; ties go to the first.

    Args:
        points: candidates, shape ``(..., M, 2)``.
        log_probability: how likely each is, shape ``(..., M)``; ``-inf`` is never kept.
        distance: least distance of two that are kept, at least 0; infinite keeps one.
        count: how many are kept at most.

    Returns:
        Indices of those that are kept, the likeliest first, int64 ``(..., min(count, M))``; -1
        where there are fewer.

    Raises:
        TypeError: no floating-point tensors, or a count that is no whole number.
        ValueError: shapes that do not fit, a negative distance, a count below 1.
    """
    require_tensor("points", points)
    require_tensor("log_probability", log_probability)
    require_same_kind("log_probability", log_probability, "points", points)
    require_shape("log_probability", log_probability, tuple(points.shape[:-1]))
    require_number("distance", distance, 0.0, infinite=True)
    require_count("count", count)
    order = log_probability.argsort(dim=-1, descending=True, stable=True)
    sorted_points = points.gather(-2, order[..., None].expand_as(points))
    alive = log_probability.gather(-1, order) > -torch.inf
    kept = []
    for _ in range(min(count, points.shape[-2])):
        at = alive.to(torch.int64).argmax(-1, keepdim=True)  # the first that is left
        there = alive.any(-1, keepdim=True)
        kept.append(torch.where(there, order.gather(-1, at), -1))
        taken = sorted_points.gather(-2, at[..., None].expand(*at.shape, points.shape[-1]))
        alive = alive & ((sorted_points - taken).norm(dim=-1) >= distance)
        alive = alive & torch.ones_like(alive).scatter(-1, at, False)  # distance 0 repeats none
    return torch.cat(kept, -1)


@torch.no_grad()
def goal_proposals(
    model: MaskedDenoiser,
    condition: Tensor,
    count: int,
    distance: float,
    *,
    codebook: Codebook = PLANS,
    wide: tuple[int, int] = (12, 8),
) -> Tensor:
    """Last waypoints of plans: likely under the model, and apart.

    The pair is ranked by the chain of both coordinates: the likeliest codes of the first, and for
    each of them the likeliest of the second given it.

    Args:
        model: the planner.
        condition: shape ``(..., B, rows, condition)``.
        count: number of goals.
        distance: least distance of two of them, m.
        codebook: of waypoints.
        wide: how many codes of each coordinate are candidates.

    Returns:
        Codes, int64 ``(..., B, count, 2)``; where there are fewer goals the first is repeated.
    """
    many, each = wide
    masks = torch.full((*condition.shape[:-2], model.length), model.mask, device=condition.device)
    first, x = model(masks, condition)[..., -2, :].log_softmax(-1).topk(many, -1)
    masks = masks[..., None, :].repeat(*(1,) * (masks.ndim - 1), many, 1)
    masks[..., -2] = x
    again = condition.repeat_interleave(many, -3)
    law = model(masks.flatten(-3, -2), again)[..., -1, :].log_softmax(-1)
    second, y = law.topk(each, -1)
    shape = (*x.shape, each)
    goals = torch.stack([x[..., None].expand(shape), y.reshape(shape)], -1).flatten(-3, -2)
    likely = (first[..., None] + second.reshape(shape)).flatten(-2)
    kept = non_maximum_suppression(codebook.values(goals), likely, distance, count)
    kept = torch.where(kept < 0, kept[..., :1], kept)
    return goals.gather(-2, kept[..., None].expand(*kept.shape, 2))


def plan_with_goals(
    model: MaskedDenoiser,
    scene: Scenes,
    condition: Tensor,
    scorer: Scorer,
    count: int = 3,
    distance: float = 0.9,
    steps: int = 5,
    *,
    codebook: Codebook = PLANS,
) -> Tensor:
    """One plan for each proposed goal, and of these the best under a scorer, ``eq-goals``.

    Args:
        model: the planner.
        scene: batch ``(B,)``.
        condition: shape ``(..., B, rows, condition)``.
        scorer: tells the scores of plans.
        count: number of goals.
        distance: least distance of two goals, m.
        steps: of decoding each plan.
        codebook: of waypoints.

    Returns:
        Codes, int64 ``(..., B, L)``.
    """
    goals = goal_proposals(model, condition, count, distance, codebook=codebook)
    every = goals.shape[-2]
    plans = torch.full((*goals.shape[:-1], model.length), model.mask, device=goals.device)
    plans[..., -2:] = goals
    filled = fill(
        model, plans.flatten(-3, -2), condition.repeat_interleave(every, -3), steps, 0.0,
        "confidence", None,
    ).reshape(plans.shape)  # fmt: skip
    return best_plan(scene, filled, scorer, codebook=codebook)


def best_plan(
    scene: Scenes, plans: Tensor, scorer: Scorer, *, codebook: Codebook = PLANS
) -> Tensor:  # fmt: skip
    """The best of several plans of each scene; ties go to the first.

    Args:
        scene: batch ``(B,)``.
        plans: codes, int64 ``(..., B, K, L)``.
        scorer: tells the scores of plans.
        codebook: of waypoints.

    Returns:
        Codes, int64 ``(..., B, L)``.
    """
    total = scorer(scene[:, None], waypoints_of(plans, codebook)).total
    first = (total == total.amax(-1, keepdim=True)).to(torch.int64).argmax(-1)
    index = first[..., None, None].expand(*first.shape, 1, plans.shape[-1])
    return plans.gather(-2, index)[..., 0, :]
