"""Policies and values against exact rationals: units, discounts to almost 1, offsets, ties."""

import itertools
import math
import random
from fractions import Fraction

import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from mdtheory.rl import policy_mirror_descent as pmd
from mdtheory.rl.policy_mirror_descent import exact, planning, sparse
from tests.refused import close

F64 = torch.float64
DISCOUNTS = [0.0, 0.9, 1 - 1e-4, 1 - 1e-6, 1 - 1e-9]
UNITS = [1e-300, 1e-14, 1.0, 1e14, 1e290]


def solved(matrix, right):
    """Gauss and Jordan, in rationals."""
    rows = [[*row, last] for row, last in zip(matrix, right, strict=True)]
    for i in range(len(rows)):
        pivot = next(k for k in range(i, len(rows)) if rows[k][i] != 0)
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for k in range(len(rows)):
            if k != i and rows[k][i] != 0:
                factor = rows[k][i] / rows[i][i]
                rows[k] = [x - factor * y for x, y in zip(rows[k], rows[i], strict=True)]
    return [row[-1] / row[i] for i, row in enumerate(rows)]


class Exact:
    """A small process in rationals, whose rows sum to 1."""

    def __init__(self, seed, discount, unit=1.0, shift=0.0, mask=0.0):
        draw = random.Random(seed)
        self.states, self.actions = draw.randint(1, 4), draw.randint(1, 4)
        self.discount, sizes = Fraction(discount), (self.states, self.actions)
        self.transition = [[self.row(draw, seed % 2) for _ in range(sizes[1])]
                           for _ in range(sizes[0])]  # fmt: skip
        self.reward = [[Fraction(shift + unit * draw.randint(-9, 9)) for _ in range(sizes[1])]
                       for _ in range(sizes[0])]  # fmt: skip
        self.legal = [[a == 0 or draw.random() >= mask for a in range(sizes[1])]
                      for _ in range(sizes[0])]  # fmt: skip

    def row(self, draw, certain):
        chances = [draw.randint(0, 0 if certain else 6) for _ in range(self.states)]
        if sum(chances) == 0:
            chances[draw.randrange(self.states)] = 1
        return [Fraction(c, sum(chances)) for c in chances]

    def tensors(self):
        transition = [[[float(p) for p in row] for row in rows] for rows in self.transition]
        reward = [[float(r) for r in rows] for rows in self.reward]
        return torch.tensor(transition, dtype=F64), torch.tensor(reward, dtype=F64)

    def mdps(self):
        transition, reward = self.tensors()
        thin = sparse.to_csr(transition.flatten(0, 1).to_sparse_coo())
        legal = torch.tensor(self.legal)
        for rows in (transition, thin):
            yield pmd.TabularMDP(rows, reward, float(self.discount), legal)

    def value(self, policy):
        """Of a policy given by lists of probabilities, which sum to 1."""
        chain, gain = [], []
        for s, chances in enumerate(policy):
            moves = [sum(c * self.transition[s][a][t] for a, c in enumerate(chances))
                     for t in range(self.states)]  # fmt: skip
            chain.append([(s == t) - self.discount * m for t, m in enumerate(moves)])
            gain.append(sum(c * self.reward[s][a] for a, c in enumerate(chances)))
        return solved(chain, gain)

    def best(self):
        """The best values among all deterministic policies."""
        choices = [[a for a in range(self.actions) if self.legal[s][a]]
                   for s in range(self.states)]  # fmt: skip
        values = [self.value([[int(a == b) for b in range(self.actions)] for a in each])
                  for each in itertools.product(*choices)]  # fmt: skip
        return [max(v[s] for v in values) for s in range(self.states)]

    def size(self):
        return max(abs(r) for rows in self.reward for r in rows) / (1 - self.discount) or 1

    def off(self, found, value):
        """Largest error, beside the largest value that there could be."""
        return max(float(abs(Fraction(f) - v) / self.size())
                   for f, v in zip(found, value, strict=True))  # fmt: skip


@pytest.mark.parametrize("discount", DISCOUNTS)
@pytest.mark.parametrize("unit", UNITS)
def test_optimal_policies_are_those_of_rationals(discount, unit):
    for seed in range(4):
        process = Exact(seed, discount, unit, mask=0.3)
        best = process.best()
        for mdp in process.mdps():
            solution = pmd.policy_iteration(mdp)
            value, shares = pmd.linear_program(mdp)
            for policy in (solution.policy, torch.nn.functional.one_hot(
                shares.argmax(-1), process.actions).to(F64)):  # fmt: skip
                mine = process.value([[Fraction(p) for p in row] for row in policy.tolist()])
                assert mine == best or process.off([float(v) for v in mine], best) < 1e-15
                assert (policy[~mdp.feasible] == 0).all()
            assert process.off(solution.value.tolist(), best) < 2e-14
            assert process.off(value.tolist(), best) < 2e-14
            close(shares.sum(), torch.tensor(1.0, dtype=F64), tolerance=1e-12)


@pytest.mark.parametrize("discount", [*DISCOUNTS, 1 - 1e-12])
def test_values_of_policies_are_those_of_rationals(discount):
    for seed in range(6):
        process = Exact(seed, discount)
        halves = [[Fraction(1, process.actions)] * process.actions] * process.states
        expected = process.value(halves)
        for mdp in process.mdps():
            value, q = pmd.evaluate(mdp, mdp.uniform_policy())
            assert process.off(value.tolist(), expected) < 2e-14
            assert q.shape == mdp.reward.shape
            start = torch.full((process.states,), 1 / process.states, dtype=F64)
            share = pmd.occupancy(mdp, mdp.uniform_policy(), start)
            close(share.sum(), torch.tensor(1.0, dtype=F64), tolerance=1e-12)


def stay_or_go(discount, unit=1.0):
    """Stay for 1, or go for .9 to where 1.2 is paid."""
    transition = torch.zeros(2, 2, 2, dtype=F64)
    transition[:, 0, :] = torch.eye(2, dtype=F64)
    transition[:, 1, :] = torch.eye(2, dtype=F64).flip(0)
    reward = unit * torch.tensor([[1.0, 0.9], [1.2, 1.2]], dtype=F64)
    return transition, pmd.TabularMDP(transition, reward, discount)


@pytest.mark.parametrize("unit", [1e-300, 1e-14, 1e-6, 1.0, 1e6, 1e300])
def test_the_linear_programme_does_not_depend_on_units(unit):
    transition, mdp = stay_or_go(0.9, unit)
    value, shares = pmd.linear_program(mdp)
    expected = torch.tensor([0.9 + 0.9 * 12, 12.0], dtype=F64)
    close(value / unit, expected, tolerance=1e-13)
    assert shares.argmax(-1)[0] == 1
    assert transition.shape == (2, 2, 2)


@pytest.mark.parametrize("discount", [1 - 1e-7, 1 - 1e-9, 1 - 1e-12])
def test_policy_iteration_sees_what_is_small_beside_the_horizon(discount):
    _, mdp = stay_or_go(discount)
    thin = pmd.TabularMDP(
        sparse.to_csr(mdp.transition.flatten(0, 1).to_sparse_coo()), mdp.reward, discount
    )
    for process in (mdp, thin):
        solution = pmd.policy_iteration(process)
        assert solution.policy[0].tolist() == [0, 1]
        close(solution.value[1], torch.tensor(1.2 / (1 - discount), dtype=F64), tolerance=1e-15)


def test_a_loss_of_999_in_a_million_is_not_taken_for_rounding():
    """Staying pays 1; leaving for 1 - e and coming back for 1 + 3 e is better by e a step."""
    e, discount = 1e-3, 1 - 1e-6
    transition = torch.zeros(2, 2, 2, dtype=F64)
    transition[0, 0, 0] = transition[0, 1, 1] = transition[1, :, 0] = 1
    reward = torch.tensor([[1.0, 1 - e], [1 + 3 * e] * 2], dtype=F64)
    mdp = pmd.TabularMDP(transition, reward, discount)
    solution = pmd.policy_iteration(mdp)
    assert solution.policy[0, 1] == 1
    assert solution.value[0] - 1 / (1 - discount) > 990
    assert pmd.bellman_error(mdp, solution.value) < 1e-3
    stays = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=F64)
    lost = solution.value[0] - pmd.evaluate(mdp, stays)[0][0]
    assert pmd.bellman_error(mdp, pmd.evaluate(mdp, stays)[0]) >= lost > 990


@pytest.mark.parametrize("shift", [1e6, 1e14, -1e14])
def test_a_large_common_reward_changes_no_policy(shift):
    for seed in range(5):
        process = Exact(seed, 0.9, 4.0, shift)  # multiples of 4 are exact beside 1e14
        best = process.best()
        for mdp in process.mdps():
            policy = pmd.policy_iteration(mdp).policy
            chances = [[Fraction(p) for p in row] for row in policy.tolist()]
            assert process.value(chances) == best
            shares = pmd.linear_program(mdp)[1]
            assert shares.argmax(-1).shape == policy.argmax(-1).shape
            plain = pmd.TabularMDP(mdp.transition, mdp.reward - shift, 0.9)
            mine = pmd.policy_mirror_descent(mdp, mm.Entropy(), 0.3, 5)
            close(mine, pmd.policy_mirror_descent(plain, mm.Entropy(), 0.3, 5), tolerance=1e-9)


def test_advantages_keep_their_digits_where_the_horizon_is_long(generator):
    """Steps of the uniform policy, against advantages in rationals."""
    process = Exact(4, 1 - 1e-9)
    share = Fraction(1, process.actions)
    value = process.value([[share] * process.actions] * process.states)
    for mdp in process.mdps():
        after = pmd.policy_mirror_descent(mdp, mm.Entropy(), 0.1, 1)
        for s in range(process.states):
            gains = []
            for a in range(process.actions):
                ahead = sum(p * v for p, v in zip(process.transition[s][a], value, strict=True))
                gains.append(float(process.reward[s][a] + process.discount * ahead - value[s]))
            expected = (0.1 * torch.tensor(gains, dtype=F64)).softmax(-1)
            close(after[s], expected, tolerance=1e-9)


def test_a_discount_that_cannot_be_certified_is_named(monkeypatch):
    _, mdp = stay_or_go(1 - 1e-9)
    monkeypatch.setattr(exact, "EPS", 1e-40)
    initial = torch.full((2,), 0.5, dtype=F64)
    for call in (
        lambda: pmd.policy_iteration(mdp),
        lambda: pmd.evaluate(mdp, mdp.uniform_policy()),
        lambda: pmd.occupancy(mdp, mdp.uniform_policy(), initial),
    ):
        with pytest.raises(ArithmeticError, match=r"relative accuracy of .*, rounding allows"):
            call()


def test_a_programme_with_a_gap_names_it(monkeypatch):
    _, mdp = stay_or_go(0.9)
    monkeypatch.setattr(
        planning, "_basis", lambda mdp, reward, unit: torch.zeros(2, dtype=torch.int64)
    )
    with pytest.raises(ArithmeticError, match=r"gap of rounding, got 1\.7"):
        pmd.linear_program(mdp)


def test_a_value_that_overflows_is_refused():
    _, mdp = stay_or_go(1 - 1e-9, 1e300)
    with pytest.raises(ArithmeticError, match="overflow"):
        pmd.policy_iteration(mdp)


@pytest.mark.parametrize("unit", [1e-300, 1e-14, 1e14, 1e300])
def test_value_iteration_has_a_tolerance_in_the_units_of_the_rewards(few, unit):
    scaled = pmd.TabularMDP(few.transition, few.reward * unit, few.discount)
    for found in (pmd.value_iteration(scaled), pmd.modified_policy_iteration(scaled)):
        close(found.value / unit, pmd.policy_iteration(few).value, tolerance=1e-9)
        close(found.policy, pmd.policy_iteration(few).policy)


def test_value_iteration_forgets_the_constant(garnets):
    """It ends where the relative values have settled, however long the horizon."""
    far = pmd.TabularMDP(garnets.transition[:5], garnets.reward[:5], 1 - 1e-7)
    found = pmd.value_iteration(far, 1e-3)
    assert found.iterations < 3000
    assert (found.value - pmd.policy_iteration(far).value).abs().max() <= 1e-3 + 1e-8
    with pytest.raises(ArithmeticError, match="rounding allows"):
        pmd.value_iteration(far, 1e-12)


def test_the_certificate_holds_against_rationals():
    for seed in range(6):
        process = Exact(seed, 1 - 1e-6)
        best = process.best()
        for mdp in process.mdps():
            for guess in (pmd.policy_iteration(mdp).value, mdp.reward.amax(-1)):
                bound = Fraction(pmd.bellman_error(mdp, guess).item())
                off = max(abs(Fraction(g) - b) for g, b in zip(guess.tolist(), best, strict=True))
                assert off <= bound


def test_rows_of_float32_are_laws_in_float64(few):
    single = pmd.TabularMDP(few.transition.float(), few.reward.float(), 1 - 1e-9)
    value = pmd.evaluate(single, single.uniform_policy())[0].double()
    far = pmd.TabularMDP(few.transition, few.reward, 1 - 1e-9)
    expected = pmd.evaluate(far, far.uniform_policy())[0]
    close(value, expected, tolerance=1e-5)
    for found in (pmd.policy_iteration(single), pmd.modified_policy_iteration(single, 1e4)):
        assert found.policy.dtype == torch.float32
        close(found.value.double(), pmd.policy_iteration(far).value, tolerance=1e-5)


def test_products_of_pairs_are_exact(generator):
    dense = torch.rand(7, 5, generator=generator, dtype=F64) ** 9
    high = torch.randn(5, generator=generator, dtype=F64) * 1e9
    low = 1e-17 * high * torch.rand(5, generator=generator, dtype=F64)
    for matrix in (dense, sparse.to_csr(dense.to_sparse_coo())):
        found = exact.Rows(matrix).product(exact.Pair(high, low))
        for i in range(7):
            expected = sum(
                Fraction(dense[i, j].item()) * (Fraction(high[j].item()) + Fraction(low[j].item()))
                for j in range(5)
            )
            mine = Fraction(found.high[i].item()) + Fraction(found.low[i].item())
            assert abs(mine - expected) <= Fraction(2) ** -98 * Fraction(high.abs().max().item())


def test_powers_of_two_do_not_overflow_on_the_way():
    small = torch.tensor([1e-320, 3.0], dtype=F64)
    exponent = torch.tensor([1100, -1100])
    expected = torch.tensor([math.ldexp(1e-320, 1100), math.ldexp(3.0, -1100)], dtype=F64)
    assert torch.equal(sparse.times_power(small, exponent), expected)
