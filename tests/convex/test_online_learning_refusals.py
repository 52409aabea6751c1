"""Online learning: an update that raises changes nothing, and what cannot be meant is refused."""

import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from mdtheory.convex import online_learning as ol

float64 = torch.float64


def uniform(d: int = 3) -> torch.Tensor:
    return torch.full((d,), 1 / d, dtype=float64)


def state(learner: ol.OnlineMirrorDescent) -> dict[str, object]:
    return {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in vars(learner).items()}


def same_state(left: dict[str, object], right: dict[str, object]) -> bool:
    return left.keys() == right.keys() and all(
        torch.equal(v, right[k]) if isinstance(v, torch.Tensor) else v is right[k] or v == right[k]
        for k, v in left.items()
    )


def bad_rule(round_: int) -> float:
    return 1.0 if round_ < 2 else -1.0


LEARNERS = {
    "mirror descent": lambda: ol.OnlineMirrorDescent(
        mm.PositiveEntropy(), uniform(), 1e6
    ),  # overflows
    "hedge": lambda: ol.Hedge(uniform(), bad_rule),
    "leader": lambda: ol.FollowTheRegularizedLeader(mm.Entropy(), uniform(), bad_rule),
    "optimistic": lambda: ol.OptimisticMirrorDescent(mm.Entropy(), uniform(), bad_rule),
    "newton": lambda: ol.OnlineNewtonStep(uniform(), mm.Simplex(), 0.5),
    "full": lambda: ol.AdaGrad(torch.zeros(3, dtype=float64), mm.Ball(1.0), "full"),
    "diagonal": lambda: ol.AdaGrad(torch.zeros(3, dtype=float64), mm.Box(-1.0, 1.0), "diagonal"),
    "norm": lambda: ol.AdaGrad(torch.zeros(3, dtype=float64), mm.Ball(1.0), "norm"),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_an_update_that_raises_leaves_the_learner_as_it_was(name):
    learner = LEARNERS[name]()
    huge = name in ("newton", "full", "diagonal", "norm")
    gradient = torch.tensor([-1.0, 0.0, 1.0], dtype=float64) * (1e200 if huge else 1.0)
    if name in ("hedge", "leader"):
        learner.update(gradient)
    before = state(learner)
    with pytest.raises(ValueError, match=r"step_size|gradient|matrix"):
        learner.update(gradient)
    assert same_state(before, state(learner))
    if huge:
        learner.update(gradient / 1e200)  # and it goes on
        assert learner.decision.isfinite().all()


def test_all_rounds_at_once_change_nothing_when_one_is_refused():
    learner = ol.Hedge(uniform(), 0.5)
    losses = torch.zeros(300, 3, dtype=float64)
    losses[250, 1] = torch.nan
    before = state(learner)
    with pytest.raises(ValueError, match="gradients"):
        ol.play(learner, ol.LinearLosses(losses), 300)
    assert same_state(before, state(learner))


def test_optimism_plays_as_many_rounds_as_its_sequence_has():
    losses = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=float64)
    learner = ol.OptimisticMirrorDescent(mm.Entropy(), uniform(), [0.1, 0.2, 0.3, 0.2, 0.1])
    record = ol.play(learner, ol.LinearLosses(losses), 5)
    assert record.step_sizes.tolist() == [0.1, 0.2, 0.3, 0.2, 0.1]
    with pytest.raises(
        ValueError, match="step_size: expected one entry a round, got 5 for round 6"
    ):
        learner.update(losses[0])


def test_a_moving_comparator_moves_in_every_round():
    losses = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=float64)
    record = ol.play(ol.Hedge(uniform(), 0.1), ol.LinearLosses(losses), 5)
    still = uniform().expand(5, 3)
    assert torch.allclose(ol.regret(record, still), ol.regret(record, uniform()))
    with pytest.raises(ValueError, match="one point for each of 5 rounds"):
        ol.regret(record, uniform()[None])
    with pytest.raises(TypeError, match="comparator"):
        ol.regret(record, uniform().float())


def test_wealth_of_one_path_of_portfolios_on_several_markets():
    generator = torch.Generator().manual_seed(0)
    relatives = torch.rand(5, 2, 3, generator=generator, dtype=float64) + 0.5
    decisions = ol.dirichlet((5,), 3, generator)
    together = ol.log_wealth(relatives, decisions)
    alone = torch.stack([ol.log_wealth(relatives[:, k], decisions) for k in range(2)], 1)
    assert torch.equal(together, alone)


@pytest.mark.parametrize("shares", [[0.0], torch.tensor([-torch.inf]), torch.tensor([torch.inf])])
def test_shares_of_a_universal_portfolio_are_finite_logarithms(shares):
    samples = uniform().expand(1, 3)
    shares = shares.to(float64) if isinstance(shares, torch.Tensor) else shares
    with pytest.raises((TypeError, ValueError), match="log_weights"):
        ol.universal_portfolio(torch.ones(4, 3, dtype=float64), samples, shares)


@pytest.mark.parametrize("step_size", [0.1, 1.0, 10.0])
def test_the_fast_path_keeps_twelve_digits_over_ten_thousand_rounds(step_size):
    losses = torch.rand(10_000, 4, generator=torch.Generator().manual_seed(0), dtype=float64)
    learner = ol.Hedge(uniform(4), step_size)
    fast = ol.hedge_decisions(losses, step_size, uniform(4))
    for t in range(2_000):
        if t % 100 == 99:
            assert torch.allclose(fast[t], learner.decision, rtol=0, atol=1e-12)
        learner.update(losses[t])


def test_a_lemma_without_reach_leaves_the_curvature():
    assert ol.bounds.exp_concave_gamma(0.8, 0.0) == 0.4


def test_a_tensor_of_losses_is_an_environment():
    losses = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=float64)
    plain = ol.play(ol.Hedge(uniform(), 0.1), losses, 7)
    named = ol.play(ol.Hedge(uniform(), 0.1), ol.LinearLosses(losses), 7)
    assert torch.equal(plain.decisions, named.decisions)
