"""Suppression and reflection: what they promise, and what they do not."""

import itertools
import math

import pytest
import torch

from mdtheory.convex.mirror_maps import kl
from mdtheory.rl import reflective_planning as rp
from mdtheory.runs import check_bound, check_identity
from tests.refused import bound, fails, identity
from tests.rl.reflective_planning_cases import (
    CV,
    F64,
    TINY,
    TRUE,
    draws,
    road_world,
    tiny_drafts,
    tiny_scorer,
)

# Suppression.


def suppressed(points, log_probability, distance, count):
    """The definition, one set of points after the other."""
    found = []
    for place, likely in zip(points, log_probability, strict=True):
        kept = []
        for i in sorted(range(len(likely)), key=lambda i: -likely[i].item()):
            if len(kept) < count and all((place[i] - place[j]).norm() >= distance for j in kept):
                kept.append(i)
        found.append(kept + [-1] * (count - len(kept)))
    return torch.tensor(found)


def candidates(seed=0, count=30, batch=50):
    generator = draws(seed)
    points = torch.randint(0, 8, (batch, count, 2), generator=generator).double()
    return points, torch.randn(batch, count, generator=generator, dtype=F64)


def apart(points, kept):
    """Least distance of two kept points; infinite where there is one."""
    at = points.gather(1, kept.clamp(min=0)[..., None].expand(-1, -1, 2))
    between = (at[:, :, None] - at[:, None]).norm(dim=-1)
    count = kept.shape[1]
    alone = torch.eye(count, dtype=torch.bool) | (kept < 0)[:, None] | (kept < 0)[:, :, None]
    return between.masked_fill(alone, math.inf).amin((1, 2))


@pytest.mark.theorem("prop-suppression", "equality")
@pytest.mark.theorem("prop-suppression", "mutant")
@pytest.mark.theorem("prop-suppression", "bound")
@pytest.mark.parametrize("distance", [1.0, 2.0, 3.0])
def test_suppression_is_the_walk_from_the_likeliest(distance):
    points, likely = candidates()
    kept = rp.non_maximum_suppression(points, likely, distance, 6)
    right = suppressed(points, likely, distance, 6)
    check_identity("prop-suppression", kept.double(), right.double())
    assert torch.equal(kept[:, 0], likely.argmax(1))
    # Points of a grid: pairs at exactly the distance are kept, so the bound is attained.
    least = apart(points, kept).clamp(max=100)
    assert check_bound("prop-suppression", torch.full_like(least, distance), least) == 1.0
    # Mutant: a walk in the order in which they came.
    unsorted = rp.non_maximum_suppression(points, torch.zeros_like(likely), distance, 6)
    fails(identity("prop-suppression"), unsorted.double(), right.double(),
          true=[kept.double(), right.double()])  # fmt: skip
    # Mutant: to keep the six likeliest.
    top = apart(points, likely.topk(6, 1).indices).clamp(max=100)
    fails(bound("prop-suppression"), torch.full_like(least, distance), top,
          true=[torch.full_like(least, distance), least])  # fmt: skip


@pytest.mark.theorem("prop-suppression", "equality")
def test_the_ends_of_suppression():
    points, likely = candidates(1)
    everything = rp.non_maximum_suppression(points, likely, 0.0, 6)
    assert torch.equal(everything, likely.topk(6, 1).indices)
    one = rp.non_maximum_suppression(points, likely, math.inf, 6)
    assert torch.equal(one[:, 0], likely.argmax(1))
    assert (one[:, 1:] == -1).all()
    likely[:, ::2] = -math.inf
    kept = rp.non_maximum_suppression(points, likely, 1.0, 6)
    assert (kept[kept >= 0] % 2 == 1).all()
    single = rp.non_maximum_suppression(points[0], likely[0], 1.0, 6)
    assert torch.equal(single, kept[0])


@pytest.mark.theorem("prop-suppression", "bound")
def test_what_is_dropped_is_near_a_likelier_one():
    points, likely = candidates(2)
    kept = rp.non_maximum_suppression(points, likely, 2.0, 30)
    for place, value, row in zip(points, likely, kept, strict=True):
        chosen = row[row >= 0]
        for i in set(range(30)) - set(chosen.tolist()):
            near = (place[chosen] - place[i]).norm(dim=-1) < 2.0
            assert (value[chosen][near] >= value[i]).any()


# Reflection.


def plain(tokens, scorer, codebook=rp.PLANS, scene=None):
    return scorer(scene, rp.waypoints_of(tokens, codebook)).total


@pytest.mark.theorem("thm-reflect", "bound")
@pytest.mark.theorem("thm-reflect", "mutant")
@pytest.mark.theorem("thm-reflect", "equality")
def test_never_worse_than_the_draft_in_ten_thousand_scenes():
    generator = draws(3)
    scene = rp.draw_scenes(10_000, generator)
    lattice = rp.lattice_plans(scene)
    pick = torch.randint(48, (10_000, 1, 1, 1), generator=generator).expand(-1, 1, 8, 2)
    plans = lattice.gather(1, pick)[:, 0]
    plans = torch.where(rp.PLANS.contains(plans)[..., None], plans, lattice[:, 4])
    drafts, seen = rp.tokens_of(plans), rp.features(scene)
    model = road_world()[0]
    rounds = list(rp.reflection_rounds(model, scene, seen, drafts, CV, 2, 3))
    mended = rounds[-1].best
    before, after = plain(drafts, CV, scene=scene), plain(mended, CV, scene=scene)
    assert (after >= before).all()
    assert (after > before).sum() > 100
    check_bound("thm-reflect", before, after)
    # The best of the iterates, and the mutant that returns the last one.
    every = torch.stack([plain(state.tokens, CV, scene=scene) for state in rounds])
    check_identity("thm-reflect", after, every.amax(0))
    fails(bound("thm-reflect"), before, every[-1], true=[before, after])
    check_anchors(rounds)
    # Under the truth it may well be worse: nothing is promised for another scorer.
    assert (plain(mended, TRUE, scene=scene) < plain(drafts, TRUE, scene=scene)).any()


def check_anchors(rounds):
    """One more anchor in each round of a plan, at a new waypoint, and none changes afterwards."""
    for old, new in itertools.pairwise(rounds):
        fresh = new.anchors & ~old.anchors
        assert torch.equal(fresh.sum(-1), (new.moved >= 0).long())
        assert (new.anchors | ~old.anchors).all()
        at = new.moved.clamp(min=0)[..., None]
        assert (fresh.gather(-1, at)[..., 0] | (new.moved < 0)).all()
        held = old.anchors[..., None]
        was, now = (state.tokens.unflatten(-1, (-1, 2)) for state in (old, new))
        assert torch.equal(was * held, now * held)
        still = (new.moved < 0)[..., None]
        assert torch.equal(old.tokens * still, new.tokens * still)


@pytest.mark.theorem("thm-reflect", "bound")
@pytest.mark.theorem("thm-reflect", "equality")
@pytest.mark.parametrize("regenerate", [True, False])
@pytest.mark.parametrize("scorer", [CV, TRUE], ids=["cv", "true"])
def test_rounds_and_anchors(scorer, regenerate):
    model, _, scene, seen, drafts = road_world()
    rounds = list(rp.reflection_rounds(model, scene, seen, drafts, scorer, 10, 4, regenerate))
    check_anchors(rounds)
    mended, used = rp.reflect(model, scene, seen, drafts, scorer, 10, 4, regenerate)
    assert torch.equal(mended, rounds[-1].best)
    total = torch.stack([state.moved >= 0 for state in rounds]).sum(0)
    check_identity("thm-reflect", used.double(), total.double())
    check_bound("thm-reflect", used.double(), torch.full((len(used),), 8.0, dtype=F64))
    short = rp.reflect(model, scene, seen, drafts, scorer, 2, 4, regenerate)[1]
    assert short.max() == 2
    # A safe draft is left alone.
    safe = (scorer(scene, rp.waypoints_of(drafts)).waypoint == 1).all(-1)
    assert safe.any()
    assert torch.equal(mended[safe], drafts[safe])
    assert (used[safe] == 0).all()
    assert (used[~safe] > 0).all()


def test_the_first_unsafe_waypoint_is_moved_first():
    model, _, scene, seen, drafts = road_world()
    way = CV(scene, rp.waypoints_of(drafts)).waypoint
    first = list(rp.reflection_rounds(model, scene, seen, drafts, CV, 1, 2))[1].moved
    for row, moved in zip(way.tolist(), first.tolist(), strict=True):
        unsafe = [t for t, value in enumerate(row) if value < 1]
        assert moved == (unsafe[0] if unsafe else -1)


def test_search_takes_the_best_of_all_codes_near():
    """The local score of every code in reach, plan by plan."""
    model, _, scene, seen, drafts = road_world()
    states = list(rp.reflection_rounds(model, scene, seen, drafts, CV, 1, 3, False))
    moved = states[1].moved
    for b in (moved >= 0).nonzero()[:5, 0].tolist():
        t, best = int(moved[b]), (-math.inf, None)
        for dx, dy in rp.PLANS.neighbourhood(3).tolist():
            plan = drafts[b].clone()
            plan[2 * t] += dx
            plan[2 * t + 1] += dy
            if ((plan < 0) | (plan >= rp.PLANS.size)).any():
                continue
            way = CV(scene[b], rp.waypoints_of(plan)).waypoint
            local = way[t] + 0.5 * (way[t - 1] if t else 1.0) - 0.01 * (abs(dx) + abs(dy))
            if local > best[0] + 1e-6:
                best = (local.item(), plan)
        ours = CV(scene[b], rp.waypoints_of(states[1].tokens[b])).waypoint
        gone = (states[1].tokens[b] - drafts[b]).abs().sum()
        local = ours[t] + 0.5 * (ours[t - 1] if t else 1.0) - 0.01 * gone
        assert math.isclose(local.item(), best[0], abs_tol=1e-5)


@pytest.mark.theorem("thm-reflect", "bound")
def test_the_tiny_world_and_the_distance_from_the_tilt():
    model, plans, scene = tiny_drafts()
    scorer = tiny_scorer()
    condition = torch.zeros(81, 1, 1)
    mended, used = rp.reflect(model, scene, condition, plans, scorer, codebook=TINY)
    before, after = (plain(t, scorer, TINY) for t in (plans, mended))
    check_bound("thm-reflect", before, after)
    assert used.max() <= 2
    # The law of what comes out, and the gap of thm-plan-tilt to the tilt of the same score.
    index = (mended * torch.tensor([27, 9, 3, 1])).sum(-1)
    law = torch.zeros(81, dtype=F64).index_add(0, index, model.log_law.exp()).log()
    score, strength = before.double(), 4.0
    tilt = rp.exponential_tilt(model.log_law, score, strength)
    value = (tilt.exp() * score).sum() - kl(tilt, model.log_law) / strength
    ours = (law.exp() * score).sum() - kl(law, model.log_law) / strength
    check_identity("thm-plan-tilt", value - ours, kl(law, tilt) / strength)
    assert value - ours > 0.01


def test_copies_of_the_planner_are_mended_together():
    model, _, scene, seen, drafts = road_world()
    pair = torch.stack([drafts[:40], drafts[40:80]])

    class Twice:
        mask, length = model.mask, model.length

        def __call__(self, tokens, condition):
            return torch.stack([model(t, c) for t, c in zip(tokens, condition, strict=True)])

    both = torch.stack([seen[:40], seen[:40]])
    mended, used = rp.reflect(Twice(), scene[:40], both, pair, CV, 3, 2)
    for k in range(2):
        alone = rp.reflect(model, scene[:40], seen[:40], pair[k], CV, 3, 2)
        assert torch.equal(mended[k], alone[0])
        assert torch.equal(used[k], alone[1])
