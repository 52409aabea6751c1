"""Functions about saddle points: against loops, at the edges, and what they refuse."""

import math

import pytest
import torch

from mdtheory.convex import saddle_points as sp
from mdtheory.convex.mirror_maps import Ball, Entropy, Euclidean, Tsallis, mirror_step
from mdtheory.convex.saddle_points import bounds

F64 = torch.float64
MAPS = (Entropy(), Entropy())


def games(*batch, n=3, m=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, n, m, generator=generator, dtype=F64)


def uniform(n=3, m=4):
    return torch.full((n,), 1 / n, dtype=F64), torch.full((m,), 1 / m, dtype=F64)


# The gap.


def test_gap_by_trying_all_corners():
    matrix = games(2, 3)
    x, y = (torch.randn(2, 3, k, dtype=F64).softmax(-1) for k in (3, 4))
    found = sp.duality_gap(matrix, x, y)
    for i in range(2):
        for j in range(3):
            best = max((x[i, j] @ matrix[i, j])[k].item() for k in range(4))
            least = min((matrix[i, j] @ y[i, j])[k].item() for k in range(3))
            assert found[i, j].item() == pytest.approx(best - least)
    assert sp.duality_gap(matrix, *uniform()).shape == (2, 3)


def test_gap_is_zero_at_a_saddle_alone():
    rps = torch.tensor([[0.0, 1, -1], [-1, 0, 1], [1, -1, 0]], dtype=F64)
    even = torch.full((3,), 1 / 3, dtype=F64)
    assert sp.duality_gap(rps, even, even).abs() < 1e-15
    assert sp.duality_gap(rps, torch.eye(3, dtype=F64), even).min() > 0.9


def test_the_gap_is_the_nash_conv_of_the_chapter_on_games():
    from mdtheory.nlhf.games import MatrixGame, exploitability, nash_conv

    matrix, (x, y) = games(5), uniform()
    pair = (x.log().expand(5, -1), y.log().expand(5, -1))
    # There the row player maximises.
    conv = nash_conv(MatrixGame(-matrix), pair)
    torch.testing.assert_close(sp.duality_gap(matrix, x, y), conv)
    torch.testing.assert_close(exploitability(MatrixGame(-matrix), pair), conv / 2)


# Steps.


@pytest.mark.parametrize("order", ["simultaneous", "ascent_first"])
def test_descent_is_two_mirror_steps(order):
    """Also on a ball, where the dual must be taken anew."""
    matrix = games(2, seed=3)
    maps = (Euclidean(Ball(0.5)), Entropy())
    begin = (torch.zeros(3, dtype=F64), uniform()[1])
    x, y = begin
    played = []
    for _ in range(9):
        before = y
        y = mirror_step(maps[1], y.expand(2, 4), -(x[..., None, :] @ matrix)[..., 0, :], 0.7)
        seen = before if order == "simultaneous" else y
        played.append((x.expand(2, 3), seen.expand(2, 4)))
        x = mirror_step(maps[0], x.expand(2, 3), (matrix @ seen[..., None])[..., 0], 2.0)
    record = sp.saddle_mirror_descent(sp.matrix_operator(matrix), maps, begin, (2.0, 0.7), 9, order)
    for k, (ours, last) in enumerate(zip(record.points, record.last, strict=True)):
        torch.testing.assert_close(ours, torch.stack([pair[k] for pair in played]))
        torch.testing.assert_close(record.average[k], ours.mean(0))
        torch.testing.assert_close(last, (x, y)[k])


def test_step_sizes_are_a_batch():
    matrix, etas = games(), torch.tensor([0.1, 0.5, 2.0], dtype=F64)
    begin = tuple(z.expand(3, -1) for z in uniform())
    for run in (sp.saddle_mirror_descent, sp.mirror_prox, sp.optimistic_mirror_prox):
        together = run(sp.matrix_operator(matrix), MAPS, begin, etas, 6)
        for k, eta in enumerate(etas.tolist()):
            alone = run(sp.matrix_operator(matrix), MAPS, uniform(), eta, 6)
            torch.testing.assert_close(together.average[0][k], alone.average[0])
            torch.testing.assert_close(together.last[1][k], alone.last[1])


def test_long_runs_keep_their_digits():
    """Steps that underflow probabilities: the dual is carried."""
    matrix = torch.tensor([[0.0, 1.0], [1.0, 2.0]], dtype=F64)  # pure saddle in the corner
    record = sp.mirror_prox(sp.matrix_operator(matrix), MAPS, uniform(2, 2), 500.0, 50)
    assert record.last[0].tolist() == [1.0, 0.0]
    assert record.last[1].tolist() == [0.0, 1.0]
    assert sp.duality_gap(matrix, *record.last) == 0


def test_calls_of_the_operator():
    calls = []
    plain = sp.matrix_operator(games())

    def counted(x, y):
        calls.append(1)
        return plain(x, y)

    for run, per_step, more in (
        (sp.saddle_mirror_descent, 1, 0), (sp.mirror_prox, 2, 0), (sp.optimistic_mirror_prox, 1, 1),
    ):  # fmt: skip
        calls.clear()
        run(counted, MAPS, uniform(), 0.1, 10)
        assert len(calls) == 10 * per_step + more + 1  # one call checks the shapes


def test_what_is_returned_is_not_the_callers():
    begin = uniform()
    kept = [z.clone() for z in begin]
    record = sp.mirror_prox(sp.matrix_operator(games()), MAPS, begin, 0.1, 3)
    for part in (*record.points, *record.average, *record.last):
        part.fill_(7.0)
    assert all(torch.equal(a, b) for a, b in zip(begin, kept, strict=True))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"maps": (Entropy(),)}, TypeError, "maps"),
        ({"maps": (Entropy(), 3)}, TypeError, "maps"),
        ({"start": uniform()[0]}, TypeError, "start"),
        ({"start": (uniform()[0], uniform()[1] * 2)}, ValueError, r"start\[1\]"),
        ({"start": (uniform()[0], uniform()[1].float())}, TypeError, r"start\[1\]"),
        ({"step_size": 0.0}, ValueError, "step_size"),
        ({"step_size": (0.1,)}, ValueError, "step_size"),
        ({"step_size": math.nan}, ValueError, "step_size"),
        ({"steps": 0}, ValueError, "steps"),
        ({"steps": 1.5}, TypeError, "steps"),
        ({"operator": lambda x, y: (y, x)}, ValueError, r"operator\(\.\.\.\)\[0\]"),
        ({"operator": lambda x, y: (x / 0, y)}, ValueError, r"operator\(\.\.\.\)\[0\]"),
    ],
)
@pytest.mark.parametrize(
    "run", [sp.saddle_mirror_descent, sp.mirror_prox, sp.optimistic_mirror_prox]
)
def test_refusals_of_runs(run, change, error, words):
    told = {
        "operator": sp.matrix_operator(games()), "maps": MAPS, "start": uniform(),
        "step_size": 0.1, "steps": 3,
    } | change  # fmt: skip
    with pytest.raises(error, match=words):
        run(**told)


def test_more_refusals():
    plain = sp.matrix_operator(games())
    with pytest.raises(ValueError, match="order"):
        sp.saddle_mirror_descent(plain, MAPS, uniform(), 0.1, 3, "descent_first")
    free = (Euclidean(), Euclidean())
    ones = (torch.ones(3, dtype=F64), torch.ones(4, dtype=F64))
    with pytest.raises(ValueError, match="step_size"):
        sp.saddle_mirror_descent(plain, free, ones, 1e200, 5)
    for bad in (torch.ones(3), games().long()):
        with pytest.raises((TypeError, ValueError), match="payoff"):
            sp.matrix_operator(bad)
    with pytest.raises(ValueError, match="payoff"):
        sp.matrix_operator(games() / 0)
    x, y = uniform()
    for name, arguments in (
        ("payoff", (x, x, y)), ("x", (games(), y, y)), ("y", (games(), x, x)),
        ("x", (games(), 2 * x, y)), ("x, y", (games(2), x.expand(3, 3), y)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=name):
            sp.duality_gap(*arguments)
    with pytest.raises(TypeError, match="y"):
        sp.duality_gap(games(), x, y.float())


def test_refusals_of_bounds():
    with pytest.raises(ValueError, match="calls"):
        sp.largest_step(1.0, calls=3)
    with pytest.raises(ValueError, match="step_size"):
        bounds.last_iterate_bound(1.0, 1.0, 1.0, 5)
    with pytest.raises(ValueError, match="step_size"):
        bounds.last_iterate_bound(1.0, 0.5, 1.0, 5, calls=1)
    with pytest.raises(ValueError, match="method"):
        bounds.bilinear_factor(0.1, "proximal")
    with pytest.raises(ValueError, match="order"):
        bounds.weighted_gap_bound(1.0, 1.0, 1.0, 0.1, 1.0, 5, order="both")


# The log of the weights.


def loss(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1), dtype=F64)


def test_refusals_of_weights():
    b, l = torch.full((3,), 0.5, dtype=F64), loss(3)  # noqa: E741
    for bad in (torch.zeros(3, dtype=F64), torch.ones(3, dtype=F64), b * math.nan):
        with pytest.raises(ValueError, match="weights"):
            sp.weight_step(bad, l, l, 1.0)
    with pytest.raises(ValueError, match="supervised"):
        sp.weight_step(b, -l, l, 1.0)
    with pytest.raises(ValueError, match="consistency"):
        sp.weight_step(b, l, l[:2], 1.0)
    with pytest.raises(ValueError, match="supervised"):
        sp.weight_step(b[:2], l, l, 1.0)
    with pytest.raises(TypeError, match="supervised"):
        sp.weight_step(b.float(), l, l, 1.0)
    with pytest.raises(ValueError, match="step_size"):
        sp.weight_step(b, l, l, -1.0)
    with pytest.raises(ValueError, match="order"):
        sp.weight_bound(l, l, 1.0, order="first")
    with pytest.raises(ValueError, match="step_size"):
        sp.weight_bound(l, l, math.inf, order="simultaneous")
    assert (sp.weight_bound(l[None], l[None], math.inf) == 0).all()
    with pytest.raises(TypeError, match="drawn"):
        sp.weight_regret(b[None], l[None], l[None], torch.zeros(1, 3))
    with pytest.raises(ValueError, match="drawn"):
        sp.weight_regret(b[None], l[None], l[None], torch.zeros(1, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="weights"):
        sp.weight_regret(2 + b[None], l[None], l[None])


def test_the_separating_scale():
    dense = torch.tensor([True, True, False, False, False])
    supervised = torch.tensor([4.0, 9.0, 1.0, 2.0, 3.0], dtype=F64)
    one = torch.ones(5, dtype=F64)
    scale = sp.separating_scale(supervised, one, dense)
    assert scale.item() == pytest.approx(math.sqrt(6.5 * 2))
    assert sp.separating_scale(supervised, one, ~dense).isnan()
    # Every dense sample goes to the supervised loss, every sparse one to the consistency.
    apart = supervised - scale * one
    assert bool(((apart > 0) == dense).all())
    with pytest.raises(ValueError, match="dense"):
        sp.separating_scale(supervised, one, torch.ones(5, dtype=torch.bool))
    with pytest.raises(TypeError, match="dense"):
        sp.separating_scale(supervised, one, one)
    with pytest.raises(ValueError, match="distance"):
        sp.separating_scale(supervised, 0 * one, dense)


@pytest.mark.parametrize("q", [1 - 1e-12, 1 + 1e-12])
def test_near_order_1_the_steps_are_those_of_the_entropy(q):
    """Where the plain dual of a Tsallis map has lost all digits but four."""
    matrix, near = games(), (Tsallis(q), Tsallis(q))
    for run in (sp.saddle_mirror_descent, sp.mirror_prox, sp.optimistic_mirror_prox):
        found = run(sp.matrix_operator(matrix), near, uniform(), 0.5, 10)
        right = run(sp.matrix_operator(matrix), MAPS, uniform(), 0.5, 10)
        for ours, its in zip(found.last, right.last, strict=True):
            torch.testing.assert_close(ours, its, rtol=0, atol=1e-9)
