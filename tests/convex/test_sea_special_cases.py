"""The special cases: what they draw, and that their variances and variations are the truth."""

import itertools
import math

import numpy as np
import pytest
import torch

from mdtheory.convex.sea import (
    SPECIAL_CASES,
    adversarial,
    alternating,
    corrupted,
    iid,
    label_shift,
    mini_batches,
    random_order,
    rotating,
    slow_shift,
    switching,
)
from mdtheory.convex.sea.special_cases import bounded_noise

F64 = torch.float64
EVERY = pytest.mark.parametrize("case", SPECIAL_CASES)


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def close(left, right, tolerance=1e-12):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


def make(case, rounds=20, seeds=5, dimension=3, seed=1, **changes):
    return SPECIAL_CASES[case](rounds, seeds, dimension, seeded(seed), **changes)


@EVERY
def test_shapes_and_the_same_draw_from_the_same_seed(case):
    one, same, other = make(case), make(case), make(case, seed=2)
    assert one.rounds == 20
    assert one.batch == (5,)
    assert one.dimension == 3
    assert one.variances.shape == (20, 5)
    assert one.variations.shape == (19, 5)
    assert (one.variances >= 0).all()
    point = torch.full((5, 3), 0.2, dtype=F64)
    for t in (1, 2, 20):
        assert torch.equal(one(t, point)[1], same(t, point)[1])
    stream = torch.stack([one(t, point)[1] - other(t, point)[1] for t in range(1, 21)])
    assert (stream.abs().amax() > 0) == (case not in ("rotating", "alternating"))


@EVERY
def test_noise_has_mean_zero_and_the_variance_that_is_claimed(case):
    """Means over 4000 plays, within 5.5 standard errors of what they should be."""
    seeds, rounds = 4000, 12
    environment = make(case, rounds=rounds, seeds=seeds)
    zero = torch.zeros(seeds, 3, dtype=F64)
    noise = torch.stack(
        [environment(t, zero)[1] - environment.expected(t, zero)[1] for t in range(1, rounds + 1)]
    )
    squares, claimed = (noise**2).sum(-1), environment.variances
    assert (noise.mean(1).abs() <= 5.5 * noise.std(1) / math.sqrt(seeds) + 1e-12).all()
    gap = (squares - claimed).mean(1).abs()
    assert (gap <= 5.5 * (squares - claimed).std(1) / math.sqrt(seeds) + 1e-12).all()
    # Given the past: the last round's noise says nothing about this one's.
    both = noise[1:] * noise[:-1]
    assert (both.mean(1).abs() <= 5.5 * both.std(1) / math.sqrt(seeds) + 1e-12).all()


@EVERY
def test_variation_is_that_of_the_expected_gradients(case):
    environment = make(case, curvature=[0.1, 0.5, 1.0])
    for x in (torch.zeros(5, 3, dtype=F64), torch.full((5, 3), 0.4, dtype=F64)):
        means = torch.stack([environment.expected(t, x)[1] for t in range(1, 21)])
        close(((means[1:] - means[:-1]) ** 2).sum(-1), environment.variations)
    assert environment.smoothness == 1.0
    assert environment.strong_convexity == 0.1


@EVERY
def test_one_round_one_seed_one_dimension(case):
    dimension = 2 if case == "rotating" else 1
    changes = {"switches": 0} if case == "switching" else {}
    environment = make(case, rounds=1, seeds=1, dimension=dimension, **changes)
    assert environment.variations.shape == (0, 1)
    loss, gradient = environment(1, environment.start())
    assert loss.tolist() == [0.0]
    assert gradient.shape == (1, dimension)


def test_bounded_noise_fills_the_unit_ball():
    noise, variance = bounded_noise(50, 400, 3, seeded())
    lengths = noise.norm(dim=-1)
    assert (lengths <= 1).all()
    assert (variance == 1 / 3).all()
    assert lengths.mean().item() == pytest.approx(1 / 2, abs=0.01)
    assert (lengths**2).mean().item() == pytest.approx(1 / 3, abs=0.01)
    single, third = bounded_noise(2, 3, 4, seeded(), dtype=torch.float32)
    assert single.dtype == third.dtype == torch.float32


def test_iid_and_adversarial_read_one_stream_in_two_ways():
    still = iid(30, 4, 3, seeded(), noise=0.6)
    assert still.variations.sum() == 0
    close(still.variances, torch.full((30, 4), 0.12, dtype=F64))
    moved = adversarial(30, 4, 3, seeded())
    assert moved.variances.sum() == 0
    close(moved.moves.norm(dim=-1), torch.ones(30, 4, dtype=F64))


def test_rotation_and_alternation():
    turning = rotating(40, 2, 3, seeded(), period=40.0)
    close(turning.variations, torch.full((39, 2), (2 * math.sin(math.pi / 40)) ** 2, dtype=F64))
    close(turning.moves.sum(0), torch.zeros(3, dtype=F64))
    assert (turning.moves[:, 2] == 0).all()
    flipping = alternating(40, 2, 3, seeded(), size=0.5, noise=0.3)
    close(flipping.variations, torch.ones(39, 2, dtype=F64))
    close(flipping.variances, torch.full((40, 2), 0.03, dtype=F64))
    close(flipping.moves[:2].sum(0), torch.zeros(3, dtype=F64))


def test_corruption_adds_up_to_what_is_said():
    environment = corrupted(100, 2, 3, seeded(), every=7, size=0.8)
    hit = environment.moves.norm(dim=-1)
    assert hit.nonzero().flatten().tolist() == list(range(6, 100, 7))
    assert hit.sum().item() == pytest.approx(0.8 * (100 // 7))
    close(environment.variations.sum(0), torch.full((2,), 2 * 0.64 * 14, dtype=F64))
    every = corrupted(10, 2, 3, seeded(), every=1)
    assert every.variations.sum() == 0
    # A corruption points against the way that the stream goes.
    assert (environment.moves[6] * environment.offset).sum() < 0


@pytest.mark.parametrize("switches", [0, 1, 4, 19])
def test_distributions_switch_as_often_as_asked(switches):
    environment = switching(20, 2, 3, seeded(), switches=switches)
    jumps = environment.variations > 0
    assert jumps.sum(0).tolist() == [switches] * 2
    places = jumps[:, 0].nonzero().flatten()
    if switches > 1:
        assert (places[1:] - places[:-1]).max() - (places[1:] - places[:-1]).min() <= 1
    close(environment.moves.norm(dim=-1), torch.ones(20, dtype=F64))


@pytest.mark.parametrize("speed", [0.0, 0.01, 0.37, 1.0])
def test_a_slow_slope_never_moves_faster_than_its_speed(speed):
    environment = slow_shift(300, 1, 3, seeded(), speed=speed)
    assert (environment.variations <= speed**2 + 1e-12).all()
    assert (environment.moves.norm(dim=-1) <= 0.5 + 1e-12).all()
    if speed == 0.01:
        turned = environment.variations < speed**2 - 1e-12
        assert turned.sum() <= 3
        close(environment.moves.norm(dim=-1).max().item(), 0.5, 1e-9)


@pytest.mark.parametrize("size", [1, 4, 16])
def test_the_variance_of_a_mini_batch_falls_with_its_size(size):
    environment = mini_batches(50, 400, 3, seeded(), noise=2.0, size=size)
    close(environment.variances, torch.full((50, 400), 4 / 3 / size, dtype=F64))
    squares = 4 * (environment.noise**2).sum(-1)
    assert squares.mean().item() == pytest.approx(4 / 3 / size, rel=0.02)


@pytest.mark.parametrize("passes", [1, 2, 3, 12])
def test_every_pass_is_a_permutation_of_the_same_losses(passes):
    environment = random_order(12, 30, 3, seeded(), passes=passes)
    drawn = (environment.moves + environment.noise).reshape(passes, 12 // passes, 30, 3)
    ordered = drawn.sort(1)[0]
    close(ordered, ordered[:1, :, :1].expand_as(ordered))
    total = drawn.sum((0, 1))
    close(total, total[:1].expand_as(total))
    assert (environment.variances.reshape(passes, -1, 30)[:, -1] == 0).all()
    if passes < 12:
        keys = drawn[0, 0].sum(-1)
        assert keys.unique().numel() > 1  # the orders differ
    if 1 < passes < 12:
        assert not torch.equal(drawn[0], drawn[1])


def test_all_orders_are_equally_likely():
    environment = random_order(4, 6000, 2, seeded(5))
    drawn = (environment.moves + environment.noise)[:, :, 0].argsort(0).T
    codes = (drawn * torch.tensor([64, 16, 4, 1])).sum(-1)
    counts = codes.unique(return_counts=True)[1].double()
    assert len(counts) == 24
    assert ((counts - 250) ** 2 / 250).sum() < 60  # chi-square with 23 degrees of freedom


def test_label_shift_is_unbiased_with_the_multinomial_covariance():
    """Enumerate all predictions on two samples: mean and variance of the slope are exact."""
    rounds, accuracy = 7, 0.8
    environment = label_shift(rounds, 3, 2, seeded(4), samples=2, accuracy=accuracy, period=9.0)
    slopes = torch.randn(3, 2, generator=seeded(4), dtype=F64)
    slopes = (slopes / slopes.norm(dim=-1, keepdim=True)).numpy()
    turn = 2 * np.pi * (np.arange(rounds)[:, None] / 9 + np.arange(3) / 3)
    proportions = (1 + 0.9 * np.cos(turn)) / 3
    assert np.allclose(proportions.sum(-1), 1)
    confusion = np.full((3, 3), (1 - accuracy) / 2) + (3 * accuracy - 1) / 2 * np.eye(3)
    inverse = np.linalg.inv(confusion)
    for t in range(rounds):
        q = confusion @ proportions[t]
        mean, square = np.zeros(2), 0.0
        exact = proportions[t] @ slopes
        for pair in itertools.product(range(3), repeat=2):
            chance = q[pair[0]] * q[pair[1]]
            frequency = np.bincount(pair, minlength=3) / 2
            estimate = (inverse @ frequency) @ slopes
            mean += chance * estimate
            square += chance * ((estimate - exact) ** 2).sum()
        assert np.allclose(mean, exact, atol=1e-12)
        assert np.allclose(environment.moves[t].numpy(), exact, atol=1e-12)
        assert np.allclose(environment.variances[t].numpy(), square, atol=1e-12)
    # What was drawn is one of the six outcomes.
    outcomes = np.array(
        [
            (inverse @ (np.bincount(pair, minlength=3) / 2)) @ slopes
            for pair in itertools.combinations_with_replacement(range(3), 2)
        ]
    )
    drawn = (environment.moves[:, None] + environment.noise).reshape(-1, 1, 2).numpy()
    assert np.abs(drawn - outcomes).sum(-1).min(-1).max() < 1e-12


def test_a_perfect_classifier_on_many_samples_leaves_little_noise():
    few = label_shift(30, 4, 3, seeded(), samples=5)
    many = label_shift(30, 4, 3, seeded(), samples=500, accuracy=1.0)
    assert (many.variances < few.variances / 50).all()
