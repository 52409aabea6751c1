"""Preference games at the edges: memory, temperatures, zeros, precision, shapes that broadcast."""

import math

import numpy as np
import pytest
import torch

from mdtheory.nlhf import mirror_prox as mp
from mdtheory.nlhf import nash_md as nm

F64 = torch.float64
SPACE = nm.SequenceSpace(3, 2)


def drawn(n=4, *batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    preference = nm.random_preference(n, generator, batch)
    return preference, torch.randn(*batch, n, generator=generator, dtype=F64).log_softmax(-1)


# ------------------------------------------------------------------------------ memory

RUNS = {
    "nash_md": lambda p, m: nm.nash_md_iterates(nm.PreferenceGame(p, m, 0.1), 3, 0.5),
    "nash_md, schedule": lambda p, m: nm.nash_md_iterates(nm.PreferenceGame(p, m, 0.1), 3),
    "self_play": lambda p, m: nm.self_play_iterates(nm.PreferenceGame(p, m, 0.1), 3, 0.5),
    "hedge": lambda p, m: nm.self_play_iterates(nm.PreferenceGame(p, m, 0.0), 3, 0.5),
    "mirror descent": lambda p, m: mp.preference_mirror_descent_iterates(
        nm.PreferenceGame(p, m, 0.1), 3
    ),
    "mirror prox": lambda p, m: mp.nash_mirror_prox_iterates(nm.PreferenceGame(p, m, 0.1), 3),
}
LAST = {
    "nash_md": lambda p, m, k: nm.nash_md(nm.PreferenceGame(p, m, 0.1), k, 0.5),
    "mirror descent": lambda p, m, k: mp.preference_mirror_descent(nm.PreferenceGame(p, m, 0.1), k),
    "mirror prox": lambda p, m, k: mp.nash_mirror_prox(nm.PreferenceGame(p, m, 0.1), k),
    "equilibrium": lambda p, m, k: nm.regularized_nash(nm.PreferenceGame(p, m, 1e6 * (k + 1))),
    "policy of the game": lambda p, m, k: nm.PreferenceGame(p, m, 0.1).policy(),
}


def parts(item):
    return item if isinstance(item, tuple) else (item,)


@pytest.mark.parametrize("name", RUNS)
def test_what_is_yielded_can_be_overwritten(name):
    preference, reference = drawn()
    kept = preference.clone(), reference.clone()
    wanted = [[part.clone() for part in parts(now)] for now in RUNS[name](preference, reference)]
    assert len(wanted) == 4
    for now, then in zip(RUNS[name](preference, reference), wanted, strict=True):
        for mine, before in zip(parts(now), then, strict=True):
            assert torch.equal(mine, before)
            mine.exp_()
    assert torch.equal(preference, kept[0])
    assert torch.equal(reference, kept[1])


@pytest.mark.parametrize("name", LAST)
@pytest.mark.parametrize("count", [0, 2])
def test_what_is_returned_can_be_overwritten(name, count):
    preference, reference = drawn()
    kept = reference.clone()
    LAST[name](preference, reference, count).exp_()
    assert torch.equal(reference, kept)
    # One reference for many games is written once for each of them.
    many = LAST[name](preference.expand(2, 4, 4), reference, count)
    many[0].fill_(7.0)
    assert (many[1] < 0).all()


def test_games_and_runs_copy_what_they_are_given():
    preference, reference = drawn()
    tau = torch.tensor(0.3, dtype=F64)
    game = nm.PreferenceGame(preference, reference, tau)
    before = game.exploitability(game.policy())
    run = nm.nash_md_iterates(nm.PreferenceGame(preference, reference, tau), 5, 0.5)
    wanted = [
        now.clone()
        for now in nm.nash_md_iterates(nm.PreferenceGame(preference, reference, tau), 5, 0.5)
    ]
    for buffer in (preference, reference, tau):
        buffer.fill_(math.nan)
    assert torch.equal(game.exploitability(game.policy()), before)
    assert all(torch.equal(a, b) for a, b in zip(run, wanted, strict=True))


def test_logits_that_are_returned_without_a_step_are_copies():
    logits = torch.zeros(SPACE.prefixes, 3, dtype=F64)
    preference, _ = drawn(9)
    mp.proximal_ascent(
        SPACE,
        nm.PreferenceGame(preference, SPACE.log_probs(logits), 0.1),
        logits,
        logits,
        2.0,
        steps=0,
        learning_rate=1.0,
    ).fill_(7.0)
    start = logits, logits
    online, target = mp.practical_mirror_prox(
        SPACE, nm.PreferenceGame(preference, SPACE.log_probs(logits), 0.1), 0, start=start
    )
    online.fill_(7.0)
    assert (target == 0).all()
    for run in (nm.nash_md_pg, nm.nash_ema_pg):
        run(SPACE, nm.PreferenceGame(preference, SPACE.log_probs(logits), 0.1), 0).fill_(7.0)
    nm.reward_pg(SPACE, preference[0], logits, 0.1, 0).fill_(7.0)
    assert (logits == 0).all()


# ------------------------------------------------------------------------------ temperatures


@pytest.mark.parametrize("tau", [1e-300, 1e-15, 1e-9, 1e9, 1e300])
def test_any_temperature_has_its_equilibrium_and_its_response(tau):
    preference, reference = drawn(5, 20)
    nash = nm.regularized_nash(nm.PreferenceGame(preference, reference, tau))
    assert nash.isfinite().all()
    # What the equation's residual allows: spans within the tolerance gain at most as much.
    gain = nm.exploitability(nm.PreferenceGame(preference, reference, tau), nash)
    # (And what the rounding of the policy itself costs at so high a price of divergence.)
    assert gain.max() <= 1e-11 + tau * 1e-30
    response = nm.best_response(nm.PreferenceGame(preference, reference, tau), reference)
    won = (preference @ reference.exp()[..., None])[..., 0]
    if tau < 1e-6:
        assert torch.equal(response.argmax(-1), won.argmax(-1))
        assert (response.amax(-1) == 0).all()
    else:
        torch.testing.assert_close(response, (reference + won / tau).log_softmax(-1))
    step = nm.magnetic_step(
        nm.PreferenceGame(preference, reference, tau), reference, reference, 1e308
    )
    torch.testing.assert_close(step, response, rtol=1e-7, atol=1e-12)


def test_an_answer_of_no_weight_does_not_blur_the_others():
    """The rounding of a logarithm of -1e300 is no excuse for those of ordinary size."""
    preference, reference = drawn(4)
    deep = torch.cat([reference[:3], torch.tensor([-1e300], dtype=F64)]).log_softmax(-1)
    for tau in (1e-3, 1.0, 1e3):
        game = nm.PreferenceGame(preference, deep, tau)
        small = nm.PreferenceGame(preference[:3, :3], deep[:3], tau)
        nash = nm.regularized_nash(game)
        torch.testing.assert_close(nash[:3], nm.regularized_nash(small), rtol=1e-9, atol=1e-9)
        assert nm.exploitability(game, nash) < 1e-11


def test_an_endless_step_is_the_best_response_whatever_the_policy():
    preference, reference = drawn(4, 10)
    game = nm.PreferenceGame(preference, reference, 0.3)
    corner = torch.tensor([0.0, -math.inf, -math.inf, -math.inf], dtype=F64)
    for opponent in (reference, corner.expand(10, 4)):
        found = game.step(corner.expand(10, 4), opponent, math.inf)
        torch.testing.assert_close(found, game.best_response(opponent), rtol=0, atol=1e-14)
        mine = nm.best_response(nm.PreferenceGame(preference, reference, 0.3), opponent)
        torch.testing.assert_close(mine, found, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_temperature_that_the_dtype_cannot_invert_is_refused(dtype):
    preference, reference = (part.to(dtype) for part in drawn())
    tiny = torch.finfo(dtype).tiny
    for bad in (tiny / 4, math.inf, math.nan, -tiny):
        with pytest.raises(ValueError, match="temperature: expected"):
            nm.PreferenceGame(preference, reference, bad)
        with pytest.raises(ValueError, match="temperature: expected"):
            nm.PreferenceGame(preference, reference, torch.tensor(bad, dtype=dtype))
    if dtype == torch.float32:
        with pytest.raises(ValueError, match="temperature: expected"):
            nm.PreferenceGame(preference, reference, 1e300)
    for good in (0.0, tiny, 1e30):
        game = nm.PreferenceGame(preference, reference, good)
        assert game.exploitability(game.policy()).isfinite()


def test_bounds_form_no_squares_that_overflow_or_vanish():
    assert nm.nash_md_rate(1e-154, 1).item() == pytest.approx(4e308, rel=1e-12)
    for kind in (float, lambda x: torch.tensor(x, dtype=F64)):
        assert float(mp.largest_step(kind(1e200))) == pytest.approx(4e200)
        assert float(mp.bounds.noise_floor(kind(1e-200), kind(1e-200))) == 0.625
        assert float(mp.bounds.cycle_modulus(kind(0.0), kind(1e200), 1)) == pytest.approx(
            1e200 / math.sqrt(12)
        )
        assert float(mp.bounds.start_distance(kind(1e-300))) == pytest.approx(5e299)
    start = torch.tensor(0.5, dtype=F64)
    assert mp.bounds.exploitability_rate(start, 1e-200, 2.0, 3).isinf().all()
    span = mp.bounds.span_rate(start, 2 * start, 1e10, 1e300, 2)
    assert span.isfinite().all()
    assert span[0].item() == pytest.approx(1.0)
    for bad in (math.inf, math.nan):
        with pytest.raises(ValueError, match="start: expected"):
            mp.bounds.kl_rate(start * bad, 0.1, 2.0, 3)
    with pytest.raises(ValueError, match="start_span: expected"):
        mp.bounds.span_rate(start, -start, 0.1, 2.0, 3)


# ------------------------------------------------------------------------------ zeros


def test_gradients_are_finite_where_a_policy_is_0():
    preference, reference = drawn()
    policy = torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=F64).log().requires_grad_()
    other = torch.tensor([0.0, 0.0, 0.5, 0.5], dtype=F64).log().requires_grad_()
    for tau in (0.0, 0.3, torch.tensor(0.0, dtype=F64), torch.tensor(0.3, dtype=F64)):
        game = nm.PreferenceGame(preference, reference, tau)
        found = game.value(policy, other) + game.exploitability(policy)
        for slope in torch.autograd.grad(found, (policy, other)):
            assert slope.isfinite().all()


def test_near_laws_keep_their_digits():
    preference, reference = drawn(4, 30)
    nash = nm.regularized_nash(nm.PreferenceGame(preference, reference, 0.5))
    tilt = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=F64)
    gains = []
    for size in (1e-4, 1e-6):
        near = (nash + size * tilt).log_softmax(-1)
        gains.append(
            nm.exploitability(nm.PreferenceGame(preference, reference, 0.5), near) / size**2
        )
    assert (gains[0] > 0).all()
    torch.testing.assert_close(gains[0], gains[1], rtol=1e-3, atol=0)


# ------------------------------------------------------------------------------ shapes


def test_one_preference_for_each_sequence():
    tokens = -torch.rand(5, 3, dtype=F64)
    won = torch.rand(5, dtype=F64)
    each = nm.policy_gradient_surrogate(tokens, tokens, won, 0.1)
    assert each.shape == (5,)
    for wrong in (won[:, None], won[:1], won[0], won.expand(2, 5)):
        with pytest.raises(ValueError, match="preferred: expected shape"):
            nm.policy_gradient_surrogate(tokens, tokens, wrong, 0.1)
    with pytest.raises(TypeError, match="preferred"):
        nm.policy_gradient_surrogate(tokens, tokens, won.float(), 0.1)
    with pytest.raises(TypeError, match="preferred"):
        nm.policy_gradient_surrogate(tokens, tokens, 0.5, 0.1)
    with pytest.raises(ValueError, match="preferred: expected finite"):
        nm.policy_gradient_surrogate(tokens, tokens, won * math.nan, 0.1)
    with pytest.raises(ValueError, match="token_log_probs: expected finite"):
        nm.policy_gradient_surrogate(tokens - math.inf, tokens, won, 0.1)


def test_preferences_are_not_summed_over_a_batch_that_the_policy_lacks():
    logits = torch.zeros(SPACE.prefixes, 3, dtype=F64)
    won = torch.rand(2, 9, generator=torch.Generator().manual_seed(0), dtype=F64)
    for gradient in (nm.expected_gradient, nm.objective_gradient):
        with pytest.raises(ValueError, match="preferred: expected a shape that broadcasts to"):
            gradient(SPACE, logits, logits, won, 0.1)
        with pytest.raises(ValueError, match="preferred"):
            gradient(SPACE, logits, logits, won[0, :, None], 0.1)
        both = gradient(SPACE, logits.expand(2, -1, -1), logits, won, 0.1)
        torch.testing.assert_close(both[1], gradient(SPACE, logits, logits, won[1], 0.1))


def test_weights_and_steps_of_other_batches_are_refused_by_name():
    preference, reference = drawn(4, 2)
    three = torch.full((3,), 0.5, dtype=F64)
    for call, name in (
        (lambda: nm.nash_md(nm.PreferenceGame(preference, reference, 0.1), 2, three), "step_size"),
        (lambda: nm.shifted_temperature(three, three[:2]), "step_size"),
        (
            lambda: SPACE.token_mixture(
                torch.zeros(2, 4, 3, dtype=F64), torch.zeros(4, 3, dtype=F64), three
            ),
            "weight",
        ),
        (
            lambda: nm.nash_ema_pg(
                SPACE,
                nm.PreferenceGame(
                    drawn(9, 2)[0], SPACE.log_probs(torch.zeros(4, 3, dtype=F64)), 0.1
                ),
                1,
                three,
            ),
            "decay",
        ),
    ):
        with pytest.raises(ValueError, match=f"{name}: expected a shape that broadcasts"):
            call()


def test_numbers_of_numpy_are_numbers_and_arrays_are_refused_by_name():
    preference, reference = drawn()
    logits = torch.zeros(SPACE.prefixes, 3, dtype=F64)
    calls = {
        "temperature": lambda x: nm.nash_md(nm.PreferenceGame(preference, reference, x), 2),
        "step_size": lambda x: nm.nash_md(nm.PreferenceGame(preference, reference, 0.1), 2, x),
        "temperature ": lambda x: nm.regularized_nash(nm.PreferenceGame(preference, reference, x)),
        "tolerance": lambda x: nm.regularized_nash(
            nm.PreferenceGame(preference, reference, 0.1), x
        ),
        "step_size ": lambda x: mp.nash_mirror_prox(
            nm.PreferenceGame(preference, reference, 0.1), 2, x
        ),
        "temperature  ": lambda x: nm.nash_md_rate(x, 3),
        "step_size  ": lambda x: nm.shifted_temperature(0.5, x),
        "weight": lambda x: SPACE.token_mixture(logits, logits, x),
        "decay": lambda x: nm.nash_ema_pg(
            SPACE, nm.PreferenceGame(drawn(9)[0], SPACE.log_probs(logits), 0.1), 1, x
        ),
        "temperature   ": mp.largest_step,
        "decay ": lambda x: mp.practical_mirror_prox(
            SPACE, nm.PreferenceGame(drawn(9)[0], SPACE.log_probs(logits), 0.1), 1, decay=x
        ),
    }
    for name, call in calls.items():
        for number in (np.float64(0.5), np.float32(0.5)):
            call(number)
        for array in (np.array(0.5), np.array([0.5, 0.5])):
            with pytest.raises(TypeError, match=f"{name.strip()}: expected a number"):
                call(array)


# ------------------------------------------------------------------------------ the equilibrium


def test_the_derivative_of_the_equilibrium_is_that_of_its_equation():
    generator = torch.Generator().manual_seed(3)
    skew, reference = torch.randn(2, 4, 4, generator=generator, dtype=F64)
    tau = torch.tensor(0.4, dtype=F64)

    def solve(matrix, logits, temperature):
        preference = 0.5 + 0.1 * (matrix - matrix.mT)
        return nm.regularized_nash(
            nm.PreferenceGame(preference, logits.log_softmax(-1), temperature)
        )

    arguments = (skew, reference[0], tau)
    assert torch.autograd.gradcheck(solve, [each.requires_grad_() for each in arguments])


def test_the_equilibrium_is_the_quantal_response_of_the_game_of_half_preferences():
    """One solver serves both; a third way, the fixed point, is in the tests of the theorem."""
    from mdtheory.nlhf import games

    preference, reference = drawn(5, 8)
    tau = torch.linspace(0.01, 2, 8, dtype=F64)
    nash = nm.regularized_nash(nm.PreferenceGame(preference, reference, tau))
    x, y = games.quantal_response(games.MatrixGame(preference - 0.5), tau, (reference, reference))
    torch.testing.assert_close(x.exp(), nash.exp(), rtol=0, atol=1e-9)
    torch.testing.assert_close(y.exp(), nash.exp(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("tau", [1e-3, 0.3, 100.0])
def test_float32_equilibria(tau):
    preference, reference = (part.float() for part in drawn(6, 10))
    nash = nm.regularized_nash(nm.PreferenceGame(preference, reference, tau))
    assert nash.dtype == torch.float32
    assert nm.exploitability(nm.PreferenceGame(preference, reference, tau), nash).max() < 1e-5


def test_faces_must_be_numbers():
    with pytest.raises(ValueError, match="dice: expected finite"):
        nm.dice_preference([[1, 2], [math.nan, 3]])
