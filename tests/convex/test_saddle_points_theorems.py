"""The labelled statements about saddle points: bound, equality, mutant, tight instance.

A mutant is the same check run on a plausible mistake; the check must refuse it, on instances on
which the true statement holds. AdaWAC's statements are in test_saddle_points_weights.py.
"""

import math

import pytest
import torch

from mdtheory.convex import saddle_points as sp
from mdtheory.convex.mirror_maps import Ball, Entropy, Euclidean
from mdtheory.convex.saddle_points import bounds
from mdtheory.runs import check_bound, check_identity
from tests.refused import breaks, differ

F64 = torch.float64
MAPS = (Entropy(), Entropy())
FREE = (Euclidean(), Euclidean())


def kl(p, q):
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1)


def games(n=5, m=4, count=100, seed=0):
    generator = torch.Generator().manual_seed(seed)
    matrix = 2 * torch.rand(count, n, m, generator=generator, dtype=F64) - 1
    start = (torch.full((n,), 1 / n, dtype=F64), torch.full((m,), 1 / m, dtype=F64))
    return matrix, start, matrix.abs().amax((-2, -1))


def uneven(count, seed):
    """Step sizes of their own for both players."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(2, count, generator=generator, dtype=F64)
    return tuple((4 * draws - 3).exp())


def responses(matrix, average):
    """Best responses to the averages, as corners."""
    x, y = average
    first = (matrix @ y[..., None])[..., 0].argmin(-1)
    second = (x[..., None, :] @ matrix)[..., 0, :].argmax(-1)
    eye = torch.eye(max(matrix.shape[-2:]), dtype=F64)
    return eye[first, : matrix.shape[-2]], eye[second, : matrix.shape[-1]]


def norms(matrix, points):
    """Largest entries of both gradients, squared and summed over the rounds."""
    x, y = points
    first = (matrix @ y[..., None])[..., 0].abs().amax(-1) ** 2
    second = (x[..., None, :] @ matrix)[..., 0, :].abs().amax(-1) ** 2
    return first.sum(0), second.sum(0)


def line(steps, eta, d=3, seed=0):
    """The tight instance: f = -<g, x> + <h, y> on balls that the steps just reach."""
    generator = torch.Generator().manual_seed(seed)
    g, h = (torch.randn(size, generator=generator, dtype=F64) for size in (d, d + 1))
    radius = [steps * eta * v.norm().item() for v in (g, h)]
    maps = tuple(Euclidean(Ball(r)) for r in radius)
    zero = (torch.zeros(d, dtype=F64), torch.zeros(d + 1, dtype=F64))
    operator = lambda x, y: (-g.expand_as(x), -h.expand_as(y))  # noqa: E731

    def gap(pair):
        x, y = pair
        reached = g.norm() * radius[0] + h.norm() * radius[1]
        return reached - (g * x).sum(-1) - (h * y).sum(-1)

    return operator, maps, zero, radius, (g, h), gap


# The averages.


def quadratic(count=50, d=3, seed=4):
    """f = x'Px/2 + x'Ay - y'Qy/2 with best responses in closed form."""
    generator = torch.Generator().manual_seed(seed)
    roots = torch.randn(2, count, d, d, generator=generator, dtype=F64)
    p, q = roots @ roots.mT / d + 0.2 * torch.eye(d, dtype=F64)
    a = torch.randn(count, d, d, generator=generator, dtype=F64)
    times = lambda matrix, v: (matrix @ v[..., None])[..., 0]  # noqa: E731

    def value(x, y):
        cross = (x * times(a, y)).sum(-1)
        return (x * times(p, x)).sum(-1) / 2 + cross - (y * times(q, y)).sum(-1) / 2

    def operator(x, y):
        return times(p, x) + times(a, y), times(q, y) - times(a.mT, x)

    def best(x, y):
        u = -torch.linalg.solve(p, times(a, y))
        v = torch.linalg.solve(q, times(a.mT, x))
        return u, v

    return value, operator, best


def averages_sides(value, points, best):
    x, y = points
    mean = x.mean(0), y.mean(0)
    u, v = best(*mean)
    gap = value(mean[0], v) - value(u, mean[1])
    regrets = (value(x, y) - value(u, y)).sum(0) + (value(x, v) - value(x, y)).sum(0)
    return gap, regrets / len(x)


@pytest.mark.theorem("prop-saddle-averages", "bound")
@pytest.mark.theorem("prop-saddle-averages", "mutant")
def test_averages_of_convex_concave():
    value, operator, best = quadratic()
    start = (torch.ones(3, dtype=F64), -torch.ones(3, dtype=F64))
    points = sp.saddle_mirror_descent(operator, FREE, start, 0.05, 60).points
    left, right = averages_sides(value, points, best)
    assert check_bound("prop-saddle-averages", left, right) > 0.3
    # Mutant: the mean of the gaps in place of the gap of the mean.
    each = torch.stack([averages_sides(value, (x[None], y[None]), best)[0]
                        for x, y in zip(*points, strict=True)])  # fmt: skip
    assert breaks("prop-saddle-averages", each.mean(0), right)


@pytest.mark.theorem("prop-saddle-averages", "equality")
def test_averages_of_a_bilinear_game():
    matrix, start, _ = games()
    record = sp.saddle_mirror_descent(sp.matrix_operator(matrix), MAPS, start, 0.3, 40)
    value = lambda x, y: torch.einsum("...i,...ij,...j->...", x, matrix, y)  # noqa: E731
    best = lambda x, y: responses(matrix, (x, y))  # noqa: E731
    left, right = averages_sides(value, record.points, best)
    check_identity("prop-saddle-averages", left, right)
    check_identity("prop-saddle-averages", left, sp.duality_gap(matrix, *record.average))


# The gap, to the last cent.


def gap_account(matrix, record, steps, etas, start, points=None):
    """Both sides of prop-gap-identity; ``points`` replaces the points whose steps are counted."""
    x, y = record.points if points is None else points
    u, v = responses(matrix, record.average)
    ends = [torch.cat([p[1:], last[None]]) for p, last in zip((x, y), record.last, strict=True)]
    right = sum(
        (kl(w, z) - kl(w, last) + kl(p, after).sum(0)) / eta
        for w, z, last, p, after, eta in zip(
            (u, v), start, record.last, (x, y), ends, etas, strict=True
        )
    )
    return sp.duality_gap(matrix, *record.average), right / steps


@pytest.mark.theorem("prop-gap-identity", "equality")
@pytest.mark.theorem("prop-gap-identity", "mutant")
@pytest.mark.parametrize(("n", "m", "steps"), [(2, 2, 1), (5, 4, 37), (3, 7, 150)])
def test_gap_identity(n, m, steps):
    matrix, start, _ = games(n, m)
    etas = uneven(len(matrix), steps)
    record = sp.saddle_mirror_descent(sp.matrix_operator(matrix), MAPS, start, etas, steps)
    check_identity("prop-gap-identity", *gap_account(matrix, record, steps, etas, start))
    # Mutants: the averages of the points after the steps; both descend.
    moved = [torch.cat([p[1:], last[None]]).mean(0)
             for p, last in zip(record.points, record.last, strict=True)]  # fmt: skip
    late = record._replace(average=tuple(moved))
    assert differ("prop-gap-identity", *gap_account(matrix, late, steps, etas, start))
    plus = sp.matrix_operator(matrix)
    wrong = sp.saddle_mirror_descent(
        lambda x, y: (plus(x, y)[0], -plus(x, y)[1]), MAPS, start, etas, steps
    )
    assert differ("prop-gap-identity", *gap_account(matrix, wrong, steps, etas, start))


@pytest.mark.theorem("thm-saddle-descent", "bound")
@pytest.mark.parametrize("steps", [1, 20, 200])
def test_descent_bound(steps):
    matrix, start, _ = games(count=200, seed=steps)
    etas = uneven(200, steps)
    record = sp.saddle_mirror_descent(sp.matrix_operator(matrix), MAPS, start, etas, steps)
    gap = sp.duality_gap(matrix, *record.average)
    squares = norms(matrix, record.points)
    right = bounds.descent_bound((math.log(5), math.log(4)), squares, etas, steps)
    check_bound("thm-saddle-descent", gap, right)


@pytest.mark.theorem("thm-saddle-descent", "equality")
@pytest.mark.theorem("thm-saddle-descent", "mutant")
@pytest.mark.parametrize(("steps", "eta"), [(1, 0.3), (10, 0.1), (50, 2.0)])
def test_descent_bound_is_attained(steps, eta):
    operator, maps, start, radius, (g, h), gap = line(steps, eta)
    record = sp.saddle_mirror_descent(operator, maps, start, eta, steps)
    squares = steps * g.norm() ** 2, steps * h.norm() ** 2
    right = bounds.descent_bound(
        (radius[0] ** 2 / 2, radius[1] ** 2 / 2), squares, (eta, eta), steps
    )
    check_identity("thm-saddle-descent", gap(record.average), right)
    # Mutant: eta/2 on the gradients halved once more; the true bound holds with equality.
    half = bounds.descent_bound(
        (radius[0] ** 2 / 2, radius[1] ** 2 / 2),
        (squares[0] / 2, squares[1] / 2),
        (eta, eta),
        steps,
    )
    assert breaks("thm-saddle-descent", gap(record.average), half)


def test_the_last_point_of_descent_goes_nowhere():
    """Only the averages converge: the mutant 'last point' at three horizons."""
    matrix, start, largest = games(5, 5, 10)
    last, mean = [], []
    for steps in (100, 1000, 4000):
        eta = math.sqrt(2 * math.log(5) / steps) / largest
        record = sp.saddle_mirror_descent(sp.matrix_operator(matrix), MAPS, start, eta, steps)
        last.append(sp.duality_gap(matrix, *record.last).median())
        mean.append(sp.duality_gap(matrix, *record.average).median())
    assert mean[2] < 0.25 * mean[0]
    assert last[2] > 0.8 * last[0]


# Mirror prox, with two calls and with one.


def prox_account(matrix, start, eta, steps, calls, mutant=""):
    """The lines of the proof summed with all terms kept, by a loop that is not the library's."""
    eta_ = eta[:, None]
    logs = [z.log().expand(len(matrix), -1) for z in start]
    operator = lambda x, y: ((matrix @ y[..., None])[..., 0],  # noqa: E731
                             -(x[..., None, :] @ matrix)[..., 0, :])  # fmt: skip
    points = [z.softmax(-1) for z in logs]
    hint = operator(*points)
    total, played = torch.zeros(len(matrix), dtype=F64), []
    for _ in range(steps):
        before = points
        if calls == 2:
            hint = operator(*points)
        ahead = [(z - eta_ * s).softmax(-1) for z, s in zip(logs, hint, strict=True)]
        slope = operator(*ahead)
        origin = [w.log() for w in ahead] if mutant == "from_ahead" else logs
        logs = [z - eta_ * s for z, s in zip(origin, slope, strict=True)]
        points = [z.softmax(-1) for z in logs]
        for w, z, after, s, old in zip(ahead, before, points, slope, hint, strict=True):
            total = total + ((s - old) * (w - after)).sum(-1) - (kl(after, w) + kl(w, z)) / eta
        played.append(before if mutant == "averages_z" else ahead)
        hint = slope
    means = [torch.stack(each).mean(0) for each in zip(*played, strict=True)]
    u, v = responses(matrix, means)
    for w, z, after in zip((u, v), start, points, strict=True):
        total = total + (kl(w, z) - kl(w, after)) / eta
    return sp.duality_gap(matrix, *means), total / steps, points


@pytest.mark.theorem("thm-saddle-prox", "equality")
@pytest.mark.theorem("thm-saddle-prox", "mutant")
@pytest.mark.theorem("thm-saddle-optimistic", "equality")
@pytest.mark.theorem("thm-saddle-optimistic", "mutant")
@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("steps", [1, 5, 60])
def test_prox_account(calls, steps):
    matrix, start, largest = games(seed=steps)
    eta = 0.8 / largest  # the account holds for every step
    label = "thm-saddle-prox" if calls == 2 else "thm-saddle-optimistic"
    gap, right, points = prox_account(matrix, start, eta, steps, calls)
    check_identity(label, gap, right, tolerance=1e-11)
    run = sp.mirror_prox if calls == 2 else sp.optimistic_mirror_prox
    record = run(sp.matrix_operator(matrix), MAPS, start, eta, steps)
    check_identity(label, sp.duality_gap(matrix, *record.average), gap)
    for ours, theirs in zip(record.last, points, strict=True):
        check_identity(label, ours, theirs)
    if steps > 1:
        wrong = prox_account(matrix, start, eta, steps, calls, "from_ahead")
        assert differ(label, wrong[0], wrong[1])
        wrong = prox_account(matrix, start, eta, steps, calls, "averages_z")
        assert differ(label, wrong[0], wrong[1])


@pytest.mark.theorem("thm-saddle-prox", "bound")
@pytest.mark.theorem("thm-saddle-optimistic", "bound")
@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("steps", [1, 30, 300])
def test_prox_bound(calls, steps):
    matrix, start, largest = games(4, 6, 200, seed=steps)
    eta = sp.largest_step(largest, calls=calls)
    run = sp.mirror_prox if calls == 2 else sp.optimistic_mirror_prox
    record = run(sp.matrix_operator(matrix), MAPS, start, eta, steps)
    gap = sp.duality_gap(matrix, *record.average)
    right = bounds.prox_bound(math.log(24), eta, steps)
    label = "thm-saddle-prox" if calls == 2 else "thm-saddle-optimistic"
    worst = check_bound(label, gap, right)
    assert worst > (0.7 if steps > 1 else 0.1)
    # Each of the dropped braces is at most 0, which is all that the step size is for.
    if steps == 30:
        long = run(sp.matrix_operator(matrix), MAPS, start, 8 / largest, steps)
        gap = sp.duality_gap(matrix, *long.average)
        assert breaks(label, gap, bounds.prox_bound(math.log(24), 8 / largest, steps))


@pytest.mark.theorem("thm-saddle-prox", "mutant")
@pytest.mark.theorem("thm-saddle-optimistic", "mutant")
@pytest.mark.parametrize("calls", [1, 2])
def test_prox_bound_is_attained_in_the_limit(calls):
    steps, eta = 40, 0.5
    operator, maps, start, radius, _, gap = line(steps, eta)
    run = sp.mirror_prox if calls == 2 else sp.optimistic_mirror_prox
    record = run(operator, maps, start, eta, steps)
    label = "thm-saddle-prox" if calls == 2 else "thm-saddle-optimistic"
    start = torch.tensor(radius, dtype=F64).square().sum() / 2
    right = bounds.prox_bound(start, eta, steps)
    worst = check_bound(label, gap(record.average), right)
    assert worst == pytest.approx((steps - 1) / steps)
    assert breaks(label, gap(record.average), 0.95 * right)


# One singular value.


def scalar(a):
    matrix = a[:, None, None]
    operator = lambda x, y: (matrix[..., 0] * y, -matrix[..., 0] * x)  # noqa: E731
    return operator, (torch.ones(len(a), 1, dtype=F64), 0.5 * torch.ones(len(a), 1, dtype=F64))


@pytest.mark.theorem("prop-bilinear", "equality")
@pytest.mark.theorem("prop-bilinear", "mutant")
def test_factors_of_a_bilinear_game():
    a = torch.tensor([0.05, 0.3, 0.5, 0.55, 0.6, 0.9, 1.2], dtype=F64)
    operator, start = scalar(a)
    square = lambda z: (z[0] ** 2 + z[1] ** 2)[..., 0]  # noqa: E731
    for run, method in ((sp.saddle_mirror_descent, "descent"), (sp.mirror_prox, "prox")):
        record = run(operator, FREE, start, 1.0, 7)
        found = square(record.last) / square(start)
        check_identity("prop-bilinear", found, bounds.bilinear_factor(a, method) ** 7)
    # The one call: its looks ahead obey the recurrence, and its long run the larger root.
    record = sp.optimistic_mirror_prox(operator, FREE, start, 1.0, 600)
    z = torch.complex(*(p[..., 0] for p in record.points))
    left = torch.view_as_real(z[2:] / z[1:-1].abs())
    right = torch.view_as_real(((1 + 2j * a) * z[1:-1] - 1j * a * z[:-2]) / z[1:-1].abs())
    check_identity("prop-bilinear", left, right, tolerance=1e-9)
    rate = (z[-1].abs() / z[-201].abs()) ** (1 / 100)
    # At a = 1/2 the roots coincide, and a factor t stays.
    check_identity("prop-bilinear", rate, bounds.bilinear_factor(a, "optimistic"), tolerance=0.02)
    apart = (a - 0.5).abs() > 0.01
    check_identity(
        "prop-bilinear", rate[apart], bounds.bilinear_factor(a, "optimistic")[apart], tolerance=1e-4
    )
    # Mutant: the move starts at the look ahead.
    x, y = start
    g = operator(x, y)
    w = (x - g[0], y - g[1])
    h = operator(*w)
    wrong = square((w[0] - h[0], w[1] - h[1])) / square(start)
    assert differ("prop-bilinear", wrong, bounds.bilinear_factor(a, "prox"))
    check_identity("prop-bilinear", wrong, bounds.bilinear_factor(a, "from_ahead"))


@pytest.mark.theorem("prop-bilinear", "bound")
def test_where_the_factors_are_below_one():
    a = torch.linspace(0.001, 1.4, 1400, dtype=F64)
    assert (bounds.bilinear_factor(a, "descent") > 1).all()
    below = a[bounds.bilinear_factor(a, "prox") < 1]
    assert below.max() == pytest.approx(1, abs=2e-3)
    below = a[bounds.bilinear_factor(a, "optimistic") < 1]
    assert below.max() == pytest.approx(3**-0.5, abs=2e-3)
    assert bounds.bilinear_factor(0.5, "optimistic") == pytest.approx(0.5)


# The last iterate.


def monotone(count=40, d=6, seed=9):
    """Linear operators with a zero at the origin: a skew part, and a positive one in half."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(count, 2 * d, 2 * d, generator=generator, dtype=F64)
    skew = root - root.mT
    positive = root[:, :d] .mT @ root[:, :d] / d  # fmt: skip
    positive[::2] = 0
    matrix = skew + positive
    matrix = matrix / torch.linalg.matrix_norm(matrix, 2)[:, None, None]

    def operator(x, y):
        z = (matrix @ torch.cat([x, y], -1)[..., None])[..., 0]
        return z[..., :d], z[..., d:]

    start = torch.randn(2, count, d, generator=generator, dtype=F64)
    return operator, (start[0], start[1])


def norm2(pair):
    return sum((z**2).sum(-1) for z in pair)


@pytest.mark.theorem("thm-saddle-last", "bound")
@pytest.mark.theorem("thm-saddle-last", "mutant")
@pytest.mark.parametrize(("calls", "eta"), [(2, 0.7), (2, 0.2), (1, 0.4), (1, 0.1)])
@pytest.mark.parametrize("steps", [1, 10, 100])
def test_last_iterate(calls, eta, steps):
    operator, start = monotone()
    run = sp.mirror_prox if calls == 2 else sp.optimistic_mirror_prox
    record = run(operator, FREE, start, eta, steps)
    left = norm2(operator(*record.last))
    right = bounds.last_iterate_bound(norm2(start), eta, 1.0, steps, calls=calls)
    check_bound("thm-saddle-last", left, right)
    if calls == 2:
        before = run(operator, FREE, start, eta, max(1, steps - 1)).last
        check_bound("thm-saddle-last", left, norm2(operator(*before)))
    # Mutant: the same claim for descent in both at once, on the skew half.
    wrong = sp.saddle_mirror_descent(operator, FREE, start, eta, steps)
    if steps == 100:
        assert breaks("thm-saddle-last", norm2(operator(*wrong.last)), right)


@pytest.mark.theorem("thm-saddle-last", "equality")
@pytest.mark.theorem("thm-saddle-last", "mutant")
def test_the_change_of_the_operator():
    """The line of the proof, for every operator; without the product it is wrong."""
    operator, start = monotone()
    eta = 0.6
    g = operator(*start)
    ahead = tuple(z - eta * s for z, s in zip(start, g, strict=True))
    h = operator(*ahead)
    after = tuple(z - eta * s for z, s in zip(start, h, strict=True))
    new = operator(*after)
    minus = lambda p, q: tuple(a - b for a, b in zip(p, q, strict=True))  # noqa: E731
    product = sum((a * b).sum(-1) for a, b in zip(minus(g, new), minus(start, after), strict=True))
    rest = norm2(g) - norm2(minus(g, h)) + norm2(minus(new, h))
    check_identity("thm-saddle-last", norm2(new), rest - 2 / eta * product)
    assert differ("thm-saddle-last", norm2(new), rest)  # only skew operators have no product
    check_identity("thm-saddle-last", norm2(new)[::2], rest[::2])


@pytest.mark.theorem("thm-saddle-last", "bound")
@pytest.mark.parametrize(("calls", "eta", "steps"), [(2, 0.7, 3), (1, 0.05, 300)])
def test_last_iterate_within_three(calls, eta, steps):
    """The worst singular value for a horizon comes within a factor of three."""
    a = torch.logspace(-3, 0, 300, dtype=F64)
    operator, start = scalar(a)
    run = sp.mirror_prox if calls == 2 else sp.optimistic_mirror_prox
    record = run(operator, FREE, start, eta, steps)
    left = norm2(operator(*record.last))
    right = bounds.last_iterate_bound(norm2(start), eta, 1.0, steps, calls=calls)
    assert check_bound("thm-saddle-last", left, right) > 1 / 3
