"""The labelled statements about entropy smoothing: bound, equality, mutant, tight instance."""

import math

import numpy as np
import pytest
import torch

from mdtheory.convex.mirror_maps import dual_step
from mdtheory.rl import entropy as en
from mdtheory.rl.entropy import bounds
from mdtheory.runs import check_bound, check_identity
from tests.refused import bound, breaks, differ, fails, identity

F64 = torch.float64


def rand(generator, *shape):
    return torch.rand(*shape, generator=generator, dtype=F64)


def start(count=60, n=6, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, n, generator=generator, dtype=F64)


# The net coefficient.


def coefficients(kind, seed=1):
    """Tokens' logits, their gradients by autograd of the whole loss, and those of the bonus."""
    generator = torch.Generator().manual_seed(seed)
    logits = (2 * torch.randn(3, 6, 5, 2, 7, generator=generator, dtype=F64)).requires_grad_()
    mask = torch.arange(2) < torch.randint(1, 3, (3, 6, 5, 1), generator=generator)
    settings = [0.2 + rand(generator, 3) for _ in range(3)]  # reference, weight, penalty
    reference, weight, penalty = 1.2 * settings[0], 2 * settings[1], settings[2]
    law = logits.log_softmax(-1)
    entropy = -(law.exp() * law).sum(-1)
    loss = en.epo_loss(
        torch.zeros(3, dtype=F64), entropy, mask, reference, weight, 0.3, penalty, kind=kind
    )
    base = en.epo_loss(torch.zeros(3, dtype=F64), entropy, mask, None, 1.0, 1.0, 0.0)
    whole, bonus = (
        torch.autograd.grad(-x.sum(), logits, retain_graph=True)[0] for x in (loss, base)
    )
    wide = [x[:, None, None, None] for x in (reference, weight, penalty)]
    return entropy.detach(), whole, bonus, wide


@pytest.mark.theorem("prop-coefficient", "equality")
@pytest.mark.theorem("prop-coefficient", "mutant")
@pytest.mark.parametrize("kind", ["relu", "indicator"])
def test_net_coefficient(kind):
    entropy, whole, bonus, (reference, weight, penalty) = coefficients(kind)
    regions = [entropy < 0.5 * reference, entropy > 1.5 * reference]
    assert all(region.any() for region in regions)
    assert not (regions[0] | regions[1]).all()
    factor = en.net_coefficient(entropy, reference, weight, 0.3, penalty, kind=kind)
    check_identity("prop-coefficient", whole, factor[..., None] * bonus)
    if kind == "relu":
        # Mutant: the roof pushes up as the floor does.
        side = 1 + penalty * weight * (regions[0] | regions[1])
        fails(identity("prop-coefficient"), whole, (0.3 * side)[..., None] * bonus,
              true=(whole, factor[..., None] * bonus))  # fmt: skip
    else:
        # Exactly the plain bonus, although the logged loss is another.
        assert torch.equal(factor, torch.full_like(factor, 0.3))


@pytest.mark.theorem("prop-coefficient", "equality")
def test_the_indicator_moves_nothing():
    """The loss is another number, the gradient is the same to the last bit."""
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(4, 6, 5, 2, 7, generator=generator, dtype=F64).requires_grad_()
    losses, gradients = [], []
    for penalty in (0.0, 0.5):
        law = logits.log_softmax(-1)
        entropy = -(law.exp() * law).sum(-1)
        loss = en.epo_loss(
            law[..., 0].mean((1, 2, 3)), entropy, torch.ones(2), 0.9, 1.7, 0.1, penalty,
            kind="indicator",
        )  # fmt: skip
        losses.append(loss)
        gradients.append(torch.autograd.grad(loss.sum(), logits)[0])
    assert (losses[0] != losses[1]).all()
    assert torch.equal(*gradients)


# Silence.


def plain_path(logits, times, factor=1.0, steps=300):
    """Entropy of the plain bonus at some times, by Runge and Kutta."""
    z = logits
    last, out = 0.0, []
    for time in times:
        h = factor * (time - last) / steps
        for _ in range(steps):
            k1 = en.entropy_gradient(z)[1]
            k2 = en.entropy_gradient(z + h / 2 * k1)[1]
            k3 = en.entropy_gradient(z + h / 2 * k2)[1]
            k4 = en.entropy_gradient(z + h * k3)[1]
            z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        last = time
        out.append(en.entropy_gradient(z)[0])
    return torch.stack(out)


def test_the_gradient_of_entropy():
    logits = start().requires_grad_()
    entropy, gradient = en.entropy_gradient(logits)
    torch.testing.assert_close(gradient, torch.autograd.grad(entropy.sum(), logits)[0])
    torch.testing.assert_close(gradient.sum(-1), torch.zeros(60, dtype=F64), atol=1e-14, rtol=0)


@pytest.mark.theorem("thm-silence", "bound")
@pytest.mark.theorem("thm-silence", "mutant")
def test_no_roof_below_strength_one():
    logits = start()
    reference = en.entropy_gradient(logits)[0]
    strength = torch.linspace(0.1, 0.9, 60, dtype=F64)
    step = 0.02
    record = en.silent_flow(logits, 1500, step, reference, strength)
    times = [3.0, 10.0, 30.0]
    now = record.entropy[[150, 500, 1500]]
    quick = plain_path(logits, times)
    slow = plain_path(logits, times, (1 - strength)[:, None])
    # Steps follow the flow to a step's length.
    check_bound("thm-silence", now, quick, tolerance=step)
    assert check_bound("thm-silence", slow, now, tolerance=step) > 0.95
    assert (record.entropy.diff(dim=0) >= 0).all()
    spread = record.logits.amax(-1) - record.logits.amin(-1)
    assert (spread.diff(dim=0) <= 1e-12).all()
    # Mutant: a roof is a roof.
    passes = 1.5 * reference < math.log(6) - 0.2
    late = en.silent_flow(logits[passes], 4000, 2.0, reference[passes], strength[passes])
    roof = 1.5 * reference[passes]
    torch.testing.assert_close(late.entropy[-1], torch.full_like(roof, math.log(6)), atol=1e-3,
                               rtol=0)  # fmt: skip
    assert breaks("thm-silence", late.entropy[-1], roof)


@pytest.mark.theorem("thm-silence", "equality")
@pytest.mark.theorem("thm-silence", "mutant")
@pytest.mark.parametrize("strength", [0.0, 0.4, 0.9])
def test_two_answers_by_quadrature(strength):
    """For n = 2 the difference of logits u obeys dt = -(1 + cosh u) du / (c u)."""
    u0 = 5.0
    logits = torch.tensor([u0, 0.0], dtype=F64)
    reference = en.entropy_gradient(logits)[0].item()
    step = 4e-3
    record = en.silent_flow(logits, 8000, step, reference, strength)
    gap = record.logits[::500, 0] - record.logits[::500, 1]
    grid = np.linspace(u0, 0.2, 100001)
    p = 1 / (1 + np.exp(-grid))
    entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p))
    for factor, right in ((1 - strength, True), (1 + strength, False)):
        c = np.where(entropy > 1.5 * reference, factor, 1.0)
        rate = (1 + np.cosh(grid)) / (c * grid)
        time = np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2 * -np.diff(grid))])
        at = torch.as_tensor(np.interp(step * np.arange(0, 8001, 500), time, grid))
        covered = at > 0.25
        if right:
            assert covered.sum() > 10
            check_identity("thm-silence", gap[covered], at[covered], tolerance=5e-3)
        elif strength:  # mutant: above the roof the clock is faster
            assert differ("thm-silence", gap[covered], at[covered], tolerance=5e-3)


@pytest.mark.theorem("thm-silence", "equality")
def test_the_lower_clock_is_attained_above_the_roof():
    """Tight: a start at the roof makes the whole path the plain one at 1 - alpha beta."""
    logits = start(seed=3)
    reference = en.entropy_gradient(logits)[0] / 1.5 * (1 - 1e-12)
    slow = en.silent_flow(logits, 200, 0.05, reference, 0.6)
    plain = en.silent_flow(logits, 200, 0.05 * 0.4, reference, 0.0)
    check_identity("thm-silence", slow.entropy, plain.entropy, tolerance=1e-11)


@pytest.mark.theorem("thm-silence", "bound")
@pytest.mark.theorem("thm-silence", "mutant")
def test_a_roof_above_strength_one():
    logits = start(seed=4)
    reference = en.entropy_gradient(logits)[0]
    inside = 1.5 * reference < math.log(6) - 0.1
    logits, reference = logits[inside], reference[inside]
    record = en.silent_flow(logits, 4000, 0.05, reference, 1.5)
    rise = record.entropy.diff(dim=0).amax(0)
    assert check_bound("thm-silence", record.entropy[1:], 1.5 * reference + rise) > 0.99
    # It gets there, and stays.
    torch.testing.assert_close(record.entropy[-1], 1.5 * reference, atol=0.02, rtol=0)
    # Mutant: the sign of the roof, a strength below one.
    weak = en.silent_flow(logits, 4000, 0.05, reference, 0.5)
    assert breaks("thm-silence", weak.entropy[1:], 1.5 * reference + rise)


# What the reference does.


def history(factor, steps, window=None, first=1.0, share=None):
    """Entropies that use a share of what the edge allows."""
    rows = [torch.as_tensor(first, dtype=F64)]
    for k in range(1, steps):
        seen = rows if window is None else rows[-window:]
        mean = torch.stack(seen).mean(0)
        rows.append(factor * mean * (1.0 if share is None else share[k]))
    return torch.stack(rows)


def running(rows):
    count = torch.arange(1, len(rows) + 1, dtype=F64)
    return rows.cumsum(0) / count.reshape(-1, *(1,) * (rows.ndim - 1)), count


@pytest.mark.theorem("thm-reference", "equality")
@pytest.mark.theorem("thm-reference", "mutant")
@pytest.mark.parametrize("factor", [0.0, 0.5, 0.9, 1.0, 1.5, 2.0, 3.7])
def test_riding_an_edge(factor):
    mean, count = running(history(factor, 120))
    formula = bounds.reference_growth(count, factor)
    check_identity("thm-reference", mean, formula, tolerance=1e-10)
    if factor == 2.0:
        check_identity("thm-reference", mean, (count + 1) / 2, tolerance=1e-10)
    if factor not in (0.0, 1.0):
        # Mutant: the edge multiplies in every update.
        fails(identity("thm-reference"), mean, factor ** (count - 1), true=(mean, formula),
              tolerance=1e-10)  # fmt: skip


@pytest.mark.theorem("thm-reference", "bound")
def test_below_a_roof_and_above_a_floor():
    generator = torch.Generator().manual_seed(5)
    share = 0.6 + 0.4 * rand(generator, 120, 200)
    mean, count = running(history(1.5, 120, first=torch.ones(200), share=share))
    roof = bounds.reference_growth(count, 1.5)[:, None]
    assert check_bound("thm-reference", mean, roof) > 0.99
    lifted, _ = running(history(0.5, 120, first=torch.ones(200), share=1 / share))
    floor = bounds.reference_growth(count, 0.5)[:, None]
    check_bound("thm-reference", floor, lifted)


@pytest.mark.theorem("thm-reference", "equality")
@pytest.mark.theorem("thm-reference", "mutant")
@pytest.mark.parametrize(("factor", "window"), [(1.5, 10), (2.0, 10), (1.2, 3), (0.5, 4), (3, 1)])
def test_a_window_lets_entropy_grow_geometrically(factor, window):
    rate = bounds.window_growth(factor, window)
    powers = torch.arange(window, dtype=F64)
    assert (rate**powers).mean().item() * factor == pytest.approx(rate**window, rel=1e-12)
    assert (rate > 1) == (factor > 1)
    rows = list(rate**powers)
    for _ in range(60):
        rows.append(factor * torch.stack(rows[-window:]).mean())
    rows, count = torch.stack(rows), torch.arange(window + 60, dtype=F64)
    check_identity("thm-reference", rows.log(), count * math.log(rate), tolerance=1e-11)
    if window > 1:  # mutant: it grows by the factor itself
        assert differ("thm-reference", rows.log(), count * math.log(factor))


@pytest.mark.theorem("thm-reference", "bound")
def test_a_window_that_is_not_full():
    """From any first entropies, with a window that fills up first."""
    generator = torch.Generator().manual_seed(6)
    share = 0.5 + 0.5 * rand(generator, 80, 100)
    rows = history(1.5, 80, window=10, first=torch.ones(100), share=share)
    powers = bounds.window_growth(1.5, 10) ** torch.arange(80, dtype=F64)[:, None]
    constant = (rows / powers)[:10].amax(0)
    assert check_bound("thm-reference", rows, constant * powers) > 0.99


# The deviation of the turns.


@pytest.mark.theorem("thm-deviation", "bound")
@pytest.mark.theorem("thm-deviation", "mutant")
def test_deviation():
    generator = torch.Generator().manual_seed(7)
    turns, cap = 20, math.log(40)
    reference = cap * rand(generator, 200)
    low, high = 0.9 * rand(generator, 200), 1 + 1.5 * rand(generator, 200)
    place = rand(generator, turns, 200)
    inside = reference * (low + (high - low) * place)
    total = (inside - reference).abs().sum(0)
    right, _ = bounds.deviation_bound(reference, low, high, turns, cap)
    check_bound("thm-deviation", total, right)
    free = cap * place
    always = bounds.deviation_bound(reference, low, high, turns, cap)[1]
    check_bound("thm-deviation", (free - reference).abs().sum(0), always)
    # Tight: all turns on the wider edge, or all at the farther end.
    wide = torch.where(1 - low > high - 1, low, high) * reference
    check_identity("thm-deviation", turns * (wide - reference).abs(), right)
    # Mutant: half the width of the corridor, on corridors that are not symmetric.
    half = turns * (high - low) / 2 * reference
    fails(bound("thm-deviation"), turns * (wide - reference).abs(), half,
          true=(turns * (wide - reference).abs(), right))  # fmt: skip


@pytest.mark.theorem("thm-deviation", "equality")
def test_half_the_width_is_right_for_symmetric_corridors_alone():
    low = torch.linspace(0, 1, 11, dtype=F64)
    right, _ = bounds.deviation_bound(torch.ones(11, dtype=F64), low, 2 - low, 7, 9.0)
    check_identity("thm-deviation", right, 7 * (2 - 2 * low) / 2)
    other, _ = bounds.deviation_bound(torch.ones(11, dtype=F64), low, 2.5 - low, 7, 9.0)
    assert (other > 7 * (2.5 - 2 * low) / 2 + 0.1).all()


@pytest.mark.theorem("thm-deviation", "equality")
@pytest.mark.theorem("thm-deviation", "mutant")
def test_drift_saturates():
    """A drift of delta a turn: quadratic at first, linear from the cap on."""
    reference, cap, delta = 1.0, 2.0, 0.1
    turns = torch.arange(1, 41, dtype=F64)
    path = (reference + delta * turns).clamp(max=cap)
    total = (path - reference).cumsum(0)
    early = turns <= 10
    check_identity("thm-deviation", total[early], (delta * turns * (turns + 1) / 2)[early])
    late = turns[~early]
    check_identity("thm-deviation", total[~early], 5.5 + (late - 10))
    always = torch.tensor([
        bounds.deviation_bound(reference, 0.5, 1.5, int(t), cap)[1] for t in turns
    ], dtype=F64)  # fmt: skip
    check_bound("thm-deviation", total, always)
    # Mutant: quadratic for ever, where the true bound holds.
    assert breaks("thm-deviation", delta * turns * (turns + 1) / 2, always)


# The bias.


@pytest.mark.theorem("thm-entropy-bias", "bound")
@pytest.mark.theorem("thm-entropy-bias", "mutant")
def test_bias_in_the_chain_of_locks():
    """The best policy without a bonus opens all locks and, later, says what it likes."""
    world = en.LockChain(1, 12, 3, torch.Generator().manual_seed(0))
    # Far beyond any sensible bonus, so that there is a bias at all.
    scale = torch.logspace(-3, 2, 60, dtype=F64)
    found, best = world.optimum(scale), world.optimum(1e-9)
    assert best.success.item() == pytest.approx(1, abs=1e-9)
    lost = 1 - found.success
    right = bounds.bias_bound(scale, found.entropy, best.entropy)
    check_bound("thm-entropy-bias", lost, right)
    assert lost.max() > 0.5
    loose = bounds.bias_bound(scale, math.log(40) / 2, best.entropy)
    check_bound("thm-entropy-bias", lost, loose)
    # The objective is not worse than that of the best policy: the whole proof.
    objective = best.success + scale * best.entropy
    check_bound("thm-entropy-bias", objective, found.value)
    # Mutant: the entropies exchanged.
    assert breaks("thm-entropy-bias", lost, bounds.bias_bound(scale, best.entropy, found.entropy))


@pytest.mark.theorem("thm-entropy-bias", "equality")
@pytest.mark.theorem("thm-entropy-bias", "mutant")
def test_bias_of_a_bandit():
    """One good answer among many: nearly all that the theorem allows is lost."""
    answers = torch.tensor([1e2, 1e3, 1e5], dtype=F64)
    for count in answers.tolist():
        gap = math.log(count) + 1
        reward = torch.zeros(int(count), dtype=F64)
        reward[0] = gap
        law = reward.log_softmax(-1)
        lost = gap - (law.exp() * reward).sum()
        entropy = -(law.exp() * law).sum()
        told = bounds.one_hot_bias(gap, count)
        torch.testing.assert_close(torch.stack([lost, entropy]), torch.tensor(told, dtype=F64))
    # Tight: the first bound to 2 per cent, the second within a factor of 1.5.
    lost, entropy = bounds.one_hot_bias(60.0, 1e25)
    pair = torch.tensor([lost], dtype=F64)
    assert check_bound("thm-entropy-bias", pair, torch.tensor(entropy, dtype=F64)) > 0.98
    lost, entropy = bounds.one_hot_bias(220.0, 1e97)
    largest = torch.tensor(math.log(1e97), dtype=F64)
    assert check_bound("thm-entropy-bias", torch.tensor([lost]), largest) > 0.66
    # Mutant: the entropy of the best policy counted twice, where it is not 0.
    even = math.log(2)  # two good answers, shared
    odds = (1e25 - 2) / 2 * math.exp(-60.0)
    both = torch.tensor([60 * odds / (1 + odds)], dtype=F64)
    rest = odds / (1 + odds)
    spread = both + math.log1p(odds) + math.log(2) - (1 - rest) * 0
    right = bounds.bias_bound(1.0, spread, even)
    check_bound("thm-entropy-bias", both, right)
    assert breaks("thm-entropy-bias", both, bounds.bias_bound(1.0, spread, 2 * even))


@pytest.mark.theorem("thm-entropy-bias", "equality")
def test_nothing_is_lost_where_nothing_is_at_stake():
    """Constant rewards and a uniform best policy: both sides are 0."""
    law = torch.full((5,), 0.2, dtype=F64)
    entropy = -(law * law.log()).sum()
    zero = bounds.bias_bound(0.3, entropy, torch.tensor(math.log(5), dtype=F64))
    check_identity("thm-entropy-bias", torch.zeros((), dtype=F64), zero)


def smoothed_bandit(reward, coefficient, smoothing, lower, upper, steps=4000):
    """Ascent on value + lambda H - rho P over logits, and what it finds."""
    logits = torch.zeros_like(reward).requires_grad_()
    optimizer = torch.optim.Adam([logits], 0.02)
    best = torch.full(reward.shape[:-1], -math.inf, dtype=F64)
    kept = logits.detach().clone()
    for _ in range(steps):
        law = logits.log_softmax(-1)
        entropy = -(law.exp() * law).sum(-1)
        strayed = (lower - entropy).relu() + (entropy - upper).relu()
        value = (law.exp() * reward).sum(-1)
        objective = value + coefficient * entropy - smoothing * strayed
        better = objective > best
        best = torch.where(better, objective, best).detach()
        kept = torch.where(better[..., None], logits, kept).detach()
        optimizer.zero_grad()
        (-objective).sum().backward()
        optimizer.step()
    law = kept.log_softmax(-1)
    entropy = -(law.exp() * law).sum(-1)
    return (
        (law.exp() * reward).sum(-1),
        entropy,
        (lower - entropy).relu() + (entropy - upper).relu(),
    )


@pytest.mark.theorem("thm-entropy-bias", "bound")
@pytest.mark.theorem("thm-entropy-bias", "mutant")
def test_bias_with_a_floor():
    """A floor is never free: the one right answer has entropy 0, below it."""
    generator = torch.Generator().manual_seed(8)
    reward = rand(generator, 40, 5)
    value, entropy, strayed = smoothed_bandit(reward, 0.02, 0.3, 0.6, 1.4, 1500)
    lost = reward.amax(-1) - value
    right = bounds.bias_bound(0.02, entropy, 0.0, 0.3, strayed, 0.6)
    assert check_bound("thm-entropy-bias", lost, right) > 1 / 3
    # Mutant: the penalty of the best policy forgotten.
    assert breaks("thm-entropy-bias", lost, bounds.bias_bound(0.02, entropy, 0.0, 0.3, strayed))


# The corridor and the phase.


@pytest.mark.theorem("prop-corridor", "bound")
@pytest.mark.theorem("prop-corridor", "equality")
@pytest.mark.theorem("prop-corridor", "mutant")
def test_the_penalty_is_a_distance():
    generator = torch.Generator().manual_seed(9)
    first, second, reference = 3 * rand(generator, 3, 500)
    low, high = rand(generator, 500), 1 + rand(generator, 500)
    penalty = lambda x, kind="relu": en.corridor_penalty(x, reference, low, high, kind)  # noqa: E731
    nearest = torch.minimum(torch.maximum(first, low * reference), high * reference)
    check_identity("prop-corridor", penalty(first), (first - nearest).abs())
    steep = (penalty(first) - penalty(second)).abs(), (first - second).abs()
    assert check_bound("prop-corridor", *steep) == pytest.approx(1)
    middle = penalty((first + second) / 2), (penalty(first) + penalty(second)) / 2
    check_bound("prop-corridor", *middle)
    # Mutant: the indicator has jumps and is not convex.
    jump = (penalty(first, "indicator") - penalty(second, "indicator")).abs()
    fails(bound("prop-corridor"), jump, steep[1], true=steep)
    chord = (penalty(first, "indicator") + penalty(second, "indicator")) / 2
    fails(bound("prop-corridor"), penalty((first + second) / 2, "indicator"), chord, true=middle)


@pytest.mark.theorem("prop-corridor", "bound")
@pytest.mark.theorem("prop-corridor", "equality")
@pytest.mark.theorem("prop-corridor", "mutant")
def test_the_weight_falls_from_two():
    for steps in (2, 7, 120):
        weight = torch.tensor([en.phase_weight(k, steps) for k in range(steps + 1)], dtype=F64)
        half = steps // 2
        step = torch.arange(steps + 1, dtype=F64)
        formula = 1 + (-3 * step / half).exp()
        check_identity("prop-corridor", weight, formula)
        assert weight[0] == 2
        check_bound("prop-corridor", weight[1:], weight[:-1])
        assert (weight > 1).all()
        if steps % 2:  # mutant: half of an odd number
            fails(identity("prop-corridor"), weight, 1 + (-6 * step / steps).exp(),
                  true=(weight, formula))  # fmt: skip


# The bonus is a magnet.


@pytest.mark.theorem("prop-entropy-magnet", "equality")
@pytest.mark.theorem("prop-entropy-magnet", "mutant")
@pytest.mark.parametrize("weight", [0.0, 0.3, 2.0, -0.4])
def test_the_bonus_is_a_magnet_at_the_uniform_law(weight):
    generator = torch.Generator().manual_seed(10)
    n, eta = 6, 1.5
    log_policy = start(50, n, 11).log_softmax(-1)
    gain = torch.randn(50, n, generator=generator, dtype=F64)
    uniform = torch.full((n,), -math.log(n), dtype=F64)
    step = dual_step(log_policy, -gain, eta, uniform, weight).log_softmax(-1)

    def slope(log_law, anchor=log_policy):
        """Gradient of <gain, p> + w H(p) - KL(p || anchor) / eta, tangent to the simplex."""
        raw = gain - weight * (log_law + 1) - (log_law - anchor + 1) / eta
        return raw - raw.mean(-1, keepdim=True)

    check_identity("prop-entropy-magnet", slope(step), torch.zeros_like(gain), tolerance=1e-11)
    if weight:
        # Mutant: the bonus as a gradient at the present law, without a prox.
        explicit = (log_policy + eta * (gain - weight * log_policy)).log_softmax(-1)
        fails(identity("prop-entropy-magnet"), slope(explicit), torch.zeros_like(gain),
              true=(slope(step), torch.zeros_like(gain)), tolerance=1e-11)  # fmt: skip
