"""Where preferences come from: random and cyclic games, dice and votes."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, product

import pytest
import torch

from mdtheory.data import load_judges
from mdtheory.nlhf.nash_md import PreferenceGame, regularized_nash
from mdtheory.nlhf.nash_md.judges import criteria_preference, three_cycles
from mdtheory.nlhf.nash_md.models import cyclic_preference, dice_preference, random_preference
from mdtheory.nlhf.reward_models import bradley_terry
from tests.polish import best_mixture

F64 = torch.float64


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(61)


def uniform(n: int) -> torch.Tensor:
    return torch.zeros(n, dtype=F64).log_softmax(-1)


def example(e: float) -> torch.Tensor:
    """The three answers of Munos et al., section 3.2."""
    above = {(1, 0): 2 / 3 - e / 2, (2, 0): 1 / 3 - e / 4, (2, 1): 2 / 3 + e / 4}
    matrix = torch.full((3, 3), 0.5, dtype=F64)
    for (i, j), p in above.items():
        matrix[i, j], matrix[j, i] = p, 1 - p
    return matrix


def test_random_preferences_are_preferences(generator):
    matrix = random_preference(6, generator, (50,))
    assert matrix.shape == (50, 6, 6)
    assert torch.allclose(matrix + matrix.mT, torch.ones_like(matrix), atol=1e-15)
    assert bool((matrix.diagonal(dim1=-2, dim2=-1) == 0.5).all())
    again = random_preference(6, torch.Generator().manual_seed(61), (50,))
    assert torch.equal(matrix, again)


@pytest.mark.parametrize("n", [1, 3, 5, 7])
def test_a_circle_has_no_favourite(n):
    matrix = cyclic_preference(0.3, n)
    assert torch.allclose(matrix + matrix.mT, torch.ones_like(matrix))
    assert torch.allclose(matrix.mean(1), torch.full((n,), 0.5, dtype=F64))
    if n >= 3:
        assert len(three_cycles(matrix)) > 0
        assert torch.allclose(matrix.diagonal(1), torch.full((n - 1,), 0.8, dtype=F64))


def test_dice_beat_each_other_in_a_circle():
    dice = [[2, 4, 9], [1, 6, 8], [3, 5, 7]]
    matrix = dice_preference(dice)
    for i, j in combinations(range(3), 2):
        wins = sum(Fraction(a > b) + Fraction(a == b, 2) for a, b in product(dice[i], dice[j]))
        assert matrix[i, j].item() == pytest.approx(float(wins / 9))
    assert three_cycles(matrix).tolist() == [[0, 1, 2]]
    beats = matrix[matrix > 0.5]
    assert torch.allclose(beats, torch.full((3,), 5 / 9, dtype=F64))


def test_three_raters_who_share_an_outcome_prefer_by_two_thirds():
    """The same faces as the ratings of three raters: a majority of two, around the circle."""
    matrix = criteria_preference(torch.tensor([[2.0, 4, 9], [1, 6, 8], [3, 5, 7]], dtype=F64))
    assert len(three_cycles(matrix)) == 1
    beats = matrix[matrix > 0.5]
    assert torch.allclose(beats, torch.full((3,), 2 / 3, dtype=F64))


@pytest.mark.parametrize("e", [0.1, 0.01, -0.01, -0.1])
def test_the_nash_equilibrium_moves_smoothly_where_the_reward_flips(e):
    matrix = example(e)
    nash = torch.tensor([1 / 3 + e / 2, 1 / 3 + e / 2, 1 / 3 - e], dtype=F64)
    assert torch.allclose(best_mixture(matrix)[0], nash, atol=1e-12)
    close = regularized_nash(PreferenceGame(matrix, uniform(3), 1e-6)).exp()
    assert torch.allclose(close, nash, atol=1e-4)
    reward = bradley_terry(matrix)
    assert int(reward.argmax()) == (0 if e > 0 else 1)
    if abs(e) == 0.01:
        expected = torch.tensor([e, -e, 0.0], dtype=F64)
        assert torch.allclose(reward - reward[2], expected, atol=1e-3)


def test_the_judges_have_six_cycles_without_the_contacts():
    names, _, ratings, contacts = load_judges()
    matrix = criteria_preference(ratings)
    found = three_cycles(matrix)
    by_hand = [
        (i, j, k) if matrix[i, j] > 0.5 else (i, k, j)
        for i, j, k in combinations(range(43), 3)
        if (matrix[i, j] - 0.5) * (matrix[j, k] - 0.5) > 0
        and (matrix[j, k] - 0.5) * (matrix[k, i] - 0.5) > 0
    ]
    assert [tuple(cycle) for cycle in found.tolist()] == sorted(by_hand)
    assert len(found) == 6
    # A judge who beats all others exists, so the whole game has a pure equilibrium.
    winners = ((matrix > 0.5).sum(1) == 42).nonzero().flatten().tolist()
    assert [names[i] for i in winners] == ["RUBINOW,J.E."]
    everything = torch.cat([contacts[:, None], ratings], 1)
    assert len(three_cycles(criteria_preference(everything))) == 3


@pytest.mark.parametrize(
    ("judges", "expected"),
    [
        (("ALEXANDER,J.M.", "WRIGHT,D.B.", "SPEZIALE,J.A."), (1 / 7, 1 / 7, 5 / 7)),
        (("DANNEHY,J.F.", "O'BRIEN,F.J.", "WRIGHT,D.B."), (1 / 4, 1 / 4, 1 / 2)),
        (("PASKEY,L.", "WRIGHT,D.B.", "SPEZIALE,J.A."), (1 / 7, 2 / 7, 4 / 7)),
    ],
)
def test_the_equilibria_of_three_judges(judges, expected):
    names, _, ratings, _ = load_judges()
    rows = [names.index(name) for name in judges]
    matrix = criteria_preference(ratings[rows])
    assert three_cycles(matrix).tolist() == [[0, 1, 2]]
    assert torch.allclose(best_mixture(matrix)[0], torch.tensor(expected, dtype=F64), atol=1e-12)


def nothing(n: int) -> torch.Tensor:
    return torch.full((n, n), 0.5, dtype=F64)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: random_preference(0, torch.Generator()), "n: expected a whole number"),
        (lambda: cyclic_preference(0.7), "strength: expected a number in"),
        (lambda: cyclic_preference(0.1, 4), "n: expected an odd number"),
        (lambda: dice_preference([]), "dice: expected at least one die"),
        (lambda: dice_preference([[1, 2], []]), "dice: expected at least one die"),
        (lambda: three_cycles(nothing(3)[None]), "preference: expected shape"),
        (lambda: criteria_preference(torch.zeros(3)), "ratings: expected shape"),
        (lambda: criteria_preference(torch.full((3, 2), torch.nan)), "ratings: expected finite"),
    ],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
