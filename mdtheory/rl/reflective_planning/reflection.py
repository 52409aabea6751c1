"""Reflection: find the first unsafe waypoint, move it to a safe code, fix it, fill in the rest.

The chapter 'Reflective planning' explains it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_integers, require_number
from mdtheory.rl.reflective_planning.codebook import Codebook
from mdtheory.rl.reflective_planning.diffusion import MaskedDenoiser, fill
from mdtheory.rl.reflective_planning.plans import PLANS, waypoints_of
from mdtheory.rl.reflective_planning.scenes import Scenes
from mdtheory.rl.reflective_planning.scoring import Scorer

BEFORE = 0.5  # weight of the waypoint before the one that is moved
NEAR = 0.01  # price of a code of distance
REACH = 2  # waypoints before the anchor that are filled in anew
CHUNK = 400_000  # tracked plans at once, in units of one plan


class Round(NamedTuple):
    """What a round of reflection leaves behind, for plans ``(..., B)``.

    Attributes:
        tokens: the present plans, int64 ``(..., B, 2 N)``.
        best: the best plans so far, shaped alike.
        score: what the best are worth to the scorer, shape ``(..., B)``.
        anchors: which waypoints are fixed, bool ``(..., B, N)``.
        moved: the waypoint that this round moved, int64 ``(..., B)``; -1 where none.
    """

    tokens: Tensor
    best: Tensor
    score: Tensor
    anchors: Tensor
    moved: Tensor


def reflect(
    model: MaskedDenoiser,
    scene: Scenes,
    condition: Tensor,
    tokens: Tensor,
    scorer: Scorer,
    rounds: int = 10,
    radius: int = 10,
    regenerate: bool = True,
    *,
    codebook: Codebook = PLANS,
    threshold: float = 1.0,
) -> tuple[Tensor, Tensor]:
    r"""Mend drafts by search over the codebook and inpainting, algorithm ``alg-reflect``.

    Args:
        model: the planner, which fills in what is masked.
        scene: batch ``(B,)``.
        condition: shape ``(..., B, rows, condition)``.
        tokens: drafts, codes int64 ``(..., B, 2 N)``.
        scorer: tells the scores of plans; what it says is taken for true.
        rounds: :math:`R \ge 0`, how often a waypoint may be moved.
        radius: :math:`\delta \ge 0`, how many codes a waypoint may be moved in all.
        regenerate: whether the rest is filled in anew; without it only the search is left.
        codebook: of waypoints.
        threshold: a waypoint below this score is unsafe.

    Returns:
        The best plans seen, drafts included, int64 ``(..., B, 2 N)``, and the rounds that each
        took, int64 ``(..., B)``.

    Raises:
        TypeError: no integers.
        ValueError: an odd number of tokens, or numbers out of range.
    """
    best, used = tokens.clone(), torch.zeros(tokens.shape[:-1], dtype=torch.int64)
    used = used.to(tokens.device)
    for state in reflection_rounds(
        model, scene, condition, tokens, scorer, rounds, radius, regenerate,
        codebook=codebook, threshold=threshold,
    ):  # fmt: skip
        best = state.best
        used = used + (state.moved >= 0)
    return best, used


def reflection_rounds(
    model: MaskedDenoiser,
    scene: Scenes,
    condition: Tensor,
    tokens: Tensor,
    scorer: Scorer,
    rounds: int = 10,
    radius: int = 10,
    regenerate: bool = True,
    *,
    codebook: Codebook = PLANS,
    threshold: float = 1.0,
) -> Iterator[Round]:
    """The rounds of :func:`reflect`, the drafts first; its end is where nothing is left to move.

    The arguments are those of :func:`reflect`.

    Returns:
        An iterator over what each round leaves behind.
    """
    require_integers("tokens", tokens)
    if tokens.shape[-1] % 2:
        raise ValueError(f"tokens: expected two a waypoint, got shape {tuple(tokens.shape)}")
    require_count("rounds", rounds, 0)
    require_count("radius", radius, 0)
    require_number("threshold", threshold)
    tokens, batch = tokens.clone(), tuple(tokens.shape[:-1])
    waypoints = tokens.shape[-1] // 2
    place = torch.arange(waypoints, device=tokens.device)
    offsets = codebook.neighbourhood(radius, tokens.device)
    scores = scorer(scene, waypoints_of(tokens, codebook))
    best, worth = tokens.clone(), scores.total.clone()
    anchors = torch.zeros(*batch, waypoints, dtype=torch.bool, device=tokens.device)
    nothing = torch.full(batch, -1, device=tokens.device)
    yield Round(tokens.clone(), best.clone(), worth.clone(), anchors.clone(), nothing)
    everywhere = scene.flat(batch)
    for _ in range(rounds):
        unsafe = (scores.waypoint < threshold) & ~anchors
        broken = unsafe.any(-1)
        if not bool(broken.any()):
            return
        first = unsafe.to(torch.int64).argmax(-1)
        row = broken.flatten().nonzero()[:, 0]
        found = _search(
            everywhere[row], tokens.flatten(0, -2)[row], first.flatten()[row], offsets, scorer,
            codebook,
        )  # fmt: skip
        tokens = tokens.flatten(0, -2).index_copy(0, row, found).reshape(tokens.shape)
        here = place == first[..., None]
        anchors = anchors | (here & broken[..., None])
        if regenerate:
            free = (place >= first[..., None] - REACH) & broken[..., None] & ~anchors
            masks = torch.where(free[..., None].expand(*free.shape, 2).flatten(-2), model.mask,
                                tokens)  # fmt: skip
            tokens = fill(model, masks, condition, 1, 0.0, "confidence", None)
        scores = scorer(scene, waypoints_of(tokens, codebook))
        better = scores.total > worth
        best = torch.where(better[..., None], tokens, best)
        worth = torch.where(better, scores.total, worth)
        moved = torch.where(broken, first, -1)
        yield Round(tokens.clone(), best.clone(), worth.clone(), anchors.clone(), moved)


def _search(
    scene: Scenes, tokens: Tensor, at: Tensor, offsets: Tensor, scorer: Scorer, codebook: Codebook
) -> Tensor:  # fmt: skip
    """Plans with one waypoint moved to the best code near it, equation ``eq-local``."""
    found = []
    size = max(1, CHUNK // (len(offsets) * tokens.shape[-1]))
    for start in range(0, len(tokens), size):
        part = slice(start, start + size)
        plans, where = tokens[part].unflatten(-1, (-1, 2)), at[part]
        row = torch.arange(len(plans), device=plans.device)
        moved = plans[row, where][:, None] + offsets
        inside = ((moved >= 0) & (moved < codebook.size)).all(-1)
        tried = plans[:, None].repeat(1, len(offsets), 1, 1)
        tried[row, :, where] = torch.where(inside[..., None], moved, plans[row, where][:, None])
        safety = scorer(scene[part][:, None], codebook.values(tried)).waypoint
        here = safety[row, :, where]
        # The window before must not become worse.
        before = torch.where((where > 0)[:, None], safety[row, :, where - 1], 1.0)
        local = here + BEFORE * before - NEAR * offsets.abs().sum(-1)
        pick = torch.where(inside, local, -torch.inf).argmax(-1)
        found.append(tried[row, pick].flatten(-2))
    return torch.cat(found)
