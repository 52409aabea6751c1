"""Policy mirror descent on every device present against float64 on the CPU, and elsewhere."""

from pathlib import Path

import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from mdtheory.rl import policy_mirror_descent as pmd
from tests.everywhere import DEVICES, agrees_with_the_cpu, numbers, stays

B, S, A = 3, 4, 2


def process(device, dtype):
    transition = numbers(device, dtype, B, S, A, S).softmax(-1)
    return pmd.TabularMDP(transition, numbers(device, dtype, B, S, A), 0.8)


def policy(device, dtype):
    return numbers(device, dtype, B, S, A).softmax(-1)


def initial(device, dtype):
    return numbers(device, dtype, B, S).softmax(-1)


def iterates(device, dtype):
    run = pmd.policy_iterates(process(device, dtype), mm.Entropy(), 0.5, 2)
    return tuple(part.to(dtype) for iterate in run for part in iterate)


def values(device, dtype):
    mdp, value = process(device, dtype), numbers(device, dtype, B, S)
    return (
        mdp.look_ahead(value), mdp.uniform_policy(), pmd.bellman(mdp, value),
        pmd.bellman(mdp, value, policy(device, dtype), 0.3), pmd.bellman(mdp, value, None, 0.3),
        pmd.greedy(mdp, value), pmd.greedy(mdp, value, 0.3), pmd.bellman_error(mdp, value),
    )  # fmt: skip


def descents(mirror_map):
    def case(device, dtype):
        mdp = process(device, dtype)
        steps = torch.arange(1, 3, dtype=torch.float64, device=device) / 2
        return (
            pmd.policy_mirror_descent(mdp, mirror_map, 0.5, 2, policy(device, dtype)),
            pmd.policy_mirror_descent(mdp, mirror_map, steps, 2, temperature=0.2),
            pmd.soft_policy_iteration(mdp, 0.5, 2, mirror_map=mirror_map),
        )

    return case


def cases_of_descent(device, dtype):
    mdp = process(device, dtype)
    return (
        pmd.natural_policy_gradient(mdp, 0.1, 2, temperature=0.3),
        pmd.projected_q_ascent(mdp, 0.1, 2),
        pmd.adaptive_trust_region(mdp, 2, temperature=0.3),
    )


def right_sides(device, dtype):
    mdp, law = process(device, dtype), initial(device, dtype)
    first, best = mdp.uniform_policy(), policy(device, dtype)
    far, gap = pmd.bounds.distance(mm.Entropy(), best, first, law), law.sum(-1)
    return (
        pmd.bounds.mean_rate(far, gap, [0.5, 1.0], 0.8),
        pmd.bounds.linear_rate(far, gap, 5 * gap, 0.5, 0.8, 2),
        pmd.bounds.stationary_rate(far, gap, 0.5, 0.8, 2),
        pmd.bounds.regularised_rate(far, gap, 0.5, 0.1, 0.8, 2),
        *pmd.bounds.natural_rate(far, gap, 0.5, 0.1, 0.8, 2),
        pmd.bounds.contraction(gap, 0.8, 2),
    )


CASES = {
    "bounds": right_sides,
    "evaluate": lambda d, t: pmd.evaluate(process(d, t), policy(d, t), 0.3),
    "occupancy": lambda d, t: (pmd.occupancy(process(d, t), policy(d, t), initial(d, t)),),
    "operators": values,
    "iterates": iterates,
    "entropy": descents(mm.Entropy()),
    "euclidean": descents(mm.Euclidean(mm.Simplex())),
    "tsallis": descents(mm.Tsallis(0.5)),
    "log-barrier": descents(mm.LogBarrier()),
    "names": cases_of_descent,
    "policy iteration": lambda d, t: pmd.policy_iteration(process(d, t))[:2],
    "value iteration": lambda d, t: pmd.value_iteration(process(d, t), 1e-10)[:2],
    "modified": lambda d, t: pmd.modified_policy_iteration(process(d, t), 1e-10)[:2],
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_results_agree_with_the_cpu_in_double_precision(name, device, dtype):
    agrees_with_the_cpu(CASES[name], device, dtype)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_on_another_device(name, elsewhere, monkeypatch):
    """With fake tensors, mixing devices raises; no value can be read either."""
    from mdtheory.convex.mirror_maps import domains, tsallis

    for module in (domains, tsallis):  # iterations all run the same lines
        monkeypatch.setattr(module, "range", lambda n: range(min(n, 2)), raising=False)
    stays(CASES[name], elsewhere)


@pytest.mark.parametrize("device", DEVICES)
def test_stationary_laws_stay_on_their_device(device):
    mdp = process(device, torch.float64)
    law = pmd.bounds.stationary_law(mdp, policy(device, torch.float64))
    assert law.device.type == device
    torch.testing.assert_close(law.sum(-1), torch.ones_like(law[:, 0]))


@pytest.mark.parametrize("device", DEVICES)
def test_sparse_processes_stay_on_their_device(device):
    generator = torch.Generator(device).manual_seed(1)
    mdp = pmd.garnet(40, 3, 4, 0.9, generator, sparse=True)
    start = torch.full((40,), 1 / 40, dtype=torch.float64, device=device)
    for result in (
        pmd.evaluate(mdp, mdp.uniform_policy())[0],
        pmd.occupancy(mdp, mdp.uniform_policy(), start),
        pmd.policy_iteration(mdp).value,
        pmd.modified_policy_iteration(mdp).value,
    ):
        assert result.device.type == device
        assert bool(result.isfinite().all())


def test_every_public_function_has_a_case():
    """What makes no tensors, or lives on the CPU by its nature, is named here."""
    source = Path(__file__).read_text("utf-8")
    elsewhere = {"bounds", "Iterate", "Solution", "from_gymnasium", "gridworld", "linear_program"}
    numbers_only = {"geometric_steps", "natural_step", "trust_region_steps"}
    for name in set(pmd.__all__) - elsewhere - numbers_only:
        assert f"pmd.{name}(" in source, name
