"""The labelled statements about distances of trajectories."""

import pytest
import torch

from mdtheory.rl import differentiable_physics as dp
from mdtheory.runs import check_bound, check_identity
from tests.refused import bound, fails, identity
from tests.rl.physics_cases import F64, apart, clouds, draws, normal

ALPHAS = torch.tensor([0.0, 0.1, 1.0, 10.0], dtype=F64)


def plain(x, e, alpha=1.0):
    d = apart(x, e)
    return alpha * d.amin(-1).mean(-1) + d.amin(-2).mean(-1)


@pytest.mark.theorem("prop-chamfer", "equality")
@pytest.mark.theorem("prop-chamfer", "mutant")
@pytest.mark.parametrize("shown", [12, 7])
def test_the_two_terms_pair_by_pair(shown):
    x, e = clouds(draws(1), shown=shown)
    deviation, coverage = dp.chamfer_terms(x, e)
    d = apart(x, e)
    check_identity("prop-chamfer", deviation, d.amin(-1).mean(-1))
    check_identity("prop-chamfer", coverage, d.amin(-2).mean(-1))
    for alpha in ALPHAS.tolist():
        check_identity("prop-chamfer", dp.chamfer_loss(x, e, alpha), plain(x, e, alpha))
    # Mutants: the weight on the other term; sums of squares over coordinates without their root.
    wrong = deviation + 10 * coverage
    right = dp.chamfer_loss(x, e, 10.0)
    fails(identity("prop-chamfer"), right, wrong, true=[right, 10 * deviation + coverage])
    squared = d.square().amin(-1).mean(-1)
    fails(identity("prop-chamfer"), deviation, squared, true=[deviation, d.amin(-1).mean(-1)])


@pytest.mark.theorem("prop-chamfer", "bound")
@pytest.mark.theorem("prop-chamfer", "mutant")
def test_matching_bounds_both_terms():
    x, e = clouds(draws(2), batch=300)
    deviation, coverage = dp.chamfer_terms(x, e)
    matching = dp.state_matching_loss(x, e)
    check_identity("prop-chamfer", matching, (x - e).square().mean(-1).sqrt().mean(-1))
    check_bound("prop-chamfer", deviation, matching)
    check_bound("prop-chamfer", coverage, matching)
    # The mutant: the farthest state in place of the nearest.
    farthest = apart(x, e).amax(-1).mean(-1)
    fails(bound("prop-chamfer"), farthest, matching, true=[deviation, matching])


@pytest.mark.theorem("prop-chamfer", "bound")
def test_the_bound_is_attained_where_states_are_far_apart():
    e = 10 * torch.arange(20, dtype=F64)[:, None].expand(20, 3)
    x = e + 0.01 * normal(draws(3), 20, 3)
    for alpha in ALPHAS.tolist():
        matching = (1 + alpha) * dp.state_matching_loss(x, e)
        ratio = check_bound("prop-chamfer", dp.chamfer_loss(x, e, alpha), matching)
        assert ratio == pytest.approx(1, abs=1e-12)


@pytest.mark.theorem("prop-chamfer", "bound")
@pytest.mark.theorem("prop-chamfer", "mutant")
def test_how_fast_the_terms_change():
    generator = draws(4)
    x, e = clouds(generator, batch=400)
    y = x.clone()
    y[:, 0] += 3 * normal(generator, 400, 3)  # one state moves far
    moved = (x - y).square().mean(-1).sqrt()
    (d1, c1), (d2, c2) = dp.chamfer_terms(x, e), dp.chamfer_terms(y, e)
    check_bound("prop-chamfer", (d1 - d2).abs(), moved.mean(-1))
    check_bound("prop-chamfer", (c1 - c2).abs(), moved.amax(-1))
    # The mutant: the mean for the coverage too; one state may be the nearest of all.
    e = e[:, :1].expand_as(e) + 0.01 * e
    x = e + 5
    x[:, 0] = e[:, 0]
    y = x + 0.05 * normal(generator, *x.shape)
    y[:, 0] = x[:, 0] + 1
    moved = (x - y).square().mean(-1).sqrt()
    change = (dp.chamfer_terms(x, e)[1] - dp.chamfer_terms(y, e)[1]).abs()
    fails(bound("prop-chamfer"), change, moved.mean(-1), true=[change, moved.amax(-1)])
    assert (change / moved.amax(-1)).max() > 0.9  # and the largest is what it can take


@pytest.mark.theorem("prop-chamfer", "equality")
def test_what_each_term_cannot_see():
    e = normal(draws(5), 20, 3)
    zero = torch.zeros((), dtype=F64)
    # The same set in another order; time plays no part.
    check_identity("prop-chamfer", dp.chamfer_loss(e.flip(0), e), zero)
    assert dp.state_matching_loss(e.flip(0), e) > 0.5
    # Collapse: staying at one shown state.
    deviation, coverage = dp.chamfer_terms(e[:1].expand(20, 3), e)
    check_identity("prop-chamfer", deviation, zero)
    assert coverage > 0.5
    # Dithering: all shown states and others between them.
    wander = torch.stack([e, e + 50], 1).flatten(0, 1)
    deviation, coverage = dp.chamfer_terms(wander, e)
    check_identity("prop-chamfer", coverage, zero)
    assert deviation > 20
    # And both vanish only where the sets agree.
    x = e.clone()
    x[3] += 0.1
    assert dp.chamfer_loss(x, e) > 0


# The envelope.


@pytest.mark.theorem("thm-chamfer-surrogate", "bound")
@pytest.mark.theorem("thm-chamfer-surrogate", "mutant")
def test_kept_assignments_majorise():
    generator = draws(6)
    x, e = clouds(generator, batch=400, shown=9)
    kept = dp.assign(x, e)
    for size in (0.01, 0.3, 2.0):
        z = x + size * normal(generator, *x.shape)
        value, above = dp.chamfer_loss(z, e, 0.7), dp.chamfer_surrogate(z, e, kept, 0.7)
        check_bound("thm-chamfer-surrogate", value, above)
    # The mutant: the inequality the other way round, kept choices below the best ones.
    fresh = dp.assign(z, e)
    mixed = dp.chamfer_surrogate(x, e, fresh, 0.7)
    fails(bound("thm-chamfer-surrogate"), above, dp.chamfer_surrogate(z, e, fresh, 0.7),
          true=[value, above])  # fmt: skip
    # An assignment of another point majorises as well, but does not touch.
    check_bound("thm-chamfer-surrogate", dp.chamfer_loss(x, e, 0.7), mixed)


@pytest.mark.theorem("thm-chamfer-surrogate", "equality")
@pytest.mark.theorem("thm-chamfer-surrogate", "mutant")
def test_the_majoriser_touches_with_the_same_slope():
    x, e = clouds(draws(7), batch=60, shown=15)
    x.requires_grad_()
    kept = dp.assign(x, e)
    check_identity("thm-chamfer-surrogate", dp.chamfer_loss(x, e), plain(x, e))
    check_identity("thm-chamfer-surrogate", dp.chamfer_surrogate(x, e, kept), plain(x, e))
    [frozen] = torch.autograd.grad(dp.chamfer_loss(x, e).sum(), x)
    # Autograd through all pairs and both minima.
    [whole] = torch.autograd.grad(plain(x, e).sum(), x)
    check_identity("thm-chamfer-surrogate", frozen, whole, tolerance=1e-12)
    # The mutant keeps one side alone.
    deviation, _ = dp.chamfer_terms(x, e)
    [half] = torch.autograd.grad(deviation.sum(), x)
    fails(identity("thm-chamfer-surrogate"), whole, half, true=[whole, frozen])
    fails(identity("thm-chamfer-surrogate"), plain(x, e),
          dp.chamfer_surrogate(x, e, dp.assign(x.detach().flip(-1), e)),
          true=[plain(x, e), dp.chamfer_surrogate(x, e, kept)])  # fmt: skip


def test_a_descent_of_the_majoriser_descends():
    x, e = clouds(draws(8), batch=30)
    for _ in range(20):
        x = x.requires_grad_()
        kept = dp.assign(x, e)
        above = dp.chamfer_surrogate(x, e, kept)
        [slope] = torch.autograd.grad(above.sum(), x)
        with torch.no_grad():
            z = x - 0.05 * slope
            lower = dp.chamfer_surrogate(z, e, kept) < above
            assert (dp.chamfer_loss(z, e) < dp.chamfer_loss(x, e))[lower].all()
            x = z


def test_gradients_exist_where_states_meet():
    e = normal(draws(9), 6, 2)
    x = e.clone().requires_grad_()
    for loss in (dp.chamfer_loss, dp.state_matching_loss):
        [slope] = torch.autograd.grad(loss(x, e), x)
        assert (slope == 0).all()


def test_gradients_against_finite_differences():
    x, e = clouds(draws(10), batch=2, states=5, shown=4)
    assert torch.autograd.gradcheck(lambda v: dp.chamfer_loss(v, e, 0.5), x.requires_grad_())
    assert torch.autograd.gradcheck(lambda v: dp.state_matching_loss(v, e), x[:, :4])
    assert torch.autograd.gradcheck(lambda v: dp.chamfer_loss(x.detach(), v), e.requires_grad_())


def test_leading_axes_are_kept():
    generator = draws(11)
    x, e = normal(generator, 3, 2, 8, 4), normal(generator, 5, 4)
    alone = torch.stack([torch.stack([dp.chamfer_loss(b, e, 2.0) for b in a]) for a in x])
    torch.testing.assert_close(dp.chamfer_loss(x, e, 2.0), alone)
    weights = torch.tensor([[0.5], [1.0], [2.0]], dtype=F64)
    torch.testing.assert_close(dp.chamfer_loss(x, e, weights)[2], alone[2])
    many = normal(generator, 2, 8, 4)
    assert dp.state_matching_loss(x, many).shape == (3, 2)
    assert dp.chamfer_loss(x[0, 0], many).shape == (2,)
