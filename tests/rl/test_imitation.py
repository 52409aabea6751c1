"""Weights, occupancies and the exact loop: values, shapes, edges."""

import math

import pytest
import torch

from mdtheory.convex.mirror_maps import mixture
from mdtheory.rl import imitation as im
from mdtheory.rl.imitation import bounds
from mdtheory.rl.policy_mirror_descent import occupancy
from tests.rl.imitation_cases import F64, bandit, draws, law, pairs, plain_kl, processes, room


def close(left, right, tolerance=1e-12):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


# Weights.


@pytest.mark.parametrize("step", [0.0, 0.05, 0.2, 0.7, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3, 60, 400])
def test_weights_are_those_of_the_recursion(n, step):
    weights = torch.ones(1, dtype=F64)
    for _ in range(n - 1):
        weights = torch.cat([(1 - step) * weights, torch.tensor([step], dtype=F64)])
    found = im.ensemble_weights(n, step)
    assert found.dtype == F64
    close(found, weights)
    close(found.sum(), torch.tensor(1.0, dtype=F64))


def test_weights_grow_from_the_second_on_and_the_first_is_heavy_for_long():
    weights = im.ensemble_weights(40, 0.05)
    assert (weights[1:].diff() > 0).all()
    assert weights.argmax() == 0
    assert im.ensemble_weights(61, 0.05).argmax() == 60
    # The other order is another law: the sum does not tell, the first entry does.
    assert not torch.allclose(weights, weights.flip(0))


def test_weights_of_many_step_sizes():
    step = torch.tensor([[0.0, 0.3], [0.5, 1.0]], dtype=torch.float32)
    found = im.ensemble_weights(4, step)
    assert found.shape == (2, 2, 4)
    assert found.dtype == torch.float32
    for i in range(2):
        for j in range(2):
            close(found[i, j].double(), im.ensemble_weights(4, step[i, j].item()), 1e-6)


def test_weights_of_a_record_are_those_of_its_steps():
    mdp, expert, _ = processes(3)
    record = im.boost_occupancies(mdp, expert, im.best_learner, 0.3, 7)
    close(record.weights(), im.ensemble_weights(8, 0.3).expand(3, -1))
    mixed = torch.einsum("...t,t...sa->...sa", record.weights(), record.learners)
    close(mixed, record.mixture[-1])
    harmonic = im.boost_occupancies(mdp, expert, im.best_learner, lambda t: 1 / (t + 2), 7)
    close(harmonic.weights(), torch.full((3, 8), 1 / 8, dtype=F64))


# Occupancies.


def test_an_occupancy_satisfies_the_flow_and_gives_its_policy_back():
    mdp, _, initial = processes()
    policy = law(mdp, draws(1), 2.0)
    d = im.state_action_occupancy(mdp, policy, initial)
    close(d.sum(-1), occupancy(mdp, policy, initial))
    close(im.initial_law(mdp, d), initial.expand(50, -1))
    close(im.policy_of_occupancy(d), policy)


def test_a_state_that_is_never_visited_gets_the_uniform_policy():
    d = torch.tensor([[0.25, 0.75], [0.0, 0.0]], dtype=F64)
    close(im.policy_of_occupancy(d), torch.tensor([[0.25, 0.75], [0.5, 0.5]], dtype=F64))


def test_divergence_and_gap_on_numbers():
    d = torch.tensor([[0.5, 0.25], [0.25, 0.0]], dtype=F64)
    e = torch.tensor([[0.25, 0.25], [0.25, 0.25]], dtype=F64)
    s = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=F64)
    half = torch.tensor(0.5 * math.log(2), dtype=F64)
    close(im.occupancy_divergence(d, e), half)
    close(im.frank_wolfe_gap(d, s, e), half)  # log(d/e) is 0 where s goes
    assert im.occupancy_divergence(e, d) == math.inf
    # A learner that goes where the mixture does not is promised everything.
    corner = torch.tensor([[0.0, 0.0], [0.0, 1.0]], dtype=F64)
    assert im.frank_wolfe_gap(d, corner, e) == math.inf
    assert im.frank_wolfe_gap(d, d, e) == 0


def test_divergence_broadcasts():
    mdp, expert, initial = processes(4)
    many = torch.stack([pairs(mdp, initial, draws(k)) for k in range(3)])
    found = im.occupancy_divergence(many, expert)
    assert found.shape == (3, 4)
    close(found, plain_kl(many, expert))


# The loop.


def test_the_expert_has_no_reward_and_no_gap():
    mdp, expert, _ = processes(5)
    policy = im.policy_of_occupancy(expert)
    record = im.boost_occupancies(mdp, expert, im.best_learner, 0.5, 1, start=policy)
    assert record.divergence[0].abs().max() < 1e-14
    assert record.gap[0].abs().max() < 1e-12


def test_step_one_keeps_the_last_learner_and_step_zero_the_first():
    mdp, expert, _ = processes(5)
    learn = im.mirror_learner(1, 0.5)
    last = im.boost_occupancies(mdp, expert, learn, 1.0, 6)
    close(last.mixture, last.learners)
    frozen = im.boost_occupancies(mdp, expert, learn, 0.0, 6)
    close(frozen.mixture, frozen.mixture[:1].expand(7, -1, -1, -1))


def test_steps_in_every_form_agree():
    mdp, expert, _ = processes(4)
    learn = im.mirror_learner(2, 0.3)
    one = im.boost_occupancies(mdp, expert, learn, 0.25, 5)
    tensor = torch.full((4,), 0.25, dtype=F64)
    for step in ([0.25] * 5, lambda t: 0.25, tensor, [tensor] * 5, lambda t: tensor):
        assert torch.equal(im.boost_occupancies(mdp, expert, learn, step, 5).mixture, one.mixture)


def test_many_runs_at_once_are_each_of_them():
    mdp, expert, _ = processes(1)
    sizes = torch.tensor([0.1, 0.4, 0.9], dtype=F64)[:, None]
    start = mdp.uniform_policy().expand(3, 1, -1, -1)
    record = im.boost_occupancies(mdp, expert, im.mirror_learner(1, 0.5), sizes, 5, start=start)
    for k, size in enumerate(sizes.flatten().tolist()):
        alone = im.boost_occupancies(mdp, expert, im.mirror_learner(1, 0.5), size, 5)
        close(record.mixture[:, k], alone.mixture)
        close(record.divergence[:, k], alone.divergence)


def test_the_line_search_is_the_best_step():
    mdp, expert, _ = processes(20)
    record = im.boost_occupancies(mdp, expert, im.best_learner, "line_search", 4)
    assert (record.divergence.diff(dim=0) <= 1e-14).all()
    for size in torch.linspace(0, 1, 101, dtype=F64):
        other = torch.lerp(record.mixture[:-1], record.learners[1:], size)
        assert (plain_kl(other, expert) >= record.divergence[1:] - 1e-12).all()


def test_an_exact_oracle_loses_support_with_step_one():
    mdp, expert = room()
    with pytest.raises(ValueError, match=r"step: expected mixtures without zeros"):
        im.boost_occupancies(mdp, expert, im.best_learner, 1.0, 2)


def test_the_law_of_the_first_state_may_be_given():
    """An expert seen in samples is no occupancy; then it must be."""
    mdp, expert, initial = processes(3)
    noisy = expert * (1 + 0.9 * torch.rand(expert.shape, generator=draws(3), dtype=F64))
    noisy = noisy / noisy.sum((-2, -1), keepdim=True)
    with pytest.raises(ValueError, match="expert: expected an occupancy of these processes"):
        im.boost_occupancies(mdp, noisy, im.best_learner, 0.1, 1)
    record = im.boost_occupancies(mdp, noisy, im.best_learner, 0.1, 3, initial=initial)
    close(im.initial_law(mdp, record.mixture[-1]), initial.expand(3, -1))


def test_the_mirror_step_is_the_geometric_mixture():
    _, expert, _ = processes(5)
    start = torch.full_like(expert, 1 / 18)
    record = im.mirror_occupancies(start, expert, 0.3, 4)
    flat = start.log().flatten(-2)
    for t in range(4):
        flat = mixture(flat, expert.log().flatten(-2), 0.3)
        close(record[t + 1].flatten(-2), flat.exp())
    close(im.mirror_occupancies(start, expert, 1.0, 1)[1], expert)


def test_geometric_iterates_leave_the_polytope_arithmetic_ones_do_not():
    mdp, expert, initial = processes(5)
    start = pairs(mdp, initial, draws(8), 2.0)
    geometric = im.mirror_occupancies(start, expert, 0.5, 1)[1]
    assert (im.initial_law(mdp, geometric) - initial).abs().amax() > 1e-2
    close(im.initial_law(mdp, (start + expert) / 2), initial.expand(5, -1))


def test_the_grid_of_the_page():
    """Measured once: fixed steps stop, harmonic ones and the line search do not."""
    mdp, expert = room()
    ends = {}
    for name, step in {
        "0.2": 0.2, "open": lambda t: 2 / (t + 3), "uniform": lambda t: 1 / (t + 2),
        "search": "line_search",
    }.items():  # fmt: skip
        record = im.boost_occupancies(mdp, expert, im.best_learner, step, 100)
        ends[name] = record.divergence[-20:].mean().item()
    assert ends["0.2"] > 0.3
    assert ends["open"] < 0.15
    assert ends["uniform"] < 0.06
    assert ends["search"] < 0.01


def test_bounds_on_numbers():
    close(bounds.constant_step_bound(2.0, 3.0, 0.5, 2), torch.tensor(0.5 + 0.75 * 0.75), 1e-6)
    close(bounds.open_loop_bound(2.0, 3.0, 4), torch.tensor(1.0), 1e-6)
    assert bounds.mirror_bound(3.0, 0.5, 2) == 0.75
    assert bounds.single_sample_bound(2.0, 0.5) == 0.125
    half = bounds.log_mean_bias_bound(1 - 1e-3, 1.0, 1)
    assert abs(half.item() - 0.5) < 1e-3


def test_the_bandit_is_the_simplex():
    mdp = bandit(3)
    policy = law(mdp, draws(2))
    one = torch.ones(1, dtype=F64)
    close(im.state_action_occupancy(mdp, policy, one), policy)
