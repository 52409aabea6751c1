"""Shared by the tests of reflective planning."""

from functools import cache, partial

import torch

from mdtheory.rl import reflective_planning as rp
from mdtheory.rl.reflective_planning.laws import TableDenoiser, all_sequences

F64 = torch.float64
NOTHING = torch.zeros(1, 1, 1)
CV = partial(rp.planning_score, agents="constant_velocity")
TRUE = partial(rp.planning_score, agents="true")


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def random_law(size, seed=0, spread=1.0, lead=()):
    noise = torch.randn(*lead, size, generator=draws(seed), dtype=F64)
    return (spread * noise).log_softmax(-1)


def table(codes=3, length=4, seed=0, spread=1.5):
    """Exact conditionals of a random law."""
    return TableDenoiser(random_law(codes**length, seed, spread), codes, length)


def laws(seed=1, size=20, count=200):
    """Laws over plans and their scores."""
    generator = draws(seed)
    law = torch.randn(count, size, generator=generator, dtype=F64).log_softmax(-1)
    return law, torch.rand(count, size, generator=generator, dtype=F64)


TINY = rp.Codebook((0.0, 0.0), (2.0, 2.0), (1.0, 1.0))


def tiny_scorer(seed=3):
    """Two waypoints on a 3 x 3 grid; some cells are unsafe, and the score is another table."""
    generator = draws(seed)
    unsafe = torch.rand(3, 3, generator=generator) < 0.4
    worth = torch.rand(3, 3, 3, 3, generator=generator)

    def scorer(scene, waypoints):
        cell = waypoints.round().long()
        way = 1.0 - unsafe[cell[..., 0], cell[..., 1]].float()
        a, b = cell[..., 0, :], cell[..., 1, :]
        total = worth[a[..., 0], a[..., 1], b[..., 0], b[..., 1]] * way.prod(-1)
        return rp.Scores(*(total,) * 6, way, total)

    return scorer


def tiny_drafts():
    """All 81 plans of the tiny world, a planner of them, and scenes that nobody looks at."""
    return table(3, 4), all_sequences(3, 4), rp.draw_scenes(81, draws(0))


@cache
def road_world(count=300, seed=5):
    """Scenes, a planner that has seen a little, and its drafts."""
    generator = draws(seed)
    scene = rp.draw_scenes(600, generator)
    shown = rp.lattice_expert(scene, generator, 0.02)
    kept = shown.safe & rp.PLANS.contains(shown.waypoints).all(-1)
    model, losses = rp.train_denoiser(
        rp.tokens_of(shown.waypoints[kept]), rp.features(scene)[kept], generator,
        codes=rp.PLANS.size, steps=120, batch=32, width=32, learning_rate=1e-2,
    )  # fmt: skip
    test = rp.draw_scenes(count, generator)
    seen = rp.features(test)
    return model, losses, test, seen, rp.decode(model, seen)
