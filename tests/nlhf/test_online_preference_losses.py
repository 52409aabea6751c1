"""Which losses stop at the equilibrium, lengths, and sequences: equality and mutants."""

import pytest
import torch

from mdtheory.nlhf import online_preference as op
from mdtheory.nlhf.nash_md import (
    PreferenceGame,
    best_response,
    magnetic_step,
    mixture,
    regularized_nash,
)
from mdtheory.sequences import SequenceSpace

F64 = torch.float64
TAU, ETA = 0.2, 0.5


def drawn(batch, n, seed, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(batch, n, n, generator=generator, dtype=F64)
    laws = torch.randn(3, batch, n, generator=generator, dtype=F64)
    return (noise + 1 - noise.mT) / 2, *(spread * laws).log_softmax(-1)


P, MU, PI, M = drawn(100, 5, 5)
NASH = regularized_nash(PreferenceGame(P, MU, TAU))
EVEN = torch.full((3,), 1 / 3, dtype=F64).log()
CYCLE = 0.5 + torch.tensor([[0.0, 1, -1], [-1, 0, 1], [1, -1, 0]], dtype=F64) / 18


def close(left, right, tolerance=1e-9):
    error = (left - right).abs() / torch.maximum(left.abs(), right.abs()).clamp(min=1)
    assert (error <= tolerance).all(), f"largest relative difference {error.max().item():.2e}"


def fails(check, *arguments):
    with pytest.raises(AssertionError):
        check(*arguments)


def slope(function, policy):
    logits = policy.clone().requires_grad_()
    return torch.autograd.grad(function(logits.log_softmax(-1)).sum(), logits)[0]


def gradients(preference, policy, reference):
    """The expected gradient of every loss at a policy that samples for itself."""
    won = (preference @ policy.exp()[..., None])[..., 0]
    liked = torch.ones_like(won, dtype=torch.bool)

    def pairs(loss, sampling=None):
        return slope(
            lambda p: op.expected_loss(
                PreferenceGame(preference, reference, TAU), loss, p, sampling
            ),
            policy,
        )

    def single(function):
        return slope(lambda p: (policy.exp() * function(p)).sum(-1), policy)

    def inpo(*arguments):
        return op.inpo_loss(*arguments, policy[..., :, None], policy[..., None, :], ETA)

    def soft(policy_):
        first, second = policy_[..., :, None], policy_[..., None, :]
        own, other = reference[..., :, None], reference[..., None, :]
        each = op.soft_label(op.ipo_loss, preference, first, second, own, other, TAU)
        share = policy.exp()
        return (share[..., :, None] * share[..., None, :] * each).sum((-2, -1))

    return {
        "ipo": pairs(op.ipo_loss),
        "contrast": pairs(op.ipo_contrast_loss),
        "soft": slope(soft, policy),
        "inpo": pairs(inpo),
        "dpo": pairs(op.dpo_loss),
        "slic": pairs(op.slic_loss),
        "sppo": single(lambda p: op.sppo_loss(p, policy, won, ETA)),
        "kto": single(
            lambda p: 2 * (
                won * op.kto_loss(p, reference, liked, TAU, 0.3)
                + (1 - won) * op.kto_loss(p, reference, ~liked, TAU, 0.3)
            )
        ),
    }  # fmt: skip


@pytest.mark.theorem("prop-which-losses", "equality")
@pytest.mark.parametrize("name", ["ipo", "contrast", "soft", "inpo"])
def test_these_stop_at_every_equilibrium(name):
    close(gradients(P, NASH, MU)[name], torch.zeros_like(NASH))


@pytest.mark.theorem("prop-which-losses", "equality")
def test_soft_labels_are_the_mean_of_hard_ones():
    found = gradients(P, PI, MU)
    close(found["soft"], found["ipo"])
    close(found["contrast"], TAU * found["ipo"])
    close(found["inpo"], (ETA * TAU) * found["ipo"])


@pytest.mark.theorem("prop-which-losses", "equality")
def test_the_gradients_of_the_others_at_the_equilibrium():
    found = gradients(P, NASH, MU)
    share, won = NASH.exp(), (P @ NASH.exp()[..., None])[..., 0]
    close(found["slic"], -4 * TAU * share * (won - 0.5))
    close(found["sppo"], -2 * ETA * share * (won - 0.5))
    value = (TAU * (NASH - MU - 0.3)).sigmoid()
    bend = value * (1 - value) * (2 * won - 1)
    bend = bend - (share * bend).sum(-1, keepdim=True)
    close(found["kto"], -2 * TAU * share * bend)


@pytest.mark.theorem("prop-which-losses", "equality")
@pytest.mark.parametrize("name", ["ipo", "inpo", "dpo", "slic", "sppo", "kto"])
def test_all_stop_where_the_equilibrium_is_the_reference(name):
    """By symmetry on the circle, and wherever the reference is an unregularised equilibrium."""
    close(gradients(CYCLE, EVEN, EVEN)[name], torch.zeros(3, dtype=F64))


@pytest.mark.theorem("prop-which-losses", "mutant")
@pytest.mark.parametrize("name", ["dpo", "slic", "sppo", "kto"])
def test_these_do_not_stop_at_the_equilibrium(name):
    found = gradients(P, NASH, MU)[name]
    fails(close, found, torch.zeros_like(found), 1e-4)
    assert (found.abs().amax(-1) > 1e-6).all()


@pytest.mark.theorem("prop-which-losses", "mutant")
def test_ipo_md_and_offline_ipo_do_not_either():
    for law in (mixture(NASH, MU, 0.125), M):
        found = op.ipo_gradient(PreferenceGame(P, MU, TAU), NASH, law)
        fails(close, found, torch.zeros_like(found), 1e-4)
        # They do where the law is as good an opponent.
    close(op.ipo_gradient(PreferenceGame(P, MU, TAU), NASH, NASH), torch.zeros_like(NASH))


# --------------------------------------------------------------------------------- prop-length


def divided(lengths):
    first, second = lengths[..., :, None], lengths[..., None, :]

    def loss(chosen, rejected, reference_chosen, reference_rejected, tau):
        return op.ipo_loss(
            chosen / first, rejected / second, reference_chosen / first,
            reference_rejected / second, tau,
        )  # fmt: skip

    return loss


def at(policy, lengths):
    return slope(
        lambda p: op.expected_loss(PreferenceGame(P, MU, TAU), divided(lengths), p, M), policy
    )


@pytest.mark.theorem("prop-length", "equality")
def test_with_one_length_it_is_a_lower_temperature():
    lengths = torch.full_like(MU, 4.0)
    close(at(best_response(PreferenceGame(P, MU, TAU / 4), M), lengths), torch.zeros_like(MU))


@pytest.mark.theorem("prop-length", "equality")
def test_with_several_lengths_the_minimiser_is_explicit():
    lengths = torch.arange(1, 6, dtype=F64).expand_as(MU)
    won = (P @ M.exp()[..., None])[..., 0] / TAU
    low, high = torch.full((100, 1), -99.0, dtype=F64), torch.full((100, 1), 99.0, dtype=F64)
    for _ in range(80):
        middle = (low + high) / 2
        big = (MU + lengths * (won + middle)).logsumexp(-1, keepdim=True) > 0
        low, high = torch.where(big, low, middle), torch.where(big, middle, high)
    found = MU + lengths * (won + middle)
    close(found.logsumexp(-1), torch.zeros(100, dtype=F64))
    close(at(found, lengths), torch.zeros_like(found))
    # No best response at a common temperature: the ratios of two pairs disagree.
    ratio = (found - MU) - (found - MU)[:, :1]
    temperature = (won - won[:, :1])[:, 1:] * TAU / ratio[:, 1:]
    assert ((temperature.amax(-1) - temperature.amin(-1)) > 1e-4).all()


@pytest.mark.theorem("prop-length", "mutant")
def test_the_best_response_is_not_stationary_then():
    lengths = torch.arange(1, 6, dtype=F64).expand_as(MU)
    for tau in (TAU, TAU / 3):
        found = at(best_response(PreferenceGame(P, MU, tau), M), lengths)
        fails(close, found, torch.zeros_like(found), 1e-2)


# ------------------------------------------------------------------------- prop-sequence-ipo

SPACE = SequenceSpace(3, 3)
SEED = torch.Generator().manual_seed(9)
LOGITS, OLD = torch.randn(2, 10, SPACE.prefixes, 3, generator=SEED, dtype=F64)
NOISE = torch.randn(10, 27, 27, generator=SEED, dtype=F64)
JUDGE = (3 * (NOISE - NOISE.mT)).sigmoid()
BASE = SPACE.log_probs(OLD)


def laws(logits, weight=0.5):
    tokens = SPACE.log_probs(SPACE.token_mixture(logits, OLD, weight))
    return {"whole": mixture(SPACE.log_probs(logits), BASE, weight), "tokens": tokens}


def enumerated(logits, law):
    free = logits.clone().requires_grad_()
    loss = op.expected_loss(
        PreferenceGame(JUDGE, BASE, TAU), op.ipo_loss, SPACE.log_probs(free), law
    )
    return torch.autograd.grad(loss.sum(), free)[0]


def by_scores(logits, coefficient):
    """The scores written out: each token less the law of its prefix, no differentiation."""
    chances, total = logits.softmax(-1), torch.zeros_like(logits)
    for number, sequence in enumerate(SPACE.sequences.tolist()):
        row, start, width = 0, 0, 1
        for token in sequence:
            score = -chances[:, start + row]
            score[:, token] += 1
            total[:, start + row] += coefficient[:, number, None] * score
            row, start, width = row * 3 + token, start + width, width * 3
    return total


def coefficient(law, centre=True):
    ratio = SPACE.log_probs(LOGITS) - BASE
    if centre:
        ratio = ratio - (law.exp() * ratio).sum(-1, keepdim=True)
    won = (JUDGE @ law.exp()[..., None])[..., 0]
    return -4 / TAU * law.exp() * (won - 0.5 - TAU * ratio)


@pytest.mark.theorem("prop-sequence-ipo", "equality")
@pytest.mark.parametrize("kind", ["whole", "tokens"])
def test_the_policy_gradient_is_that_of_full_enumeration(kind):
    law = laws(LOGITS)[kind]
    exact = enumerated(LOGITS, law)
    close(by_scores(LOGITS, coefficient(law)), exact)
    free = LOGITS.clone().requires_grad_()
    close(
        op.score_gradient(PreferenceGame(JUDGE, BASE, TAU), SPACE.log_probs(free), free, law), exact
    )


def limit(kind):
    now, step = BASE, 0.2 / (0.8 * 0.1)
    for _ in range(300):
        now = magnetic_step(
            PreferenceGame(JUDGE, BASE, 0.1), now, laws(SPACE.logits(now))[kind], step
        )
    return now, laws(SPACE.logits(now))[kind]


@pytest.mark.theorem("prop-sequence-ipo", "equality")
def test_the_mixture_of_whole_sequences_ends_at_the_higher_temperature():
    now, law = limit("whole")
    close(SPACE.log_probs(SPACE.logits(now)), now)
    close(law, regularized_nash(PreferenceGame(JUDGE, BASE, 0.2)), 1e-8)
    now, law = limit("tokens")
    close(now, best_response(PreferenceGame(JUDGE, BASE, 0.1), law), 1e-8)


@pytest.mark.theorem("prop-sequence-ipo", "mutant")
@pytest.mark.parametrize("kind", ["whole", "tokens"])
def test_without_the_centring_it_is_not(kind):
    law = laws(LOGITS)[kind]
    wrong = by_scores(LOGITS, coefficient(law, centre=False))
    fails(close, wrong, enumerated(LOGITS, law), 1e-3)


@pytest.mark.theorem("prop-sequence-ipo", "mutant")
def test_the_mixture_of_tokens_ends_elsewhere():
    off = (
        (limit("tokens")[1].exp() - regularized_nash(PreferenceGame(JUDGE, BASE, 0.2)).exp())
        .abs()
        .sum(-1)
    )
    assert (off > 1e-3).all()
