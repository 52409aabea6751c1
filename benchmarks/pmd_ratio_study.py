"""How tight the rates of policy mirror descent are, on 10,000 processes, under book/results.

Run from the repository root: ``python benchmarks/pmd_ratio_study.py``; a few minutes on one core.
For every theorem, discount and step the record holds the worst and the median ratio of the two
sides over the processes, each at its own worst iteration but the start, where some of the bounds
say nothing; and the median at the last iteration.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mdtheory import runs
from mdtheory.convex.mirror_maps import Entropy, Euclidean, MirrorMap, Simplex
from mdtheory.device import default_device
from mdtheory.rl import policy_mirror_descent as pmd
from mdtheory.rl.policy_mirror_descent import bounds

PROCESSES, STATES, ACTIONS, BRANCHES, ITERATIONS = 10_000, 10, 4, 3, 30
DISCOUNTS = (0.5, 0.9, 0.99)
STEPS = (0.1, 1.0, 10.0)
MAPS: dict[str, MirrorMap] = {"entropy": Entropy(), "Euclidean": Euclidean(Simplex())}
Rows = list[tuple[object, ...]]


def mean(law: Tensor, values: Tensor) -> Tensor:
    return (law * values).sum(-1)


def compare(rows: Rows, label: str, discount: float, setting: str, left: Tensor, right: Tensor):
    """Check the bound, and record how tight it was after at least one update."""
    runs.check_bound(label, left, right)
    # Where both sides have shrunk to rounding their ratio says nothing.
    ratio = torch.where(right > 1e-10, left / right, 0.0)
    ratio = ratio if label == "thm-npg-sup" else ratio[1:]  # that theorem begins with one update
    worst = ratio.amax(0)
    row = (label, discount, setting, left.shape[1], worst.max().item(), worst.median().item())
    rows.append((*row, ratio[-1].median().item()))


def plain(rows: Rows, mdp: pmd.TabularMDP) -> None:
    discount, solution = mdp.discount, pmd.policy_iteration(mdp)
    uniform = torch.full_like(solution.value, 1 / mdp.states)
    share = pmd.occupancy(mdp, solution.policy, uniform)
    law = bounds.stationary_law(mdp, solution.policy)
    mismatch = (share / uniform).amax(-1) / (1 - discount)
    for name, mirror_map in MAPS.items():
        for eta in STEPS:
            gaps, still, first = [], [], None
            for now in pmd.policy_iterates(mdp, mirror_map, eta, ITERATIONS):
                first = now if first is None else first
                gaps.append(mean(uniform, solution.value - now.value))
                still.append(mean(law, solution.value - now.value))
            assert first is not None
            far = bounds.distance(mirror_map, solution.policy, first.policy, share)
            start = mean(share, solution.value - first.value)
            right = bounds.mean_rate(far, start, [eta] * ITERATIONS, discount)
            setting = f"{name}, step {eta:g}"
            compare(rows, "thm-pmd-sublinear", discount, setting, torch.stack(gaps[:-1]), right)
            far = bounds.distance(mirror_map, solution.policy, first.policy, law)
            right = bounds.stationary_rate(far, still[0], eta, discount, ITERATIONS)
            compare(rows, "thm-pmd-stationary", discount, setting, torch.stack(still), right)
            growth = mismatch / (mismatch - 1)
            steps: Sequence[Tensor] = [eta * growth**k for k in range(ITERATIONS)]
            gaps = [
                mean(uniform, solution.value - now.value)
                for now in pmd.policy_iterates(mdp, mirror_map, steps, ITERATIONS)
            ]
            far = bounds.distance(mirror_map, solution.policy, first.policy, share)
            right = bounds.linear_rate(far, gaps[0], mismatch, eta, discount, ITERATIONS)
            compare(rows, "thm-pmd-geometric", discount, setting, torch.stack(gaps), right)


def regularised(rows: Rows, mdp: pmd.TabularMDP, tau: float) -> None:
    discount, entropy = mdp.discount, Entropy()
    best = pmd.soft_policy_iteration(mdp, tau, 40)
    value, action_value = pmd.evaluate(mdp, best, tau)
    law = bounds.stationary_law(mdp, best)
    for share in (0.1, 0.5, 1.0):
        alpha = share * (1 - discount) / tau
        eta = pmd.natural_step(alpha, discount, tau)
        far, gaps, q_far, log_far, all_gaps = [], [], [], [], []
        for now in pmd.policy_iterates(mdp, entropy, eta, ITERATIONS, temperature=tau):
            gaps.append(mean(law, value - now.value))
            far.append(bounds.distance(entropy, best, now.policy, law))
            q_far.append((action_value - now.action_value).abs().amax((-2, -1)))
            log_far.append((best.log() - now.policy.log()).abs().amax((-2, -1)))
            all_gaps.append((value - now.value).abs().amax(-1))
        setting = f"temperature {tau:g}, {share:g} of the largest step"
        left = torch.stack(gaps) + (tau + 1 / eta) * torch.stack(far)
        right = bounds.regularised_rate(far[0], gaps[0], eta, tau, discount, ITERATIONS)
        compare(rows, "thm-pmd-regularised", discount, setting, left, right)
        q_right, log_right = bounds.natural_rate(
            q_far[0], log_far[0], alpha, tau, discount, ITERATIONS
        )
        compare(
            rows, "thm-npg-sup", discount, setting + ", values", torch.stack(q_far[1:]), q_right
        )
        compare(
            rows, "thm-npg-sup", discount, setting + ", logs", torch.stack(log_far[1:]), log_right
        )
        if math.isinf(eta):
            right = bounds.contraction(all_gaps[0], discount, ITERATIONS)
            compare(rows, "thm-policy-iteration", discount, setting, torch.stack(all_gaps), right)


def main() -> None:
    """Run every cell and write the record."""
    device = default_device()
    rows: Rows = []
    for discount in DISCOUNTS:
        generator = torch.Generator(device).manual_seed(0)
        mdp = pmd.garnet(STATES, ACTIONS, BRANCHES, discount, generator, (PROCESSES,))
        plain(rows, mdp)
        for tau in (0.1, 1.0):
            regularised(rows, mdp, tau)
        print(f"discount {discount}: done")
    names = ("statement", "discount", "setting", "processes", "worst", "median", "median_last")
    columns = {
        name: [f"{row[i]:.6f}" if i >= 4 else row[i] for row in rows]
        for i, name in enumerate(names)
    }
    path = runs.write_record(
        "pmd_ratio_study", columns, command="python benchmarks/pmd_ratio_study.py",
        device=runs.describe_device(device), seeds=PROCESSES,
        note=f"Garnet processes, {STATES} states, {ACTIONS} actions, {BRANCHES} next states",
    )  # fmt: skip
    print(path)


if __name__ == "__main__":
    main()
