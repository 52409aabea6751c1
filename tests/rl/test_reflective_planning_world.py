"""minidrive: scenes, motion of the others, scores, the lattice, the closed loop."""

import math

import pytest
import torch

from mdtheory.rl import reflective_planning as rp
from mdtheory.rl.reflective_planning.driving import drive
from mdtheory.rl.reflective_planning.pictures import draw_scene
from mdtheory.rl.reflective_planning.scenes import motion_of_others
from tests.rl.reflective_planning_cases import CV, F64, TRUE, draws

ONE = torch.zeros(1)


def scene_with(along=20.0, across=0.0, speed=5.0, own=8.0, **more):
    """A straight road with one other car."""
    car = torch.tensor([[float(along)]]), torch.tensor([[float(across)]])
    zero = torch.zeros(1, 1)
    return rp.Scenes(
        velocity=torch.tensor([[own, 0.0]]), acceleration=torch.zeros(1, 2), offset=ONE,
        road=rp.Road(zero, zero, zero + 200), left=zero + 5.25, present=zero + 1, along=car[0],
        across=car[1], speed=zero + speed,
        **{"intent": zero, "cut_in": zero, "crossing": zero, **more},
    )  # fmt: skip


def straight(speed=8.0, left=0.0):
    """Waypoints at constant speed."""
    time = 0.5 * torch.arange(1, 9)
    return torch.stack([speed * time, torch.full((8,), left)], -1)[None]


def test_the_same_draws_give_the_same_scenes():
    a, b = rp.draw_scenes(50, draws(1)), rp.draw_scenes(50, draws(1))
    assert torch.equal(rp.features(a), rp.features(b))
    assert a.batch == (50,)
    assert a.routes == 1
    c = rp.draw_scenes(50, draws(1), intersections=True)
    assert c.routes == 3
    assert rp.features(c).shape == (50, 4, 8)
    d = rp.draw_scenes(500, draws(1), started=True)
    assert (d.offset != 0).float().mean() > 0.4
    assert rp.draw_scenes(3, draws(1), dtype=F64).offset.dtype == F64


def test_scenes_are_indexed_and_flattened():
    scene = rp.draw_scenes(6, draws(2))
    assert scene[2:4].batch == (2,)
    assert scene[:, None].batch == (6, 1)
    wide = scene[:, None].flat((6, 3))
    assert wide.batch == (18,)
    assert torch.equal(wide.along[::3], scene.along)
    assert torch.equal(wide.road.curvature[1::3], scene.road.curvature)


def test_features_hide_what_is_hidden():
    scene = rp.draw_scenes(200, draws(3))
    other = scene.replace(intent=scene.intent + 1, cut_in=1 - scene.cut_in)
    assert torch.equal(rp.features(scene), rp.features(other))
    assert not torch.equal(rp.features(scene), rp.features(rp.perceived(scene, 1.0, draws(4))))
    quiet = rp.perceived(scene, 0.0, draws(4))
    assert torch.equal(rp.features(quiet), rp.features(scene))


def test_others_do_what_they_intend():
    brake = scene_with(speed=4.0, intent=torch.tensor([[-2.0]]))
    time = torch.tensor([0.0, 1.0, 2.0, 4.0])
    s, left, v, *_ = motion_of_others(brake, time, hidden=True)
    assert s[0, 0, :, 0].tolist() == [20.0, 23.0, 24.0, 24.0]
    assert v[0, 0, :, 0].tolist() == [4.0, 2.0, 0.0, 0.0]
    s, *_ = motion_of_others(brake, time, hidden=False)
    assert s[0, 0, :, 0].tolist() == [20.0, 24.0, 28.0, 36.0]
    cut = scene_with(across=3.5, cut_in=torch.ones(1, 1))
    _, left, *_ = motion_of_others(cut, torch.tensor([0.0, 1.5, 3.0, 4.0]), hidden=True)
    assert left[0, 0, :, 0].tolist() == [3.5, 1.75, 0.0, 0.0]


def test_at_an_intersection_the_frames_agree_in_the_plane():
    scene = rp.draw_scenes(40, draws(5), intersections=True, dtype=F64)
    time = torch.linspace(0, 4, 9, dtype=F64)
    s, left, v, w, near, wide = motion_of_others(scene, time, hidden=True)
    road = rp.Road(*(part[..., None, None] for part in scene.road))
    point = rp.to_plane(road, torch.stack([s, left], -1))
    valid = (road.curvature * left).abs() < 1
    for route in (0, 2):  # the second route is straight: its frame is the plane
        both = valid[:, route] & valid[:, 1]
        gap = (point[:, route] - point[:, 1]).norm(dim=-1)
        assert gap[both].max() < 1e-9
    speed = torch.hypot(v, w)
    torch.testing.assert_close(speed[:, 0], speed[:, 1])
    assert near.min() > 2.3 + 0.94
    assert near.max() <= 2.3 + 2.3 + 0.96
    assert wide.min() > 1.8
    assert wide.max() <= 0.95 + 2.3 + 0.96


@pytest.mark.parametrize(
    ("plan", "change", "lost"),
    [
        (straight(), {"along": 60.0}, set()),
        (straight(), {"along": 20.0, "speed": 0.0}, {"no_collision", "time_to_collision"}),
        (straight(), {"along": -8.0, "speed": 12.0}, set()),  # hit from behind: not at fault
        (straight(left=0.0), {"across": 3.5, "along": 5.0}, set()),
        (straight(left=4.6), {"along": 60.0}, {"drivable", "comfort"}),
        (straight(speed=3.0), {"along": 60.0}, {"comfort"}),
        (straight(), {"along": 41.5, "speed": 0.0}, {"time_to_collision"}),
    ],
    ids=["free", "stands", "behind", "beside", "edge", "brakes", "late"],
)  # fmt: skip
def test_sub_scores_of_scenes_made_by_hand(plan, change, lost):
    scores = rp.planning_score(scene_with(**change), plan)
    parts = ("no_collision", "drivable", "time_to_collision", "comfort")
    assert {name for name in parts if getattr(scores, name).item() < 1} == lost
    gates = scores.no_collision * scores.drivable
    total = gates * (5 * scores.time_to_collision + 5 * scores.progress + 2 * scores.comfort) / 12
    assert torch.allclose(scores.total, total)


def test_the_first_unsafe_waypoint_is_where_it_happens():
    scores = rp.planning_score(scene_with(along=20.0, speed=0.0), straight())
    # 20 - 4.6 = 15.4 m are reached after 1.925 s, in the window of the fourth waypoint, and the
    # time to collision is below 0.9 s from 1.025 s on.
    assert scores.waypoint[0].tolist() == [1, 1, 0.5, 0, 0, 0, 1, 1]
    late = rp.planning_score(scene_with(along=20.0, speed=0.0), straight(), "constant_velocity")
    assert torch.equal(late.waypoint, scores.waypoint)


def test_constant_velocity_does_not_know_what_will_be():
    scene = scene_with(along=16.0, speed=8.0, intent=torch.tensor([[-3.0]]))
    assert TRUE(scene, straight()).no_collision == 0
    assert CV(scene, straight()).no_collision == 1


def test_the_score_is_monotone_and_gated():
    parts = torch.rand(5, 1000, generator=draws(1), dtype=F64)
    total = rp.pdms(*parts)
    for k in range(5):
        more = parts.clone()
        more[k] = more[k] + (1 - more[k]) * 0.5
        assert (rp.pdms(*more) > total).all()
        if k < 2:
            more[k] = 0
            assert (rp.pdms(*more) == 0).all()
    assert rp.pdms(*torch.ones(5)) == 1
    assert math.isclose(rp.pdms(*torch.tensor([1.0, 1.0, 1.0, 0.0, 0.5], dtype=F64)), 7.5 / 12)


def test_many_plans_of_a_scene_are_scored_as_one_by_one():
    for fork in (False, True):
        scene = rp.draw_scenes(20, draws(6), intersections=fork)
        plans = rp.lattice_plans(scene)
        both = rp.planning_score(scene[:, None], plans)
        for b, m in ((0, 0), (3, 20), (19, 47)):
            one = rp.planning_score(scene[b], plans[b, m])
            for mine, theirs in zip(both, one, strict=True):
                torch.testing.assert_close(mine[b, m], theirs)


def test_units_of_progress():
    scene, plan = scene_with(along=60.0), straight(speed=8.0)
    assert math.isclose(rp.planning_score(scene, plan).travelled.item(), 32.0, rel_tol=1e-4)
    assert math.isclose(rp.planning_score(scene, plan).progress.item(), 1.0, rel_tol=1e-4)
    half = rp.planning_score(scene, plan, best=torch.tensor([64.0]))
    assert math.isclose(half.progress.item(), 0.5, rel_tol=1e-4)


def test_the_expert_is_the_best_safe_plan():
    scene = rp.draw_scenes(100, draws(7))
    shown = rp.lattice_expert(scene)
    assert shown.safe.float().mean() > 0.85
    scores = TRUE(scene, shown.waypoints)
    assert (scores.no_collision * scores.drivable * scores.time_to_collision)[shown.safe].all()
    assert (scores.travelled <= shown.best + 1e-3)[shown.safe].all()
    drawn = rp.lattice_expert(scene, draws(1), 0.02)
    assert 0 < (drawn.waypoints != shown.waypoints).any(-1).any(-1).float().mean() < 1
    assert torch.equal(drawn.safe, shown.safe)
    assert rp.lattice_plans(scene).shape == (100, 48, 8, 2)


def test_lattice_plans_begin_where_the_car_is():
    scene = rp.draw_scenes(50, draws(8), started=True, dtype=F64)
    plans = rp.lattice_plans(scene)
    place = rp.to_road(rp.Road(*(part[..., None] for part in scene.road)), plans)
    # After half a second of a change of lanes by at most 4.1 m in 2 s.
    assert (place[:, :, 0, 1] - scene.offset[:, None]).abs().max() < 0.11 * 4.1
    assert (place[..., -1, 1] - torch.tensor(
        [0.0, 3.5, 1.2, -0.4], dtype=F64).repeat_interleave(12)).abs().max() < 1e-9  # fmt: skip


# The closed loop.


def keep_lane(scene):
    """Constant speed along the centre line."""
    time = 0.5 * torch.arange(1, 9, dtype=scene.offset.dtype)
    along = scene.velocity[:, :1] * time
    road = rp.Road(*(part[..., 0, None] for part in scene.road))
    return rp.to_plane(road, torch.stack([along, torch.zeros_like(along)], -1))


def test_an_empty_road_is_driven_at_constant_speed():
    scene = rp.draw_scenes(30, draws(9), dtype=F64)
    scene = scene.replace(present=torch.zeros_like(scene.present))
    found = drive(keep_lane, scene, 16)
    assert not found.crashed.any()
    assert not found.left_road.any()
    assert found.path.shape == (30, 81, 2)
    torch.testing.assert_close(found.travelled, 8 * scene.velocity[:, 0], rtol=0.02, atol=0)
    assert found.path[..., 1].abs().max() < 0.2
    assert (found.path[:, 1:, 0] >= found.path[:, :-1, 0]).all()


def test_a_standing_car_is_hit_by_who_does_not_look():
    scene = scene_with(along=25.0, speed=0.0)
    scene = scene.replace(intent=torch.full((1, 1), -1.0))
    assert drive(keep_lane, scene, 8).crashed.all()
    rules = drive(lambda s: rp.lattice_expert(s, agents="constant_velocity").waypoints, scene, 8)
    assert not rules.crashed.any()


def test_the_car_behind_reacts():
    scene = scene_with(along=-12.0, speed=8.0, own=4.0)
    found = drive(keep_lane, scene, 16)
    assert not found.crashed.any()
    off = drive(lambda s: keep_lane(s) + torch.tensor([0.0, 6.0]), scene, 8)
    assert off.left_road.all()


def test_rules_drive_better_than_no_eyes():
    scene = rp.draw_scenes(80, draws(10))
    blind = drive(keep_lane, scene, 8)
    rules = drive(lambda s: rp.lattice_expert(s, agents="constant_velocity").waypoints, scene, 8)
    assert rules.crashed.float().mean() < blind.crashed.float().mean() - 0.1
    assert not rules.left_road.any()
    assert rules.comfort.mean() > 0.7


@pytest.mark.parametrize("fork", [False, True], ids=["road", "intersection"])
def test_a_picture_shows_roads_cars_and_plans(fork):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    scene = rp.draw_scenes(1, draws(11), intersections=fork)[0]
    plans = rp.lattice_plans(scene)
    figure, axes = pyplot.subplots()
    draw_scene(axes, scene, {"slow": plans[1], "fast": plans[4]})
    assert len(axes.patches) == 5 * int(scene.present.sum())
    assert len(axes.lines) == 2 * scene.routes + 4  # edges, and a path and dots for each plan
    pyplot.close(figure)
