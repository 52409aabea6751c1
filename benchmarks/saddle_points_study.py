"""AdaWAC and seven other arms on brain slices, recorded under book/results.

Run from the repository root, with the extra ``images`` installed (only the volumes in nilearn's
wheel are read): ``python benchmarks/saddle_points_study.py``. Some twenty minutes on one core; a
killed run goes on where it was, from the cells in ``.cache/saddle_points_study``.

Every seed has its own pseudo-subjects, warm start and views; all seeds are one program. Three
budgets of slices: all 96; half of them; and half of them with few labels, of which a quarter of
the dense ones. In the scenario "erased" the labels of 40 % of the dense slices are lost.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mdtheory import runs
from mdtheory.convex.saddle_points import (
    ARMS,
    Slices,
    UNet,
    brain_slices,
    dice,
    hausdorff95,
    ranking,
    segment,
    train_segmentation,
)

SEEDS, SLICES, TEST_SLICES, PIXEL = 5, 96, 96, 6
WARM, STEPS, RATE, NOISE = 240, 200, 0.005, 1.0
SCALE, WEIGHT_STEP = 4.0, 50.0
BUDGETS = ("full", "half", "sparse half")
ERASED, ERASED_ARMS = 0.4, ("pair", "trim", "adawac", "pseudo")
# What else the weights are asked: the factor of the consistency and the step size.
SETTINGS = ((0.25, 50.0), (1.0, 50.0), (4.0, 5.0))
WEAK = 0.25  # the factor that the rule of the chapter gives, for all arms with consistency
FOLDER = Path(".cache") / "saddle_points_study"
SHOWN = 4  # slices of the first seed whose masks are recorded


def training_slices(scenario: str, budget: str) -> tuple[Slices, Tensor, Tensor]:
    """Images and labels, which slices truly have a target, and whose labels were erased."""
    generator = torch.Generator().manual_seed(100)
    images, labels = brain_slices(SEEDS, SLICES, generator, pixel=PIXEL)
    dense = labels.flatten(2).any(2)
    order = torch.rand(SEEDS, SLICES, generator=generator)
    if budget == "half":
        kept = order.argsort(1)[:, : SLICES // 2]
    elif budget == "sparse half":
        # A quarter of a half: the first of the dense slices, filled up with slices without target.
        few = SLICES // 8
        place = torch.where(dense, order, 2.0).argsort(1)[:, :few]
        rest = torch.where(dense, 2.0, order).argsort(1)[:, : SLICES // 2 - few]
        kept = torch.cat([place, rest], 1)
    else:
        kept = torch.arange(SLICES).expand(SEEDS, -1)
    seed = torch.arange(SEEDS)[:, None]
    images, labels, dense = images[seed, kept], labels[seed, kept], dense[seed, kept]
    erased = torch.zeros_like(dense)
    if scenario == "erased":
        erased = dense & (torch.rand(dense.shape, generator=generator) < ERASED)
        labels = torch.where(erased[..., None, None], 0, labels)
    return Slices(images, labels), dense, erased


def test_slices() -> Slices:
    """The same for all."""
    generator = torch.Generator().manual_seed(200)
    return brain_slices(SEEDS, TEST_SLICES, generator, test=True, pixel=PIXEL)


def warm_network(scenario: str, budget: str) -> UNet:
    """Networks after the warm start, which all arms share; on disk once trained."""
    path = FOLDER / f"warm-{scenario}-{budget.replace(' ', '-')}.pt"
    generator = torch.Generator().manual_seed(300)
    if path.exists():
        network = UNet(SEEDS, generator=generator)
        network.load_state_dict(torch.load(path, weights_only=True))
        return network
    (images, labels), _, _ = training_slices(scenario, budget)
    network = train_segmentation(
        images, labels, "pair", warm_start=0, steps=WARM, falling=False, learning_rate=RATE,
        noise=NOISE, generator=generator,
    ).network  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(network.state_dict(), temporary)
    temporary.replace(path)
    return network


def run_arm(
    scenario: str, budget: str, arm: str, scale: float, weight_step: float, steps: int, seed: int
) -> dict[str, Any]:
    """One arm for all seeds: what it scores, and where its weights go."""
    torch.set_num_threads(1)
    begin = time.process_time()
    (images, labels), dense, erased = training_slices(scenario, budget)
    if arm == "warm":
        network = warm_network(scenario, budget)
        record = None
    else:
        record = train_segmentation(
            images, labels, arm, consistency_weight=scale, weight_step_size=weight_step,
            warm_start=warm_network(scenario, budget), steps=steps, learning_rate=RATE,
            noise=NOISE, generator=torch.Generator().manual_seed(400 + seed),
        )  # fmt: skip
        network = record.network
    test = test_slices()
    found, truth = segment(network, test.images) == 1, test.labels == 1
    has = truth.flatten(2).any(2)
    overlap, distance = dice(found, truth), hausdorff95(found, truth)
    false = found.flatten(2).any(2) & ~has
    shown = [found[0, k].int().flatten().tolist() for k in pictures(truth)]
    result: dict[str, Any] = {
        "dsc": (100 * overlap.nanmean(1)).tolist(),
        "hd95": distance.nanmean(1).tolist(),
        "dsc_target": (100 * torch.where(has, overlap, torch.nan).nanmean(1)).tolist(),
        "false_alarm": (false.sum(1) / (~has).sum(1)).tolist(),
        "shown": ["".join(map(str, cells)) for cells in shown],
    }
    if arm == "adawac" and record is not None:
        weights, kept = record.weights, dense & ~erased
        result |= {
            "dense": _means(weights, kept),
            "sparse": _means(weights, ~dense),
            "erased": _means(weights, erased),
            "auc": [
                ranking(w[~e], d[~e]).item() for w, d, e in zip(weights, dense, erased, strict=True)
            ],
            "dense_below": _means((weights < 0.5).double(), kept),
            "path": _paths(record.drawn, record.used, kept, ~dense),
        }
    result["seconds"] = time.process_time() - begin
    return result


def pictures(truth: Tensor) -> list[int]:
    """Test slices of the first seed that are shown: three with a target, one without."""
    has = truth[0].flatten(1).any(1)
    return [*has.nonzero()[: SHOWN - 1, 0].tolist(), int((~has).nonzero()[0])]


def _means(values: Tensor, chosen: Tensor) -> list[float]:
    return torch.where(chosen, values, torch.nan).nanmean(1).tolist()


def _paths(drawn: Tensor, used: Tensor, dense: Tensor, sparse: Tensor) -> list[list[float]]:
    """Mean weight of the dense and of the sparse slices after every draw of all, over seeds."""
    now = torch.full(dense.shape, 0.5, dtype=used.dtype)
    rows = []
    draws = max(1, dense.shape[1] // drawn.shape[2])
    for k, (where, what) in enumerate(zip(drawn, used, strict=True)):
        now = now.scatter(1, where, what)
        if (k + 1) % draws == 0:
            rows.append([
                torch.where(group, now, torch.nan).nanmean().item() for group in (dense, sparse)
            ])  # fmt: skip
    return rows


def cells(steps: int) -> list[dict[str, Any]]:
    """All grids of the study, as arguments of one sweep each."""
    shared = {"scale": [SCALE], "weight_step": [WEIGHT_STEP], "steps": [steps]}
    grids: list[dict[str, Any]] = [
        {"scenario": ["natural"], "budget": list(BUDGETS), "arm": ["warm", *ARMS], **shared},
        {"scenario": ["erased"], "budget": ["full"], "arm": list(ERASED_ARMS), **shared},
    ]
    grids.append({
        "scenario": ["natural"], "budget": ["full"], "arm": ["consistency", "pseudo"],
        "scale": [WEAK], "weight_step": [WEIGHT_STEP], "steps": [steps],
    })  # fmt: skip
    for scale, step in SETTINGS:
        grids.append({
            "scenario": ["natural"], "budget": ["full"], "arm": ["adawac"], "scale": [scale],
            "weight_step": [step], "steps": [steps],
        })  # fmt: skip
    return grids


def main() -> None:
    """Run what is missing and write the three records."""
    options = argparse.ArgumentParser()
    options.add_argument("--steps", type=int, default=STEPS)
    steps = options.parse_args().steps
    rows: list[dict[str, Any]] = []
    paths: list[dict[str, Any]] = []
    masks: list[dict[str, Any]] = []
    for grid in cells(steps):
        for cell in runs.sweep(run_arm, grid, seeds=[0], folder=FOLDER):
            told, result = cell.arguments, cell.result
            print(
                f"{told['scenario']:8} {told['budget']:12} {told['arm']:12} {told['scale']:g} "
                f"{told['weight_step']:g}: DSC "
                + " ".join(f"{one:.1f}" for one in result["dsc"])
                + "".join(
                    f"  {name} " + " ".join(f"{one:.2f}" for one in result[name])
                    for name in ("dense", "sparse", "erased")
                    if name in result and told["arm"] == "adawac"
                ),
                flush=True,
            )
            names = ("scenario", "budget", "arm", "scale", "weight_step")
            key = {name: told[name] for name in names}
            for seed in range(SEEDS):
                row = key | {"seed": seed}
                for name in ("dsc", "hd95", "dsc_target", "false_alarm"):
                    row[name] = f"{result[name][seed]:.4g}"
                for name in ("dense", "sparse", "erased", "auc", "dense_below"):
                    value = result[name][seed] if name in result else float("nan")
                    row[name] = f"{value:.4g}"
                rows.append(row)
            usual = told["scale"] == SCALE and told["weight_step"] == WEIGHT_STEP
            if "path" in result and usual:
                paths += [
                    {"scenario": told["scenario"], "budget": told["budget"], "draw": k + 1,
                     "dense": f"{dense:.4f}", "sparse": f"{sparse:.4f}"}
                    for k, (dense, sparse) in enumerate(result["path"])
                ]  # fmt: skip
            if (told["scenario"], told["budget"]) == ("natural", "full") and usual:
                masks += [
                    {"picture": k, "arm": told["arm"], "cells": text}
                    for k, text in enumerate(result["shown"])
                ]
    test = test_slices()
    for k, index in enumerate(pictures(test.labels == 1)):
        level = (4.5 + 2 * test.images[0, index, 0]).round().clamp(0, 9).int()
        for arm, values in (("image", level), ("truth", test.labels[0, index])):
            text = "".join(map(str, values.flatten().tolist()))
            masks.append({"picture": k, "arm": arm, "cells": text})
    shared: dict[str, Any] = {
        "command": "python benchmarks/saddle_points_study.py",
        "device": f"float32 on {runs.describe_device(torch.device('cpu'))}",
        "seeds": SEEDS,
    }
    setting = (
        f"coronal half slices of the ICBM 152 template, {PIXEL} mm pixels (16 x 32), deformed; "
        f"{SLICES} slices (half: {SLICES // 2}) for training, {TEST_SLICES} for testing, from "
        f"blocks 4 mm apart; UNet 8-16-32, Adam {RATE:g}, batch 16, {WARM} steps of warm start "
        f"shared by all arms and {steps} after it; overlap loss half of the total. "
    )
    _write("saddle_points_study", rows, shared, setting + (
        "dsc in per cent and hd95 in pixels: mean over slices, absent in both skipped, in one dsc "
        "0 and hd95 the diagonal; dsc_target: over slices with a target; false_alarm: share of "
        "slices without target with a pixel of it; dense, sparse, erased: mean weight of slices "
        "with a target, without one, and whose label was erased; dense_below: share of dense "
        "slices whose weight ends below 1/2"
    ))  # fmt: skip
    _write("saddle_points_paths", paths, shared, setting + (
        "mean weight of dense and of sparse slices over all seeds, after every draw of all slices"
    ))  # fmt: skip
    _write("saddle_points_pictures", masks, shared, setting + (
        "four test slices of the first seed: truth, the pixels that each arm finds, and the image "
        "in ten grey levels; 16 rows of 32 pixels"
    ))  # fmt: skip


def _write(name: str, rows: list[dict[str, Any]], shared: dict[str, Any], note: str) -> None:
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    runs.write_record(name, columns, note=note, **shared)


if __name__ == "__main__":
    main()
