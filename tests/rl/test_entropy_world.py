"""LockChain: its rules, exact evaluation, and the exact optimum."""

import math

import pytest
import torch

from mdtheory.rl.entropy import LockChain

F64 = torch.float64


def world(seeds=2, turns=5, locks=2, seed=0, **more):
    return LockChain(seeds, turns, locks, torch.Generator().manual_seed(seed), **more)


def laws(chain, *batch, seed=1):
    generator = torch.Generator().manual_seed(seed)
    pairs = chain.tokens[0] * chain.tokens[1]
    shape = (*batch, chain.seeds, chain.contexts, pairs)
    return (2 * torch.randn(shape, generator=generator, dtype=F64)).log_softmax(-1)


def test_contexts_are_goal_locks_and_turn():
    chain = world(goals=3)
    assert chain.contexts == 3 * 2 * 5
    assert chain.features.shape == (30, 3 + 2 + 1)
    row = chain.features[1 * 10 + 1 * 5 + 3]
    assert row.tolist() == pytest.approx([0, 1, 0, 0, 1, 3 / 5])
    starts = chain.start(50, torch.Generator().manual_seed(2))
    assert starts.shape == (2, 50)
    assert set(starts.unique().tolist()) == {0, 10, 20}


@pytest.mark.parametrize("resets", [False, True])
def test_right_and_wrong_pairs(resets):
    chain = world(resets=resets)
    first = torch.zeros(2, 1, dtype=torch.int64)
    right = chain.code[:, 0, :1]
    after, won = chain.step(first, right)
    assert (after == 1 * 5 + 1).all()
    assert not won.any()
    stay, won = chain.step(first, (right + 1) % 40)
    assert (stay == 1).all()
    second = chain.code[:, 0, 1:2]
    _, won = chain.step(after, second)
    assert won.all()
    back, won = chain.step(after, (second + 1) % 40)
    assert not won.any()
    assert (back == (2 if resets else 5 + 2)).all()
    # After the last turn the context stays in range.
    end, _ = chain.step(torch.full((2, 1), chain.contexts - 1), chain.code[:, 3, 1:2] + 1)
    assert (end < chain.contexts).all()


def by_paths(chain, log_policy, seed, goal, turn=0, opened=0):
    """Success as a sum over all sequences of right and wrong turns."""
    if opened == chain.locks or turn == chain.turns:
        return float(opened == chain.locks)
    place = (goal * chain.locks + opened) * chain.turns + turn
    right = log_policy[seed, place, chain.code[seed, goal, opened]].exp().item()
    back = 0 if chain.resets else opened
    ahead = by_paths(chain, log_policy, seed, goal, turn + 1, opened + 1)
    stay = by_paths(chain, log_policy, seed, goal, turn + 1, back)
    return right * ahead + (1 - right) * stay


@pytest.mark.parametrize("resets", [False, True])
def test_success_is_the_sum_over_paths(resets):
    chain = world(resets=resets, verbs=2, objects=2)
    log_policy = laws(chain)
    found = chain.success(log_policy)
    for seed in range(2):
        exact = sum(by_paths(chain, log_policy, seed, goal) for goal in range(4)) / 4
        assert found[seed].item() == pytest.approx(exact, abs=1e-14)


def test_success_of_chance():
    chain = world(1, 20, 4)
    uniform = torch.full((1, chain.contexts, 40), -math.log(40), dtype=F64)
    at_least = sum(math.comb(20, k) * (1 / 40) ** k * (39 / 40) ** (20 - k) for k in range(4, 21))
    assert chain.success(uniform).item() == pytest.approx(at_least, rel=1e-12)


def test_success_agrees_with_play():
    chain = world(1, 8, 2, verbs=2, objects=2)
    log_policy = laws(chain)[0]
    generator = torch.Generator().manual_seed(4)
    context = chain.start(40000, generator)
    over = torch.zeros_like(context, dtype=torch.bool)
    for _ in range(chain.turns):
        action = torch.multinomial(log_policy[context[0]].exp(), 1, generator=generator).T
        context, won = chain.step(context, action)
        over |= won
    exact = chain.success(log_policy[None]).item()
    assert over.double().mean().item() == pytest.approx(exact, abs=4 * 0.5 / 200)


def test_batches_do_not_mix():
    chain = world(3, 6, 3)
    log_policy = laws(chain, 2)
    found = chain.success(log_policy)
    assert found.shape == (2, 3)
    for k in range(2):
        torch.testing.assert_close(chain.success(log_policy[k]), found[k])


# The optimum.


def ascend(chain, coefficient):
    """The same objective by gradient ascent over tables of a right and a wrong law."""
    pairs = chain.tokens[0] * chain.tokens[1]
    logit = torch.zeros(chain.turns, chain.locks, dtype=F64).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [logit], max_iter=300, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def play():
        right = logit.sigmoid()
        entropy = -(torch.xlogy(right, right) + torch.xlogy(1 - right, 1 - right))
        entropy = entropy + (1 - right) * math.log(pairs - 1)
        mass = torch.zeros(chain.locks + 1, dtype=F64)
        mass[0] = 1
        nats = torch.zeros((), dtype=F64)
        for turn in range(chain.turns):
            going, done = mass[:-1], mass[-1:]
            nats = nats + (going * entropy[turn]).sum() + done.sum() * math.log(pairs)
            moved, stayed = going * right[turn], going * (1 - right[turn])
            if chain.resets:
                first = torch.zeros_like(stayed)
                first[0] = 1
                stayed = stayed.sum() * first
            mass = torch.cat([stayed, done * 0]) + torch.cat([moved.new_zeros(1), moved])
            mass = mass + torch.cat([torch.zeros_like(going), done])
        mean = nats / (2 * chain.turns)
        return mass[-1] + coefficient * mean, mass[-1], mean

    def closure():
        optimizer.zero_grad()
        loss = -play()[0]
        loss.backward()
        return loss

    optimizer.step(closure)
    return [part.item() for part in play()]


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("coefficient", [1.0, 6.0])
def test_optimum_against_gradient_ascent(resets, coefficient):
    chain = world(1, 4, 2, resets=resets, verbs=2, objects=3)
    best = chain.optimum(coefficient)
    value, success, entropy = ascend(chain, coefficient)
    assert value == pytest.approx(best.value.item(), abs=1e-6)
    assert success == pytest.approx(best.success.item(), abs=1e-3)
    assert entropy == pytest.approx(best.entropy.item(), abs=1e-3)


def test_ends_of_the_optimum():
    chain = world(1, 20, 4)
    assert chain.optimum().success.item() == 1
    assert world(1, 3, 4).optimum().success.item() == 0
    large = chain.optimum(1e9)
    assert large.entropy.item() == pytest.approx(math.log(40) / 2)
    uniform = torch.full((1, chain.contexts, 40), -math.log(40), dtype=F64)
    assert large.success.item() == pytest.approx(chain.success(uniform).item(), rel=1e-6)
    scale = torch.tensor([[0.0, 0.1], [1.0, 10.0]], dtype=F64)
    batch = chain.optimum(scale)
    assert batch.value.shape == (2, 2)
    one = chain.optimum(10.0)
    for part, whole in zip(one, batch, strict=True):
        torch.testing.assert_close(part, whole[1, 1])
    torch.testing.assert_close(batch.value, batch.success + scale * batch.entropy)
    assert (chain.optimum(torch.logspace(-3, 2, 30, dtype=F64)).success.diff() <= 1e-12).all()
