"""A planner, its drafts mended, and what else the same scorer could do; under book/results.

Run from the repository root: ``python benchmarks/reflective_planning_study.py``. Half an hour or so
on one idle core; a killed run goes on where it was, from ``.cache/reflective_planning_study``, and
``--finished`` records what is there.

A cell is one world and one seed: a planner is trained and all methods plan for the same scenes that
it has not seen. Scores count the true motion of the other cars, whatever scorer chose the plan.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mdtheory import runs
from mdtheory.rl.reflective_planning import (
    PLANS,
    MaskedDenoiser,
    Scenes,
    best_plan,
    decode,
    draw_scenes,
    exponential_tilt,
    features,
    lattice_expert,
    perceived,
    plan_with_goals,
    planning_score,
    reflect,
    tokens_of,
    train_denoiser,
    waypoints_of,
)
from mdtheory.rl.reflective_planning.driving import drive

SCENES, STEPS, BATCH, WIDTH, TEST, SAMPLES = 3000, 1000, 48, 48, 250, 32
SEEDS = {"road": 3, "intersections": 3}
LOOPS, DRIVEN, REPLANS = 3, 50, 16  # seeds, scenes and half seconds of the closed loop
FOLDER = Path(".cache") / "reflective_planning_study"
PARTS = ("no_collision", "drivable", "time_to_collision", "comfort", "progress", "total")
CV = partial(planning_score, agents="constant_velocity")
TRUE = partial(planning_score, agents="true")


def trained(
    generator: torch.Generator, *, intersections: bool = False, started: bool = False
) -> MaskedDenoiser:  # fmt: skip
    """A planner that has seen what the expert shows; half as much but on the road."""
    part = 2 if intersections or started else 1
    scene = draw_scenes(
        SCENES // part, generator, intersections=intersections, started=started
    )  # fmt: skip
    shown = lattice_expert(scene, generator, 0.02)
    kept = shown.safe & PLANS.contains(shown.waypoints).all(-1)
    model, _ = train_denoiser(
        tokens_of(shown.waypoints[kept]), features(scene)[kept], generator, codes=PLANS.size,
        steps=STEPS // part, batch=BATCH, width=WIDTH, learning_rate=5e-3,
    )  # fmt: skip
    return model


def test_scenes(generator: torch.Generator, *, intersections: bool) -> tuple[Scenes, Tensor]:
    """Scenes in which some plan of the lattice is safe, and how far the best one gets."""
    scene = draw_scenes(TEST, generator, intersections=intersections)
    shown = lattice_expert(scene)
    kept = shown.safe & PLANS.contains(shown.waypoints).all(-1)
    return scene[kept], shown.best[kept]


def run_cell(world: str, seed: int) -> dict[str, Any]:
    """One planner, and all methods on the same scenes."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(1000 + seed)
    fork = world == "intersections"
    begin = time.process_time()
    model = trained(generator, intersections=fork)
    training = time.process_time() - begin
    scene, best = test_scenes(generator, intersections=fork)
    seen = features(scene)
    rows: dict[str, dict[str, Any]] = {}
    totals: dict[str, Tensor] = {}

    def add(name: str, plan: Callable[[], Any], seconds: float = 0.0) -> Any:
        """Score a method; the time of what it starts from is added by the caller."""
        start = time.process_time()
        answer = plan()
        spent = seconds + time.process_time() - start
        rounds = ""
        if isinstance(answer, tuple):
            answer, used = answer
            need = used > 0
            rounds = f"{used[need].float().mean():.3f} {need.float().mean():.3f} " + (
                f"{(used[need] <= 3).float().mean():.3f}"
            )
        waypoints = answer if answer.is_floating_point() else waypoints_of(answer)
        scores = planning_score(scene, waypoints, best=best)
        totals[name] = scores.total
        rows[name] = {part: 100 * getattr(scores, part).mean().item() for part in PARTS}
        rows[name] |= {"seconds": spent, "rounds": rounds}
        return answer

    def finished() -> dict[str, Any]:
        for row, value in totals.items():
            rows[row]["error"] = 100 * value.std().item() / len(value) ** 0.5
        return {"rows": rows, "training": training, "scenes": len(best)}

    def mend(tokens: Tensor, scorer: Any = CV, seen_scene: Scenes = scene, **more: Any) -> Any:
        return reflect(model, seen_scene, features(seen_scene), tokens, scorer, **more)

    expert = add("expert", lambda: lattice_expert(scene).waypoints)
    add("expert, quantised", lambda: tokens_of(expert))
    rules = add(
        "rule planner", lambda: lattice_expert(scene, agents="constant_velocity").waypoints
    )  # fmt: skip
    for steps in (1, 2, 5, 16):
        add(f"base, S={steps}", lambda n=steps: decode(model, seen, n))
    draft = decode(model, seen, 5)
    base = rows["base, S=5"]["seconds"]
    for count, distance in ((3, 0.9), (3, 3.0), (10, 0.9), (10, 2.0)):
        add(
            f"goals, K={count} d={distance}",
            lambda k=count, d=distance: plan_with_goals(model, scene, seen, CV, k, d),
        )
    aimed = plan_with_goals(model, scene, seen, CV)
    goals = rows["goals, K=3 d=0.9"]["seconds"]
    for rounds, radius in ((1, 10), (3, 10), (10, 10), (10, 3)):
        add(
            f"reflection, R={rounds} delta={radius}",
            lambda r=rounds, d=radius: mend(draft, rounds=r, radius=d), base,
        )  # fmt: skip
    add("search without inpainting", lambda: mend(draft, regenerate=False), base)
    add("goals + reflection", lambda: mend(aimed), goals)
    add("goals + search", lambda: mend(aimed, regenerate=False), goals)
    apart = plan_with_goals(model, scene, seen, CV, 10, 2.0)
    add("goals K=10 + reflection", lambda: mend(apart), rows["goals, K=10 d=2.0"]["seconds"])
    known = add("goals (true)", lambda: plan_with_goals(model, scene, seen, TRUE))
    add("reflection (true)", lambda: mend(draft, TRUE), base)
    add("goals + reflection (true)", lambda: mend(known, TRUE), goals)
    if fork:  # fewer methods: the road has told the rest
        start = time.process_time()
        eight = [decode(model, seen, 5, 1.0, generator=generator) for _ in range(8)]
        spent = time.process_time() - start
        add("best of 8", lambda: best_plan(scene, torch.stack(eight, -2), CV), spent)
        return finished()
    for sigma in (1.0, 3.0):
        noisy = perceived(scene, sigma, generator)

        def plan_noisy(noisy: Scenes = noisy) -> Any:
            tokens = plan_with_goals(model, noisy, features(noisy), CV)
            return mend(tokens, CV, noisy)

        add(f"goals + reflection (noise {sigma:g} m)", plan_noisy)
    start = time.process_time()
    many = torch.stack(
        [decode(model, seen, 5, 1.0, generator=generator) for _ in range(SAMPLES)], -2
    )
    each = (time.process_time() - start) / SAMPLES
    add("one sample", lambda: many[:, 0], each)
    for n in (3, 5, 8, 16, 32):
        add(f"best of {n}", lambda n=n: best_plan(scene, many[:, :n], CV), n * each)
    add("best of 32 (true)", lambda: best_plan(scene, many, TRUE), SAMPLES * each)
    start = time.process_time()
    worth = CV(scene[:, None], waypoints_of(many)).total.double()
    scoring = time.process_time() - start
    even = torch.full_like(worth, 1 / SAMPLES).log()
    for strength in (2.0, 10.0, 50.0):

        def tilted(strength: float = strength) -> Tensor:
            law = exponential_tilt(even, worth, strength).exp()
            pick = torch.multinomial(law, 1, generator=generator)
            return many.gather(1, pick[..., None].expand(-1, 1, many.shape[-1]))[:, 0]

        add(f"tilt, eta={strength:g} of 32", tilted, SAMPLES * each + scoring)
    unsure = torch.stack(
        [decode(model, seen, 5, 1.0, order="random", generator=generator) for _ in range(16)], -2
    )
    add("one sample, random order", lambda: unsure[:, 0], each)
    add("best of 16, random order", lambda: best_plan(scene, unsure, CV), 16 * each)
    five = best_plan(scene, many[:, :5], CV)
    add("best of 5 + reflection", lambda: mend(five), rows["best of 5"]["seconds"])
    top = best_plan(scene, many[:, :16], CV)
    add("best of 16 + reflection", lambda: mend(top), rows["best of 16"]["seconds"])
    fits = PLANS.contains(rules).all(-1)
    coded = torch.where(fits[:, None], tokens_of(torch.where(fits[:, None, None], rules, 0.0)),
                        draft)  # fmt: skip
    add("rule planner + reflection", lambda: mend(coded), rows["rule planner"]["seconds"])
    return finished()


def run_loop(seed: int) -> dict[str, Any]:
    """A planner that has seen cars off the line, and eight seconds of driving by it."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(2000 + seed)
    model = trained(generator, started=True)
    scene = draw_scenes(DRIVEN, generator)
    scene = scene[lattice_expert(scene).safe]

    def reflected(now: Scenes) -> Tensor:
        seen = features(now)
        return waypoints_of(reflect(model, now, seen, decode(model, seen), CV)[0])

    def both(now: Scenes) -> Tensor:
        tokens = plan_with_goals(model, now, features(now), CV)
        return waypoints_of(reflect(model, now, features(now), tokens, CV)[0])

    planners: dict[str, Callable[[Scenes], Tensor]] = {
        "rule planner": lambda now: lattice_expert(now, agents="constant_velocity").waypoints,
        "base": lambda now: waypoints_of(decode(model, features(now))),
        "reflection": reflected,
        "goals + reflection": both,
    }
    rows = {}
    for name, planner in planners.items():
        begin = time.process_time()
        found = drive(planner, scene, REPLANS)
        fine = ~found.crashed & ~found.left_road
        rows[name] = {
            "crashed": 100 * found.crashed.float().mean().item(),
            "left_road": 100 * found.left_road.float().mean().item(),
            "fine": 100 * fine.float().mean().item(),
            "comfort": 100 * found.comfort.mean().item(),
            "travelled": found.travelled.mean().item(),
            "seconds": time.process_time() - begin,
        }
    return {"rows": rows, "scenes": len(scene.offset)}


ORDER = [
    *[("road", seed) for seed in range(SEEDS["road"])],
    *[pair for seed in range(LOOPS) for pair in (("loop", seed), ("intersections", seed))],
]


def main() -> None:
    """Run what is missing and write the records."""
    options = argparse.ArgumentParser()
    options.add_argument("--finished", action="store_true", help="record what is on disk alone")
    run = runs.finished_cells if options.parse_args().finished else runs.sweep
    rows: list[dict[str, Any]] = []
    loops: list[dict[str, Any]] = []
    training = []
    for kind, seed in ORDER:
        if kind == "loop":
            for cell in run(run_loop, {}, seeds=[seed], folder=FOLDER):
                loops += driven(cell)
        else:
            for cell in run(run_cell, {"world": [kind]}, seeds=[seed], folder=FOLDER):
                training.append(cell.result["training"])
                rows += planned(cell)
    seeds = {world: len({row["seed"] for row in rows if row["world"] == world}) for world in SEEDS}
    write("reflective_planning_study", rows, max(seeds.values()), (
        f"{SCENES} scenes shown, {STEPS} steps of {BATCH} plans, width {WIDTH} (half as many "
        "scenes and steps but for the road); data and training "
        f"took {min(training):.0f} to {max(training):.0f} CPU seconds; up to {TEST} scenes "
        "planned, the same for all methods of a seed; sub-scores and total in percent under "
        "the true motion of the others, error is the standard error over scenes, seconds are "
        "CPU seconds for all scenes; rounds: their mean where any were needed, the share that "
        f"needed any, the share of these with at most 3; seeds: {seeds}"
    ))  # fmt: skip
    if loops:
        write("reflective_planning_loop", loops, len({row["seed"] for row in loops}), (
            f"{REPLANS / 2:g} seconds of driving with a new plan every half second and others "
            "that react; shares in percent: crashed by own fault, left the road, neither of the "
            "two, half seconds in comfort; travelled in m; seconds are CPU seconds for all scenes"
        ))  # fmt: skip


def planned(cell: runs.Cell) -> list[dict[str, Any]]:
    """Rows of the record for one planner; they are printed, too."""
    world, rows = cell.arguments["world"], []
    print(f"{world} {cell.seed}: trained in {cell.result['training']:.0f} CPU s, "
          f"{cell.result['scenes']} scenes", flush=True)  # fmt: skip
    for method, row in cell.result["rows"].items():
        parts = " ".join(f"{row[part]:5.1f}" for part in PARTS)
        print(f"  {method:34} {parts} +-{1.96 * row['error']:.1f} {row['seconds']:5.1f} CPU s "
              f"{row['rounds']}", flush=True)  # fmt: skip
        mean, need, few = row["rounds"].split() or ["", "", ""]
        rows.append(
            {"world": world, "seed": cell.seed, "method": method}
            | {part: f"{row[part]:.3f}" for part in (*PARTS, "error", "seconds")}
            | {"rounds": mean, "need": need, "within3": few}
        )
    return rows


def driven(cell: runs.Cell) -> list[dict[str, Any]]:
    """Rows of the record for one closed loop; they are printed, too."""
    rows = []
    for planner, row in cell.result["rows"].items():
        rows.append({"seed": cell.seed, "planner": planner, "scenes": cell.result["scenes"]}
                    | {name: f"{value:.3f}" for name, value in row.items()})  # fmt: skip
        print(f"loop {cell.seed} {planner:20} " + " ".join(
            f"{name} {value:.1f}" for name, value in row.items()), flush=True)  # fmt: skip
    return rows


def write(name: str, rows: list[dict[str, Any]], seeds: int, note: str) -> None:
    """One record."""
    runs.write_record(
        name, {column: [row[column] for row in rows] for column in rows[0]},
        command="python benchmarks/reflective_planning_study.py",
        device=f"float32 on {runs.describe_device(torch.device('cpu'))}", seeds=seeds, note=note,
    )  # fmt: skip


if __name__ == "__main__":
    main()
