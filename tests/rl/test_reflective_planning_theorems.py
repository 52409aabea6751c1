"""The labelled statements of reflective planning: equality, mutant, bound, tight instance."""

import itertools
import math

import pytest
import torch

from mdtheory.convex.mirror_maps import Entropy, kl, mirror_step
from mdtheory.rl import reflective_planning as rp
from mdtheory.rl.reflective_planning import laws as lw
from mdtheory.rl.reflective_planning.tracking import tracking_matrices
from mdtheory.runs import check_bound, check_identity
from tests.refused import bound, fails, identity
from tests.rl.reflective_planning_cases import F64, NOTHING, draws, laws, random_law, table

# Codes.

BOOKS = {
    "line": rp.Codebook(-100.0, 100.0, 0.3),
    "plans": rp.PLANS,
    "fine": rp.Codebook((0.0, -1.0), (1.0, 1.0), (0.25, 0.5)),
}


def covered(book, count=2000, seed=0):
    """Uniform points between the first code and the last."""
    codes = torch.zeros(1, max(book.coordinates, 1), dtype=torch.int64)
    codes = codes if book.coordinates else codes[:, 0]
    low = book.decode(codes, F64)
    high = book.decode(codes + book.size - 1, F64)
    drawn = torch.rand(count, *low.shape[1:], generator=draws(seed), dtype=F64)
    return low + (high - low) * drawn


def steps(book):
    return torch.tensor(book._step, dtype=F64).reshape((-1,) if book.coordinates else ())


@pytest.mark.theorem("prop-codebook", "equality")
@pytest.mark.theorem("prop-codebook", "bound")
@pytest.mark.theorem("prop-codebook", "mutant")
@pytest.mark.parametrize("name", BOOKS)
def test_codes_are_near(name):
    book = BOOKS[name]
    values = covered(book)
    near = book.decode(book.encode(values), F64)
    error, half = (near - values).abs(), steps(book) / 2 + 0 * values
    check_bound("prop-codebook", error, half)
    # The nearest of all codes, found by trying them.
    codes = torch.arange(book.size)[:, None, None]
    every = book.decode(codes.expand(-1, 1, max(book.coordinates, 1)).squeeze(
        -1 if not book.coordinates else 1), F64)  # fmt: skip
    least = (every[:, None] - values).abs().amin(0)
    check_identity("prop-codebook", error, least, tolerance=1e-9)
    # Mutant: the code below.
    low = book.decode(torch.zeros_like(book.encode(values)), F64)
    below = low + ((values - low) / steps(book) + 1e-9).floor() * steps(book)
    fails(bound("prop-codebook"), (below - values).abs(), half, true=[error, half])


@pytest.mark.theorem("prop-codebook", "equality")
def test_codes_of_codes_and_neighbourhoods():
    for book in BOOKS.values():
        codes = torch.randint(book.size, (50, max(book.coordinates, 1)), generator=draws(1))
        codes = codes if book.coordinates else codes[:, 0]
        assert torch.equal(book.encode(book.decode(codes, F64)), codes)
    for delta in (0, 1, 3, 10):
        near = rp.PLANS.neighbourhood(delta)
        assert len(near) == 2 * delta**2 + 2 * delta + 1 == len({tuple(n) for n in near.tolist()})
        distance = near.abs().sum(-1)
        assert distance.max() == delta
        assert (distance.diff() >= 0).all()
        assert distance[0] == 0


@pytest.mark.theorem("prop-codebook", "bound")
def test_half_a_step_is_attained_at_the_borders():
    book = BOOKS["fine"]
    border = torch.tensor([[0.125, 0.25], [0.375, -0.25]], dtype=F64)
    error = (book.decode(book.encode(border), F64) - border).abs()
    assert torch.equal(error, (steps(book) / 2).expand(2, 2))


# Roads.


def places(seed=0, count=400):
    """Roads with bends to both sides and none, and places before, on and behind the bend."""
    generator = draws(seed)

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(*shape, generator=generator, dtype=F64)

    side = torch.tensor([1.0, -1.0, 0.0, 1e-9], dtype=F64)
    road = rp.Road(uniform(0, 10, 4), side * uniform(0.01, 0.1, 4), uniform(5, 14, 4))
    return road, torch.stack([uniform(-5, 40, count, 4), uniform(-6, 6, count, 4)], -1)


@pytest.mark.theorem("prop-road", "equality")
@pytest.mark.theorem("prop-road", "mutant")
def test_there_and_back():
    road, place = places()
    point = rp.to_plane(road, place)
    back = rp.to_road(road, point)
    assert (back - place).abs().max() < 1e-9
    check_identity("prop-road", back, place, tolerance=1e-9)
    check_identity("prop-road", rp.to_plane(road, back), point, tolerance=1e-9)
    # Mutant: the distance from the centre without the sign of the bend.
    x, y = point[..., :2, 0] - road.entry[:2], point[..., :2, 1]
    radius = 1 / road.curvature[:2]
    distance = torch.hypot(x, y - radius)
    on = (place[..., :2, 0] > road.entry[:2]) & (
        place[..., :2, 0] < road.entry[:2] + road.bend[:2]
    )  # fmt: skip
    left = place[..., :2, 1][on]
    signed = (radius - radius.sign() * distance)[on]
    fails(identity("prop-road"), left, (radius.abs() - distance)[on], true=[left, signed],
          tolerance=1e-9)  # fmt: skip


@pytest.mark.theorem("prop-road", "equality")
def test_roads_by_small_steps():
    """The centre line as the solution of its differential equation."""
    road, _ = places()
    s, h = torch.zeros(4, dtype=F64), 5e-3
    point, angle = torch.zeros(4, 2, dtype=F64), torch.zeros(4, dtype=F64)
    for _ in range(4000):
        turn = torch.where((s + h / 2 > road.entry) & (s + h / 2 < road.entry + road.bend),
                           road.curvature, 0.0)  # fmt: skip
        middle = angle + h / 2 * turn
        point = point + h * torch.stack([middle.cos(), middle.sin()], -1)
        angle, s = angle + h * turn, s + h
    ours = rp.to_plane(road, torch.stack([s, torch.zeros_like(s)], -1))
    check_identity("prop-road", ours, point, tolerance=5e-3)
    check_identity("prop-road", rp.heading(road, s), angle, tolerance=5e-3)


# The tracker.


def tracked(smoothness, begin, plan):
    start, goal = tracking_matrices(smoothness)
    return start @ begin + goal @ plan


@pytest.mark.theorem("prop-tracker", "equality")
@pytest.mark.theorem("prop-tracker", "mutant")
@pytest.mark.parametrize("smoothness", [0.004, 0.064, 3.0])
def test_the_tracker_is_the_least_squares_solution(smoothness):
    generator = draws(2)
    begin = torch.randn(50, 3, 2, generator=generator, dtype=F64)
    plan = 10 * torch.randn(50, 8, 2, generator=generator, dtype=F64)
    # By steps of a tenth: positions as a linear map of the jerks, column by column.
    h, push = 0.1, torch.zeros(41, 40, dtype=F64)
    for j in range(40):
        state = torch.zeros(3, dtype=F64)
        for t in range(40):
            p, v, a = state
            jerk = 1.0 if t == j else 0.0
            state = torch.stack([p + h * v + h * h / 2 * a + h**3 / 6 * jerk,
                                 v + h * a + h * h / 2 * jerk, a + h * jerk])  # fmt: skip
            push[t + 1, j] = state[0]
    time = h * torch.arange(41, dtype=F64)
    free = torch.stack([torch.ones(41, dtype=F64), time, time**2 / 2], -1) @ begin
    at = torch.arange(5, 41, 5)
    rows = torch.cat([push[at], math.sqrt(smoothness / 10) * torch.eye(40, dtype=F64)])
    goal = torch.cat([plan - free[:, at], torch.zeros(50, 40, 2, dtype=F64)], 1)
    best = free + push @ torch.linalg.lstsq(rows.expand(50, -1, -1), goal).solution
    ours = tracked(smoothness, begin, plan)
    check_identity("prop-tracker", ours, best, tolerance=1e-8)
    # Mutant: a car that starts at rest.
    resting = begin * torch.tensor([1.0, 0.0, 0.0], dtype=F64)[:, None]
    fails(identity("prop-tracker"), tracked(smoothness, resting, plan), best, true=[ours, best],
          tolerance=1e-8)  # fmt: skip


@pytest.mark.theorem("prop-tracker", "equality")
def test_constant_acceleration_is_kept_whatever_the_weight():
    begin = torch.randn(20, 3, 2, generator=draws(3), dtype=F64)
    time = 0.1 * torch.arange(41, dtype=F64)[:, None]
    motion = begin[:, :1] + time * begin[:, 1:2] + time**2 / 2 * begin[:, 2:]
    for smoothness in (1e-4, 0.064, 10.0):
        check_identity("prop-tracker", tracked(smoothness, begin, motion[:, 5::5]), motion,
                       tolerance=1e-8)  # fmt: skip


# Masked diffusion.


def by_permutations(model, tokens, mask):
    """Mean over all orders of the chain rule, and log of the mean of the probabilities."""
    found = []
    for order in itertools.permutations(range(tokens.shape[-1])):
        shown, total = torch.full_like(tokens, mask), 0.0
        for i in order:
            law = model(shown, NOTHING).log_softmax(-1)
            total = total + law.gather(-1, tokens[..., None])[..., i, 0]
            shown = shown.clone()
            shown[..., i] = tokens[..., i]
        found.append(total)
    every = torch.stack(found)
    return -every.mean(0), every.logsumexp(0) - math.log(len(every))


def network(seed=0, codes=3, length=4):
    """A model whose conditionals fit no law."""
    noise = 2 * torch.randn((codes + 1) ** length, length, codes, generator=draws(seed), dtype=F64)
    power = (codes + 1) ** torch.arange(length)
    return lambda tokens, condition: noise[(tokens * power).sum(-1)]


@pytest.mark.theorem("thm-masked-bound", "equality")
def test_the_weighted_loss_is_a_mean_over_orders():
    tokens = lw.all_sequences(3, 4)
    for seed in range(3):
        loss = lw.enumerated_loss(network(seed), tokens, NOTHING, 3)
        mean, log_mean = by_permutations(network(seed), tokens, 3)
        check_identity("thm-masked-bound", loss, mean)
        check_identity("thm-masked-bound", lw.order_average(network(seed), tokens, NOTHING, 3),
                       log_mean)  # fmt: skip


@pytest.mark.theorem("thm-masked-bound", "equality")
@pytest.mark.theorem("thm-masked-bound", "mutant")
@pytest.mark.theorem("thm-masked-bound", "bound")
def test_exact_conditionals_lose_the_log_probability():
    for seed in range(5):
        model, tokens = table(seed=seed), lw.all_sequences(3, 4)
        loss = lw.enumerated_loss(model, tokens, NOTHING, 3)
        check_identity("thm-masked-bound", loss, -model.log_law)
        # Tight: bound and loss agree. Mutant: the loss without the weight bounds nothing.
        log_mean = lw.order_average(model, tokens, NOTHING, 3)
        plain = lw.enumerated_loss(model, tokens, NOTHING, 3, weighted=False)
        fails(bound("thm-masked-bound"), -log_mean, plain, true=[-log_mean, loss])


@pytest.mark.theorem("thm-masked-bound", "bound")
def test_the_loss_of_any_network_is_a_bound():
    tokens = lw.all_sequences(3, 4)
    for seed in range(3):
        loss = lw.enumerated_loss(network(seed), tokens, NOTHING, 3)
        ours = -lw.order_average(network(seed), tokens, NOTHING, 3)
        check_bound("thm-masked-bound", ours, loss)
        assert (loss - ours).min() > 0


@pytest.mark.theorem("thm-masked-bound", "equality")
@pytest.mark.theorem("thm-masked-bound", "mutant")
def test_the_weights_are_integrals():
    nodes = (torch.arange(2000, dtype=F64) + 0.5) / 2000
    for length in (1, 4, 6):
        counts = torch.arange(1, length + 1)
        for weighted in (True, False):
            ours = torch.tensor(
                [lw.mask_weight(int(m), length, weighted=weighted) for m in counts], dtype=F64
            )
            shift = 1 if weighted else 0
            integral = (nodes[:, None] ** (counts - shift) * (1 - nodes[:, None]) ** (
                length - counts)).mean(0)  # fmt: skip
            check_identity("thm-masked-bound", ours, integral, tolerance=1e-5)
    # Mutant: a level for each number of masks, without the binomial.
    counts = torch.arange(1, 5)
    exact = torch.tensor([lw.mask_weight(int(m), 4) for m in counts], dtype=F64)
    right = 1 / (counts * torch.tensor([4, 6, 4, 1], dtype=F64))
    fails(identity("thm-masked-bound"), exact, 1 / counts.double(), true=[exact, right])


# Parallel decoding.


def distance(p, q):
    return (p - q).abs().sum(-1) / 2


@pytest.mark.theorem("prop-parallel", "equality")
@pytest.mark.theorem("prop-parallel", "mutant")
def test_one_token_a_call_is_exact_if_the_draw_does_not_choose():
    for seed in range(3):
        model = table(2, 3, seed)
        law = model.log_law.exp()
        for order in ("certainty", "random"):
            check_identity("prop-parallel", lw.decoding_law(model, 3, order), law)
        # Mutant: to keep the likeliest draw.
        fails(identity("prop-parallel"), lw.decoding_law(model, 3, "confidence"), law,
              true=[lw.decoding_law(model, 3, "certainty"), law])  # fmt: skip
        at_once = lw.parallel_law(model.log_law, 2, 3).exp()
        check_identity("prop-parallel", lw.decoding_law(model, 1), at_once)


@pytest.mark.theorem("prop-parallel", "equality")
def test_rare_values_are_lost_by_confidence():
    """Two independent tokens: no order is needed, and this one still does harm."""
    each = torch.tensor([0.9, 0.1], dtype=F64)
    log_law = (each[:, None] * each).flatten().log()
    drawn = lw.decoding_law(lw.TableDenoiser(log_law, 2, 2), 2)
    check_identity("prop-parallel", drawn[2] + drawn[3], torch.tensor(0.019, dtype=F64))


@pytest.mark.theorem("prop-parallel", "bound")
@pytest.mark.theorem("prop-parallel", "mutant")
def test_total_correlation_bounds_the_distance():
    left, right, swapped = [], [], []
    for seed in range(50):
        law = random_law(8, seed, 0.5 + seed / 10)
        parallel = lw.parallel_law(law, 2, 3)
        left.append(distance(law.exp(), parallel.exp()))
        right.append((lw.total_correlation(law, 2, 3) / 2).sqrt())
        swapped.append(lw.total_correlation(law, 2, 3) / 2)
    left, right, swapped = map(torch.stack, (left, right, swapped))
    check_bound("prop-parallel", left, right)
    fails(bound("prop-parallel"), left, swapped, true=[left, right])  # without the root


@pytest.mark.theorem("prop-parallel", "bound")
def test_the_bound_is_sharp_for_coins_that_hardly_agree():
    rho = 1e-3
    law = torch.tensor([1 + rho, 1 - rho, 1 - rho, 1 + rho], dtype=F64).div(4).log()
    worst = check_bound("prop-parallel", distance(law.exp(), torch.full((4,), 0.25, dtype=F64)),
                        (lw.total_correlation(law, 2, 2) / 2).sqrt())  # fmt: skip
    assert worst > 0.999
    equal = torch.tensor([0.5, 0.0, 0.0, 0.5], dtype=F64).log()
    assert math.isclose(lw.total_correlation(equal, 2, 2), math.log(2))


# The tilt, and best-of-n.


def gain(q, law, score, strength):
    return (q.exp() * score).sum(-1) - kl(q, law) / strength


def log_mean(law, score, strength):
    return (law + strength * score).logsumexp(-1) / strength


@pytest.mark.theorem("thm-plan-tilt", "equality")
@pytest.mark.theorem("thm-plan-tilt", "mutant")
@pytest.mark.theorem("thm-plan-tilt", "bound")
@pytest.mark.parametrize("strength", [0.3, 5.0, 40.0])
def test_the_tilt_is_best_and_the_gap_is_a_divergence(strength):
    law, score = laws()
    tilt, value = rp.exponential_tilt(law, score, strength), log_mean(law, score, strength)
    check_identity("thm-plan-tilt", gain(tilt, law, score, strength), value)
    any_law, _ = laws(7)
    ours = gain(any_law, law, score, strength)
    check_bound("thm-plan-tilt", ours, value)
    check_identity("thm-plan-tilt", value - ours, kl(any_law, tilt) / strength, tolerance=1e-11)
    # Mutant: the gap the other way round.
    fails(identity("thm-plan-tilt"), value - ours, kl(tilt, any_law) / strength,
          true=[value - ours, kl(any_law, tilt) / strength], tolerance=1e-11)  # fmt: skip
    # The same step through the door of the mirror map.
    step = mirror_step(Entropy(), law.exp(), -score, strength)
    check_identity("thm-plan-tilt", tilt.exp(), step)


@pytest.mark.theorem("thm-plan-tilt", "equality")
def test_the_mean_score_rises_by_its_variance():
    law, score = laws()
    strength = torch.full((200,), 3.0, dtype=F64, requires_grad=True)
    q = rp.exponential_tilt(law, score, strength).exp()
    mean = (q * score).sum(-1)
    (slope,) = torch.autograd.grad(mean.sum(), strength)
    variance = (q * score**2).sum(-1) - mean**2
    check_identity("thm-plan-tilt", slope, variance.detach())


@pytest.mark.theorem("prop-best-of", "equality")
def test_the_law_of_the_best_by_listing_all_draws():
    law, score = laws(2, 4, 10)
    score[:, 1] = score[:, 2]  # a tie
    p = law.exp()
    for n in (1, 2, 3):
        found = torch.zeros_like(p)
        for drawn in itertools.product(range(4), repeat=n):
            at = torch.tensor(drawn)
            first = (score[:, at] == score[:, at].amax(-1, keepdim=True)).int().argmax(-1)
            found.scatter_add_(1, at[first][:, None], p[:, at].prod(-1, keepdim=True))
        check_identity("prop-best-of", rp.best_of_law(law, score, n).exp(), found)


@pytest.mark.theorem("prop-best-of", "bound")
@pytest.mark.theorem("prop-best-of", "mutant")
def test_best_of_n_moves_little_and_the_tilt_gains_more():
    law, score = laws(3, 400, 20)
    moved, most, less = [], [], []
    for n in (2, 4, 16):
        best = rp.best_of_law(law, score, n)
        moved.append(kl(best, law))
        most.append(torch.full_like(moved[-1], math.log(n) - (n - 1) / n))
        less.append(torch.full_like(moved[-1], math.log(n) - 1 + 1 / n**2))
        strength = rp.matched_strength(law, score, moved[-1])
        tilt = rp.exponential_tilt(law, score, strength)
        check_identity("prop-best-of", kl(tilt, law), moved[-1], tolerance=1e-9)
        gained, ideal = (best.exp() * score).sum(-1), (tilt.exp() * score).sum(-1)
        check_bound("prop-best-of", gained, ideal)
        # Mutant: the tilt of the same step for all n, not of the same divergence.
        fails(bound("prop-best-of"), gained,
              (rp.exponential_tilt(law, score, 1.0).exp() * score).sum(-1),
              true=[gained, ideal])  # fmt: skip
    moved, most, less = map(torch.cat, (moved, most, less))
    assert check_bound("prop-best-of", moved, most) > 0.95  # tight: many atoms
    fails(bound("prop-best-of"), moved, less, true=[moved, most])


@pytest.mark.theorem("prop-best-of", "bound")
def test_with_two_plans_best_of_n_is_a_tilt():
    law, score = laws(4, 2, 50)
    best = rp.best_of_law(law, score, 5)
    tilt = rp.exponential_tilt(law, score, rp.matched_strength(law, score, kl(best, law)))
    torch.testing.assert_close(best.exp(), tilt.exp(), rtol=1e-6, atol=1e-8)
