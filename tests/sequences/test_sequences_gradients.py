"""One policy gradient in its three forms, against scores that are written out."""

import math

import pytest
import torch

from mdtheory import sequences as sq
from tests.refused import close, fails

F64 = torch.float64
SHAPES = [(3, 3), (2, 4), (5, 1)]


def case(vocabulary, length, *batch, seed=0):
    space = sq.SequenceSpace(vocabulary, length)
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*batch, *shape, generator=generator, dtype=F64)

    logits, cost = draw(space.prefixes, vocabulary), draw(space.count, length)
    return space, logits, draw(space.count), cost, generator


def written_out(space, logits, weight):
    """Each token less the law of its prefix, sequence by sequence, without a derivative."""
    chances, total = logits.softmax(-1), torch.zeros_like(logits)
    for number, sequence in enumerate(space.sequences.tolist()):
        inside, start = 0, 0
        for place, token in enumerate(sequence):
            score = -chances[..., start + inside, :]
            score[..., token] += 1
            total[..., start + inside, :] += weight[..., number, place, None] * score
            inside, start = inside * space.vocabulary + token, start + space.vocabulary**place
    return total


def by_hand(gain, cost, credit):
    """The weights of the scores, token by token."""
    table = gain[..., None].repeat(*[1] * gain.ndim, cost.shape[-1])
    for n in range(cost.shape[-1]):
        counted = {"to-go": slice(n, None), "sequence": slice(None), "local": slice(n, n + 1)}
        table[..., n] -= cost[..., counted[credit]].sum(-1)
    return table


@pytest.mark.parametrize(("vocabulary", "length"), SHAPES)
def test_weighted_scores_are_those_that_are_written_out(vocabulary, length):
    space, logits, gain, weight, _ = case(vocabulary, length, 2, 3)
    close(space.weighted_scores(logits, weight), written_out(space, logits, weight))
    one = gain[..., None]
    same = one.expand(weight.shape)
    close(space.weighted_scores(logits, one), written_out(space, logits, same))
    # One table of weights for many policies, and the other way round.
    many = space.weighted_scores(logits, weight[0, 0])
    close(many[1, 2], space.weighted_scores(logits[1, 2], weight[0, 0]))
    many = space.weighted_scores(logits[0, 0], weight)
    close(many[1, 2], space.weighted_scores(logits[0, 0], weight[1, 2]))


@pytest.mark.parametrize("credit", sq.CREDITS)
def test_gains_of_tokens(credit):
    _, _, gain, cost, _ = case(3, 3, 4)
    close(sq.token_gains(gain, cost, credit), by_hand(gain, cost, credit))
    assert torch.equal(sq.token_gains(gain), gain[..., None])


@pytest.mark.parametrize("credit", sq.CREDITS)
@pytest.mark.parametrize(("vocabulary", "length"), SHAPES)
def test_the_exact_gradient_is_the_mean_of_the_estimate(vocabulary, length, credit):
    space, logits, gain, cost, _ = case(vocabulary, length, 2)
    found = sq.exact_gradient(space, logits, gain, cost, credit)
    weight = space.log_probs(logits).exp()[..., None] * by_hand(gain, cost, credit)
    close(found, written_out(space, logits, weight))
    # And the loss that a network would be trained by has it too.
    leaf = logits.clone().requires_grad_()
    each = sq.reinforce_surrogate(space.token_log_probs(leaf), gain, cost, credit)
    value = (space.log_probs(logits).exp() * each).sum()
    close(torch.autograd.grad(value, leaf)[0], found)


@pytest.mark.parametrize("credit", ["to-go", "sequence"])
def test_it_is_the_gradient_of_the_objective(credit):
    """Whose costs may come from the policy itself; the biased credit is found out."""
    space, logits, gain, cost, generator = case(3, 3, 5)
    shape = (space.prefixes, 3)
    reference = space.token_log_probs(torch.randn(5, *shape, generator=generator, dtype=F64))
    # What a token costs is known from its prefix and itself, so it is a table over prefixes.
    cost = space.token_log_probs(torch.randn(5, *shape, generator=generator, dtype=F64))
    leaf = logits.clone().requires_grad_()
    tokens = space.token_log_probs(leaf)
    law = tokens.sum(-1)
    for paid, total in (
        (cost, cost.sum(-1)),
        (0.3 * (tokens.detach() - reference), 0.3 * (law - reference.sum(-1))),
    ):
        value = (law.exp() * (gain - total)).sum()
        [exact] = torch.autograd.grad(value, leaf, retain_graph=True)
        found = sq.exact_gradient(space, logits, gain, paid, credit)
        close(found, exact)
        wrong = sq.exact_gradient(space, logits, gain, paid, "local")
        fails(close, wrong, exact, tolerance=1e-3, true=(found, exact))


@pytest.mark.parametrize("credit", sq.CREDITS)
def test_samples_give_the_gradient_of_the_mean_of_the_losses(credit):
    space, logits, gain, cost, generator = case(3, 3, 2)
    drawn = space.sample(logits, 50, generator)
    won = gain.gather(-1, drawn)
    paid = cost.gather(-2, drawn[..., None].expand(2, 50, 3))
    leaf = logits.clone().requires_grad_()
    tokens = space.token_log_probs(leaf).gather(-2, drawn[..., None].expand(2, 50, 3))
    each = sq.reinforce_surrogate(tokens, won, paid, credit)
    [exact] = torch.autograd.grad(each.mean(-1).sum(), leaf)
    close(sq.sampled_gradient(space, logits, drawn, won, paid, credit), exact)
    # Without costs every credit is the same.
    plain = sq.sampled_gradient(space, logits, drawn, won, credit=credit)
    close(plain, sq.sampled_gradient(space, logits, drawn, won, 0 * paid))


def test_every_sequence_once_is_the_exact_gradient_of_the_uniform_policy():
    space, logits, gain, cost, _ = case(3, 3)
    uniform = torch.zeros_like(logits)
    drawn = torch.arange(space.count)
    close(
        sq.sampled_gradient(space, uniform, drawn, gain, cost),
        sq.exact_gradient(space, uniform, gain, cost),
    )


def test_only_the_scores_are_differentiated():
    space, logits, gain, _, _ = case(3, 2)
    leaf = logits.clone().requires_grad_()
    tokens = space.token_log_probs(leaf)
    law = tokens.sum(-1).exp().detach()
    with_graph = sq.reinforce_surrogate(tokens, gain * leaf.sum(), tokens - 1)
    held = sq.reinforce_surrogate(tokens, gain * logits.sum(), tokens.detach() - 1)
    [found] = torch.autograd.grad((law * with_graph).sum(), leaf, retain_graph=True)
    [plain] = torch.autograd.grad((law * held).sum(), leaf, retain_graph=True)
    assert torch.equal(found, plain)
    assert not sq.exact_gradient(space, leaf, gain, tokens).requires_grad
    drawn = torch.arange(space.count)
    assert not sq.sampled_gradient(space, leaf, drawn, gain, tokens).requires_grad


# ------------------------------------------------------------------------- tokens that were drawn


def test_tokens_of_a_table_are_those_of_a_policy_of_any_kind():
    """The rows of the table stand for what a network says after each prefix."""
    space, logits, _, _, generator = case(3, 3)
    drawn = space.sample(logits, 40, generator)
    rows, number = [], torch.zeros_like(drawn)
    for place in range(3):
        rows.append((3**place - 1) // 2 + number)
        number = 3 * number + space.sequences[drawn, place]
    said = logits[torch.stack(rows, -1)]
    found = sq.token_log_probs(said, space.sequences[drawn])
    assert torch.equal(found, space.token_log_probs(logits)[drawn])


def test_what_is_masked_is_never_read():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 5, 3, generator=generator, dtype=F64)
    tokens = torch.randint(3, (4, 5), generator=generator)
    mask = torch.arange(5) < torch.tensor([5, 3, 1, 0])[:, None]
    plain = sq.token_log_probs(logits, tokens)
    close(sq.token_log_probs(logits, tokens, mask), plain * mask)
    spoiled = logits.masked_fill(~mask[..., None], math.nan).requires_grad_()
    found = sq.token_log_probs(spoiled, tokens.masked_fill(~mask, -100), mask)
    close(found, plain * mask)
    [slope] = torch.autograd.grad(found.sum(), spoiled)
    leaf = logits.clone().requires_grad_()
    [exact] = torch.autograd.grad((sq.token_log_probs(leaf, tokens) * mask).sum(), leaf)
    close(slope, exact)
    # An illegal token has logit -inf and probability 0; the others share what is left.
    illegal = torch.tensor([[0.0, 0.0, -math.inf]], dtype=F64)
    assert sq.token_log_probs(illegal, torch.tensor([1])).item() == pytest.approx(-math.log(2))


# ------------------------------------------------------------------------------------- refusals

SPACE, LOGITS, GAIN, COST, _ = case(3, 2)
DRAWN = torch.tensor([0, 4])
TOKENS = torch.tensor([0, 2, 1])
SAID = torch.zeros(3, 3, dtype=F64)
REFUSALS = {
    "an unknown credit": (lambda: sq.token_gains(GAIN, COST, "half"), ValueError, "credit"),
    "a gain of one sequence": (lambda: sq.token_gains(GAIN[0], COST), ValueError, "cost"),
    "a gain that is no number": (lambda: sq.token_gains(GAIN * math.nan), ValueError, "gain"),
    "a cost of another kind": (lambda: sq.token_gains(GAIN, COST.float()), TypeError, "cost"),
    "an infinite cost": (lambda: sq.token_gains(GAIN, COST / 0), ValueError, "cost"),
    "losses: a gain a token": (
        lambda: sq.reinforce_surrogate(COST, COST), ValueError, "gain",
    ),
    "losses: tokens of probability 0": (
        lambda: sq.reinforce_surrogate(COST - math.inf, GAIN), ValueError, "token_log_probs",
    ),
    "exact: a batch that the policy lacks": (
        lambda: sq.exact_gradient(SPACE, LOGITS, GAIN.expand(2, -1)), ValueError, "gain",
    ),
    "exact: costs of sequences": (
        lambda: sq.exact_gradient(SPACE, LOGITS, GAIN, GAIN), ValueError, "cost",
    ),
    "exact: gains of another kind": (
        lambda: sq.exact_gradient(SPACE, LOGITS, GAIN.float()), TypeError, "gain",
    ),
    "samples: gains of all sequences": (
        lambda: sq.sampled_gradient(SPACE, LOGITS, DRAWN, GAIN), ValueError, "gain",
    ),
    "samples: a sequence that is none": (
        lambda: sq.sampled_gradient(SPACE, LOGITS, DRAWN + 5, GAIN[:2]), ValueError, "drawn",
    ),
    "samples: no integers": (
        lambda: sq.sampled_gradient(SPACE, LOGITS, GAIN[:2], GAIN[:2]), TypeError, "drawn",
    ),
    "scores: weights of prefixes": (
        lambda: SPACE.weighted_scores(LOGITS, LOGITS), ValueError, "weight",
    ),
    "scores: weights of another kind": (
        lambda: SPACE.weighted_scores(LOGITS, COST.float()), TypeError, "weight",
    ),
    "tokens: no integers": (
        lambda: sq.token_log_probs(SAID, TOKENS.double()), TypeError, "tokens",
    ),
    "tokens: one outside": (lambda: sq.token_log_probs(SAID, TOKENS + 1), ValueError, "tokens"),
    "tokens: too few": (lambda: sq.token_log_probs(SAID, TOKENS[:2]), ValueError, "tokens"),
    "tokens: no truth values": (
        lambda: sq.token_log_probs(SAID, TOKENS, TOKENS), TypeError, "mask",
    ),
    "tokens: a mask of another shape": (
        lambda: sq.token_log_probs(SAID, TOKENS, TOKENS[:2] > 0), ValueError, "mask",
    ),
    "tokens: no number": (
        lambda: sq.token_log_probs(SAID * math.nan, TOKENS), ValueError, "logits",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name):
    call, error, argument = REFUSALS[name]
    with pytest.raises(error, match=f"^{argument}: expected"):
        call()
