"""Reflective planning on every device present against float64 on the CPU, and elsewhere."""

import pytest
import torch

from mdtheory.rl import reflective_planning as rp
from mdtheory.rl.reflective_planning import laws as lw
from mdtheory.rl.reflective_planning.driving import drive
from mdtheory.rl.reflective_planning.scenes import Scenes
from tests.everywhere import DEVICES, agrees_with_the_cpu, numbers, stays
from tests.rl.reflective_planning_cases import CV


def scene_of(device, dtype, fork=False):
    """Scenes of given numbers: draws differ from device to device."""
    n = numbers(device, dtype, 3, 12)
    zero, routes = 0 * n[:, :1], 3 if fork else 1
    curve = 0.1 * (1 - torch.arange(3, dtype=dtype, device=device)) if fork else zero + 0.01
    return Scenes(
        velocity=torch.cat([8 + n[:, :1], zero], -1), acceleration=n[:, 1:3] / 4,
        offset=n[:, 3] / 4,
        road=rp.Road(zero.expand(3, routes) + 5 * fork, curve + 0 * zero,
                     zero.expand(3, routes) + 15),
        left=zero.expand(3, routes) + 5.25, present=1 + 0 * n[:, :2], along=20 + 5 * n[:, 4:6],
        across=n[:, 6:8], speed=4 + n[:, 8:10], intent=n[:, 10:12], cut_in=0 * n[:, :2],
        crossing=fork * torch.arange(2, dtype=dtype, device=device) + 0 * n[:, :2],
    )  # fmt: skip


def geometry(device, dtype):
    scene = scene_of(device, dtype)
    road = rp.Road(*(part[..., 0, None] for part in scene.road))
    place = torch.stack([20 + 9 * numbers(device, dtype, 3, 4), numbers(device, dtype, 3, 4)], -1)
    point = rp.to_plane(road, place)
    return point, rp.to_road(road, point), rp.heading(road, place[..., 0]), rp.features(scene)


def scored(device, dtype):
    scene = scene_of(device, dtype)
    plans = rp.lattice_plans(scene)
    fork = scene_of(device, dtype, True)
    return (
        plans, rp.track(scene[:, None], plans), rp.planning_score(scene[:, None], plans).travelled,
        rp.planning_score(fork[:, None], rp.lattice_plans(fork)[:, ::9], "constant_velocity"
                          ).travelled,
        rp.pdms(*numbers(device, dtype, 5, 7).abs()),
    )  # fmt: skip


def tilted(device, dtype):
    law = numbers(device, dtype, 3, 6).log_softmax(-1)
    score = numbers(device, dtype, 18).reshape(3, 6).flip(-1)
    return rp.exponential_tilt(law, score, 2.0), rp.best_of_law(law, score, 3)


def matched(device, dtype):
    law = numbers(device, dtype, 3, 6).log_softmax(-1)
    score = numbers(device, dtype, 18).reshape(3, 6).flip(-1)
    half = torch.full((3,), 0.25, dtype=dtype, device=device)
    return (rp.matched_strength(law, score, half),)


def enumerated(device, dtype):
    law = numbers(device, dtype, 16).log_softmax(-1)
    model = lw.TableDenoiser(law, 2, 4)
    tokens, nothing = model.sequences, torch.zeros(1, 1, 1, dtype=dtype, device=device)
    return (
        lw.enumerated_loss(model, tokens, nothing, 2), lw.order_average(model, tokens, nothing, 2),
        lw.total_correlation(law, 2, 4), lw.parallel_law(law, 2, 4),
        rp.PLANS.values(tokens[:, :2], dtype),
    )  # fmt: skip


CASES = {
    "geometry": geometry, "scored": scored, "tilted": tilted, "matched": matched,
    "enumerated": enumerated,
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_cpu(name, device, dtype):
    agrees_with_the_cpu(CASES[name], device, dtype)


@pytest.mark.parametrize("name", ["geometry", "tilted", "matched"])
def test_stays_where_it_is(name, elsewhere):
    stays(CASES[name], elsewhere)


@pytest.mark.parametrize("device", DEVICES)
def test_a_planner_stays_on_its_device(device):
    generator = torch.Generator(device).manual_seed(1)
    scene = rp.draw_scenes(30, generator)
    shown = rp.lattice_expert(scene, generator, 0.02)
    seen = rp.features(scene)
    model, losses = rp.train_denoiser(
        rp.tokens_of(shown.waypoints), seen, generator, codes=rp.PLANS.size, steps=2, batch=4,
        width=8, layers=1,
    )  # fmt: skip
    plans = rp.plan_with_goals(model, scene, seen, CV)
    mended, used = rp.reflect(model, scene, seen, plans, CV, 1, 1)
    drawn = rp.decode(model, seen, 2, 1.0, order="random", generator=generator)
    found = drive(lambda now: rp.lattice_plans(now)[:, 0], scene, 1)
    for part in (losses, plans, mended, used, drawn, found.path, shown.best):
        assert part.device.type == device
