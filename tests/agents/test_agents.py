"""Advantages, laws of actions and networks."""

import math

import pytest
import torch

from mdtheory.agents import (
    Categorical,
    Gaussian,
    Network,
    SquashedGaussian,
    clip_gradients,
    generalized_advantages,
    standardize,
)
from mdtheory.agents.distributions import log_slope_of_tanh

float64 = torch.float64


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


# ------------------------------------------------------------------------------------- advantages


def test_resets_are_no_experience(generator):
    """A trajectory with a step that only resets, beside the two episodes on their own."""
    rewards = torch.randn(7, generator=generator, dtype=float64)
    values = torch.randn(8, generator=generator, dtype=float64)
    no = torch.zeros(7, dtype=torch.bool)
    truncated, resets = no.clone(), no.clone()
    truncated[2], resets[3] = True, True

    def of(part, ends):
        return generalized_advantages(
            rewards[part], values[part.start : part.stop + 1], no[part], ends[part],
            discount=0.9, gae_lambda=0.8,
        )  # fmt: skip

    found = generalized_advantages(
        rewards, values, no, truncated, discount=0.9, gae_lambda=0.8, resets=resets
    )
    for mine, first, second in zip(
        found, of(slice(0, 3), truncated), of(slice(4, 7), no), strict=True
    ):
        expected = torch.cat([first, torch.zeros(1, dtype=float64), second])
        torch.testing.assert_close(mine, expected)


def test_trace_zero_is_the_temporal_difference_and_one_is_monte_carlo(generator):
    rewards = torch.randn(9, 3, generator=generator, dtype=float64)
    values = torch.randn(10, 3, generator=generator, dtype=float64)
    no = torch.zeros(9, 3, dtype=torch.bool)
    last = no.clone()
    last[-1] = True
    short = generalized_advantages(rewards, values, no, no, discount=0.7, gae_lambda=0.0)[0]
    torch.testing.assert_close(short, rewards + 0.7 * values[1:] - values[:-1])
    for terminated, truncated, rest in ((last, no, 0.0), (no, last, 1.0)):
        long, targets = generalized_advantages(
            rewards, values, terminated, truncated, discount=0.7, gae_lambda=1.0
        )
        total = rest * values[-1]
        for t in range(8, -1, -1):
            total = rewards[t] + 0.7 * total
            torch.testing.assert_close(long[t], total - values[t])
            torch.testing.assert_close(targets[t], total)


def test_standardised_advantages(generator):
    raw = 5 + 3 * torch.randn(2, 40, generator=generator, dtype=float64)
    weight = (torch.rand(2, 40, generator=generator) < 0.7).to(float64)
    ready = standardize(raw, weight)
    count = weight.sum(-1)
    torch.testing.assert_close((weight * ready).sum(-1) / count, torch.zeros(2).double())
    torch.testing.assert_close((weight * ready.square()).sum(-1) / count, torch.ones(2).double())
    assert (ready[weight == 0] == 0).all()
    assert (standardize(torch.full((2, 40), 0.1).double(), weight) == 0).all()
    assert (standardize(raw, 0 * weight) == 0).all()


@pytest.mark.parametrize(
    ("changes", "error", "name"),
    [
        ({"discount": 1.1}, ValueError, "discount"),
        ({"gae_lambda": -0.1}, ValueError, "gae_lambda"),
        ({"values": torch.zeros(4, 2)}, ValueError, "values"),
        ({"values": torch.zeros(5, 2).double()}, TypeError, "values"),
        ({"terminated": torch.zeros(4, 2)}, TypeError, "terminated"),
        ({"truncated": torch.zeros(3, 2, dtype=torch.bool)}, ValueError, "truncated"),
        ({"resets": [False]}, TypeError, "resets"),
    ],
)
def test_advantages_refuse_by_name(changes, error, name):
    good = {
        "rewards": torch.zeros(4, 2),
        "values": torch.zeros(5, 2),
        "terminated": torch.zeros(4, 2, dtype=torch.bool),
        "truncated": torch.zeros(4, 2, dtype=torch.bool),
        "discount": 0.9,
        "gae_lambda": 0.9,
    }
    with pytest.raises(error, match=f"^{name}: expected"):
        generalized_advantages(**(good | changes))


# ---------------------------------------------------------------------------------- distributions


def test_laws_agree_with_those_of_torch(generator):
    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=float64)

    d = torch.distributions
    logits, others = normal(3, 7, 4), normal(3, 7, 4)
    action = torch.arange(7).remainder(4).expand(3, 7)
    mine, its = Categorical(logits), d.Categorical(logits=logits)
    torch.testing.assert_close(mine.log_prob(action), its.log_prob(action))
    torch.testing.assert_close(mine.entropy(), its.entropy())
    expected = d.kl_divergence(its, d.Categorical(logits=others))
    torch.testing.assert_close(mine.kl(Categorical(others)), expected)
    mean, log_std, far, wide = normal(3, 7, 2), normal(3, 1, 2), normal(3, 7, 2), normal(3, 1, 2)
    mine = Gaussian(mean, log_std)
    its = d.Independent(d.Normal(mean, log_std.exp().expand_as(mean)), 1)
    where = normal(3, 7, 2)
    torch.testing.assert_close(mine.log_prob(where), its.log_prob(where))
    torch.testing.assert_close(mine.entropy(), its.entropy())
    other = d.Independent(d.Normal(far, wide.exp().expand_as(far)), 1)
    torch.testing.assert_close(mine.kl(Gaussian(far, wide)), d.kl_divergence(its, other))
    base = d.Normal(mean, log_std.exp().expand_as(mean))
    squashed = d.TransformedDistribution(base, d.TanhTransform())
    mine = SquashedGaussian(mean, log_std.expand_as(mean))
    raw, logs = mine.sample(generator)
    torch.testing.assert_close(mine.log_prob(raw), logs)
    torch.testing.assert_close(squashed.log_prob(raw.tanh()).sum(-1), logs, rtol=1e-6, atol=1e-6)


def test_the_slope_of_tanh_where_tanh_is_one():
    raw = torch.tensor([-40.0, -1.0, 0.0, 1.0, 40.0], requires_grad=True)
    logs = log_slope_of_tanh(raw)
    expected = torch.tensor([1.0, 1.0, 1.0]).copy_((1 - raw[1:4].tanh() ** 2).log())
    torch.testing.assert_close(logs[1:4], expected)
    # 1 - tanh^2(x) is nearly 4 exp(-2 |x|).
    torch.testing.assert_close(logs[[0, 4]], torch.full((2,), math.log(4) - 80))
    assert torch.autograd.grad(logs.sum(), raw)[0].isfinite().all()


def test_samples_have_the_law_that_they_should(generator):
    logits = torch.tensor([[0.0, 1.0, -1.0]]).expand(20_000, 3)
    drawn = Categorical(logits).sample(generator)
    share = torch.bincount(drawn, minlength=3) / 20_000
    torch.testing.assert_close(share, logits[0].softmax(-1), rtol=0, atol=0.015)
    law = Gaussian(torch.full((20_000, 1), 2.0), torch.tensor([[-1.0]]))
    drawn = law.sample(generator)
    assert drawn.mean().item() == pytest.approx(2.0, abs=0.02)
    assert drawn.std().item() == pytest.approx(math.exp(-1), abs=0.02)


def test_modes_and_detached_copies():
    logits = torch.tensor([[0.0, 2.0, 1.0]], requires_grad=True)
    assert Categorical(logits).mode().tolist() == [1]
    for law in (
        Categorical(logits), Gaussian(logits, logits), SquashedGaussian(logits, logits)
    ):  # fmt: skip
        assert not any(part.requires_grad for part in law.detach())
    torch.testing.assert_close(Gaussian(logits, logits).mode(), logits)
    torch.testing.assert_close(SquashedGaussian(logits, logits).mode(), logits.tanh())


def test_the_gaussian_tsallis_divergence_tends_to_the_kl_and_is_nonnegative(generator):
    def law():
        mean = torch.randn(50, 3, generator=generator, dtype=float64)
        return Gaussian(mean, torch.randn(1, 3, generator=generator, dtype=float64) / 2)

    new, old = law(), law()
    torch.testing.assert_close(new.divergence(old, 1 + 1e-5), new.kl(old), rtol=2e-3, atol=1e-3)
    for q in (1.2, 1.5, 2.0):
        assert (new.divergence(old, q) > 0).all()
        assert new.divergence(new, q).abs().max() < 1e-12


# --------------------------------------------------------------------------------------- networks


def test_copies_of_a_network_do_not_meet(generator):
    together = Network(3, (4, 8, 2), generator, dtype=float64)
    inputs = torch.randn(3, 5, 4, generator=generator, dtype=float64)
    whole = together(inputs)
    for k in range(3):
        parts = [p[k : k + 1] for p in together.parameters]
        torch.testing.assert_close(whole[k : k + 1], together(inputs[k : k + 1], parts))
    for weight in together.parameters[::2]:
        short = min(weight.shape[1:])
        gram = weight.mT @ weight if weight.shape[1] >= weight.shape[2] else weight @ weight.mT
        scale = gram[:, 0, 0]
        expected = scale[:, None, None] * torch.eye(short, dtype=float64)
        torch.testing.assert_close(gram, expected)


@pytest.mark.parametrize("activation", ["tanh", "relu", "silu"])
def test_push_is_the_derivative_along_a_direction(generator, activation):
    network = Network(2, (3, 6, 6, 2), generator, activation=activation, dtype=float64)
    inputs = torch.randn(2, 5, 3, generator=generator, dtype=float64)
    directions = [torch.randn(p.shape, generator=generator, dtype=float64)
                  for p in network.parameters]  # fmt: skip
    parameters = tuple(p.detach() for p in network.parameters)
    _, expected = torch.autograd.functional.jvp(
        lambda *p: network(inputs, p), parameters, tuple(directions)
    )
    torch.testing.assert_close(network.push(inputs, directions).detach(), expected.detach())


def test_gradients_are_clipped_for_each_copy():
    first, second = torch.zeros(2, 3), torch.zeros(2, 1, 2)
    first.grad = torch.tensor([[3.0, 0, 0], [0.1, 0, 0]])
    second.grad = torch.tensor([[[4.0, 0]], [[0.0, 0]]])
    norms = clip_gradients([first, second], 0.5)
    torch.testing.assert_close(norms, torch.tensor([5.0, 0.1]))
    torch.testing.assert_close(first.grad[:, 0], torch.tensor([0.3, 0.1]))
    torch.testing.assert_close(second.grad[0, 0, 0], torch.tensor(0.4))
