"""Training in a chain of locks: seeds and modes apart, what each mode does to the gradient."""

import math

import pytest
import torch

from mdtheory.rl.entropy import LockChain, Mode, TokenPolicy, train_multi_turn
from mdtheory.rl.entropy import training as tr

F64 = torch.float64
SMALL = {"turns": 6, "locks": 2, "groups": 4, "group": 4, "width": 8}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def runs_of(modes, seeds=3, turns=6, locks=2, seed=0):
    g = generator(seed)
    world = LockChain(seeds, turns, locks, g, verbs=2, objects=3)
    return tr._Run(world, modes, 8, g), g


def test_the_record_has_its_shape_and_is_sensible():
    record = train_multi_turn([Mode(), Mode(0.05)], 3, 4, generator=generator(), **SMALL)
    for part in record:
        assert part.shape == (4, 2, 3)
    assert record.reference[0].isnan().all()
    torch.testing.assert_close(record.reference[1], record.entropy[0])
    torch.testing.assert_close(record.reference[3], record.entropy[:3].mean(0))
    assert ((record.success >= 0) & (record.success <= 1)).all()
    # All modes of a seed begin alike.
    assert torch.equal(record.success[0, 0], record.success[0, 1])
    assert torch.equal(record.rewarded[0, 0], record.rewarded[0, 1])


def test_it_learns():
    g = generator()
    world = LockChain(4, 6, 2, g, verbs=2, objects=3)
    record = train_multi_turn(
        [Mode(0.01)], 4, 60, generator=g, world=world, learning_rate=0.02, width=16
    )
    assert record.success[0].mean() < 0.35
    assert record.success[-1].min() > 0.7
    assert record.entropy[-1].mean() < record.entropy[0].mean()


def test_references():
    past = [torch.full((3, 2), float(k)) for k in range(14)]
    modes = [Mode(reference=name) for name in tr.REFERENCES]
    assert tr._reference([], modes) is None
    found = tr._reference(past, modes)
    assert found[:, 0].tolist() == [6.5, 8.5, 2.0]
    assert tr._reference(past[:3], modes)[:, 1].tolist() == [1.0, 1.0, 1.0]


def test_play_follows_the_world_and_the_policy():
    run, g = runs_of([Mode(), Mode(0.1)])
    batch = run.play(5, 3, g)
    assert batch.tokens.shape == (2, 3, 15, 6, 2)
    context = batch.context[..., 0]
    over = torch.zeros_like(context, dtype=torch.bool)
    tables = run.tables()
    for turn in range(6):
        assert torch.equal(batch.mask[..., turn], ~over)
        assert torch.equal(batch.context[..., turn], context)
        said = batch.tokens[..., turn, :]
        for mode, seed, k in ((0, 1, 4), (1, 2, 14)):
            at, (verb, item) = context[mode, seed, k], said[mode, seed, k].tolist()
            expected = torch.stack(
                [tables[0][mode, seed, verb, at], tables[1][mode, seed, item, verb, at]]
            )
            torch.testing.assert_close(batch.log_prob[mode, seed, k, turn], expected.detach())
        context, won = run.world.step(context, said[..., 0] * 3 + said[..., 1])
        over = over | won
    assert torch.equal(batch.reward > 0, over)
    # A group has one goal.
    first = batch.context[..., 0].unflatten(-1, (5, 3))
    assert (first == first[..., :1]).all()
    torch.testing.assert_close(tr._log_probs(tables, batch), batch.log_prob)


def test_entropies_of_tokens():
    run, g = runs_of([Mode()])
    batch = run.play(2, 2, g)
    first, second = run.tables()
    found = tr._entropies([first, second], batch)
    at = batch.context[0, 1, 3, 2]
    verb = batch.tokens[0, 1, 3, 2, 0]
    law = first[0, 1, :, at]
    assert found[0, 1, 3, 2, 0].item() == pytest.approx(-(law.exp() * law).sum().item(), abs=1e-6)
    law = second[0, 1, :, verb, at]
    assert found[0, 1, 3, 2, 1].item() == pytest.approx(-(law.exp() * law).sum().item(), abs=1e-6)


def test_frequencies_are_those_of_the_policy():
    g = generator(5)
    world = LockChain(1, 1, 1, g, goals=1, verbs=2, objects=3)
    run = tr._Run(world, [Mode()], 8, g)
    for network in (run.policy.trunk, *run.policy.heads):
        for p in network.parameters:
            p.data.normal_(generator=g)
    batch = run.play(1, 40000, g)
    first, second = run.tables()
    joint = (first[:, :, None] + second)[0, 0, ..., 0].exp().T.flatten()
    pair = batch.tokens[0, 0, :, 0, 0] * 3 + batch.tokens[0, 0, :, 0, 1]
    share = torch.bincount(pair, minlength=6) / 40000
    torch.testing.assert_close(share, joint.detach(), atol=0.012, rtol=0)


def test_a_row_is_that_of_a_loop():
    run, g = runs_of([Mode()])
    batch = run.play(4, 4, g)
    row = run.measure(batch, None)
    each = tr._entropies(run.tables(), batch).mean(-1)
    there = batch.mask
    torch.testing.assert_close(row[1][0, 1], each[0, 1][there[0, 1]].mean())
    part = there[0, 1].clone()
    part[:, 2:] = False
    torch.testing.assert_close(row[2][0, 1], each[0, 1][part].mean())
    part = there[0, 1].clone()
    part[:, :4] = False
    torch.testing.assert_close(row[3][0, 1], each[0, 1][part].mean())


def gradients(run, batch, reference, weight=1.7):
    """Of one step, before Adam: what `learn` leaves in the parameters, norm clipped."""
    run.learn(batch, reference, weight, 4, 1, 1e-9, 0.2)
    return [p.grad.unflatten(0, run.shape).clone() for p in run.policy.parameters]


def test_the_indicator_trains_as_the_plain_bonus():
    modes = [Mode(0.05), Mode(0.05, 0.5, kind="indicator"), Mode(0.05, 0.5)]
    run, g = runs_of(modes)
    batch = run.play(4, 4, g)
    reference = run.measure(batch, None)[1] / 2  # all tokens are above the roof
    for part in gradients(run, batch, reference):
        torch.testing.assert_close(part[0], part[1], rtol=1e-6, atol=1e-9)
        assert not torch.allclose(part[0], part[2], rtol=1e-3, atol=0)
    record = train_multi_turn(modes[:2], 3, 6, generator=generator(), **SMALL)
    torch.testing.assert_close(record.entropy[:, 0], record.entropy[:, 1], rtol=1e-4, atol=1e-5)


def test_a_corridor_that_holds_all_entropies_is_none():
    """A roof of twice the mean is above the largest entropy while the mean is above half of it."""
    modes = [Mode(0.02), Mode(0.02, 0.1, 0.0, 2.0)]
    record = train_multi_turn(modes, 3, 6, generator=generator(), **SMALL)
    assert (2 * record.reference[1:] > math.log(8)).all()
    torch.testing.assert_close(record.entropy[:, 0], record.entropy[:, 1], rtol=1e-4, atol=1e-5)


def test_silence_is_the_bonus_alone():
    """Too few turns for the locks: no reward, and the step is that of the entropies."""
    run, g = runs_of([Mode(0.05), Mode(0.0)], turns=1, locks=2)
    batch = run.play(4, 4, g)
    assert not batch.reward.any()
    found = gradients(run, batch, None)
    for part in found:
        assert (part[1] == 0).all()  # GRPO alone does not move at all
    bonus = tr._entropies(run.tables(), batch).mean((-3, -2, -1))[0]
    exact = torch.autograd.grad(-0.05 * bonus.sum(), run.policy.parameters)
    for part, other in zip(found, exact, strict=True):
        torch.testing.assert_close(part[0], other.unflatten(0, run.shape)[0], rtol=1e-3, atol=1e-7)


def test_modes_and_seeds_are_runs_of_their_own():
    """Each run has the gradient that it has without the others."""
    modes = [Mode(0.02), Mode(0.1, 2.0, 0.9, 0.95)]
    run, g = runs_of(modes)
    batch = run.play(4, 4, g)
    reference = run.measure(batch, None)[1] * torch.tensor([[1.0], [0.5]])
    together = gradients(run, batch, reference)
    for k, mode in enumerate(modes):
        alone, g = runs_of([mode])
        # The same numbers: each mode of a seed has the first weights of that seed.
        part = tr.Batch(*(x[k : k + 1] for x in batch))
        for ours, theirs in zip(gradients(alone, part, reference[k : k + 1]), together,
                                strict=True):  # fmt: skip
            torch.testing.assert_close(ours[0], theirs[k], rtol=1e-4, atol=1e-7)


def test_the_rate_scales_adams_step():
    run, g = runs_of([Mode(), Mode(rate=3.0)])
    batch = run.play(8, 4, g)
    batch = batch._replace(reward=(torch.arange(32) % 2).float().expand(2, 3, 32))
    before = [p.detach().clone().unflatten(0, run.shape) for p in run.policy.parameters]
    run.learn(batch, None, 1.0, 4, 1, 0.01, 0.2)
    after = [p.detach().unflatten(0, run.shape) for p in run.policy.parameters]
    moved = [b - a for a, b in zip(before, after, strict=True)]
    for part in moved:
        torch.testing.assert_close(part[1], 3 * part[0], rtol=1e-3, atol=1e-6)
    assert max(part[0].abs().max() for part in moved) == pytest.approx(0.01, rel=1e-2)


def test_the_surrogate_is_ppos():
    ratio = torch.tensor([0.5, 0.9, 1.0, 1.1, 1.5], dtype=F64)
    plus, minus = (tr.clipped_surrogate(ratio.log(), torch.tensor(a), 0.2) for a in (1.0, -1.0))
    torch.testing.assert_close(plus, torch.tensor([0.5, 0.9, 1.0, 1.1, 1.2], dtype=F64))
    torch.testing.assert_close(minus, -torch.tensor([0.8, 0.9, 1.0, 1.1, 1.5], dtype=F64))


def test_one_token_a_turn():
    policy = TokenPolicy(2, 3, 4, [5], 8, generator())
    (table,) = policy.tables(torch.randn(6, 7, 4, generator=generator(1)))
    assert table.shape == (6, 5, 7)
    torch.testing.assert_close(table.exp().sum(1), torch.ones(6, 7))


def test_two_tokens_are_a_law_of_pairs():
    policy = TokenPolicy(2, 1, 4, [3, 5], 8, generator())
    x = torch.randn(2, 7, 4, generator=generator(1))
    first, second = policy.tables(x)
    assert second.shape == (2, 5, 3, 7)
    torch.testing.assert_close((first[:, None] + second).exp().sum((1, 2)), torch.ones(2, 7))
    # The second head sees the hidden units and which token came first.
    hidden = policy.trunk(x).tanh()
    one = torch.eye(3)[1].expand(2, 7, 3)
    logits = policy.heads[1](torch.cat([hidden, one], -1))
    torch.testing.assert_close(second[:, :, 1].mT, logits.log_softmax(-1))
