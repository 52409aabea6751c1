"""Models so small that all their answers are listed: 3 tokens, one of which ends an answer of at
most 3."""

from functools import cached_property

import pytest
import torch
from torch import Tensor

from mdtheory.nlhf.language_models import answer_mask, geometric_mixture, sequence_log_probs

transformers = pytest.importorskip("transformers")

END, LONGEST, TAU, WEIGHT = 2, 3, 0.3, 0.25
IDS = {"bos_token_id": 0, "eos_token_id": END, "pad_token_id": END}


def gpt2(seed, vocabulary=3, dtype=torch.float64, **settings):
    """A random GPT-2 of two layers; its weights are large, so that laws are far from uniform."""
    sizes = {"n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.6}
    config = transformers.GPT2Config(vocab_size=vocabulary, **{**IDS, **sizes, **settings})
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed)
        return transformers.GPT2LMHeadModel(config).eval().to(dtype)


def llama(seed, vocabulary=3, dtype=torch.float64):
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, initializer_range=0.6, **IDS,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed)
        return transformers.LlamaForCausalLM(config).eval().to(dtype)


def all_answers() -> Tensor:
    """Every answer, filled up with the token that ends it."""
    found = []

    def grow(start):
        if len(start) == LONGEST or END in start:
            found.append(start + [END] * (LONGEST - len(start)))
            return
        for token in range(3):
            grow([*start, token])

    grow([])
    return torch.tensor(found)


ANSWERS = all_answers()
MASK = answer_mask(ANSWERS, [END])
PROMPT, BEFORE = torch.tensor([[0, 0, 1, 0]]), torch.tensor([[0, 0, 1, 1]])  # two left pads


def scores(model, *, prompt=PROMPT, before=BEFORE, mask=MASK, temperature=1.0) -> Tensor:
    """Log-probabilities of the tokens of all answers, ``(answers, LONGEST)``."""
    rows = len(ANSWERS)
    return sequence_log_probs(
        model, prompt.expand(rows, -1), before.expand(rows, -1), ANSWERS, mask,
        temperature=temperature,
    )  # fmt: skip


@torch.no_grad()
def next_logits(model) -> Tensor:
    """Logits of the token in each place of all answers, ``(answers, LONGEST, 3)``."""
    rows = len(ANSWERS)
    tokens = torch.cat([PROMPT[:, 2:].expand(rows, -1), ANSWERS], 1)
    return model(input_ids=tokens).logits[:, 1:-1]


class World:
    """A policy, its reference, an average, preferences and rewards, with all laws exact."""

    def __init__(self, make=gpt2, seed=1):
        self.policy, self.reference, self.average = (make(seed + k) for k in range(3))
        g = torch.Generator().manual_seed(seed)
        raw = torch.rand(len(ANSWERS), len(ANSWERS), generator=g, dtype=torch.float64)
        self.preference = 0.5 + (raw - raw.mT) / 2
        self.reward = torch.randn(len(ANSWERS), generator=g, dtype=torch.float64)
        self.parameters = list(self.policy.parameters())

    @cached_property
    def own(self):
        return scores(self.policy)

    @cached_property
    def base(self):
        return scores(self.reference).detach()

    @cached_property
    def slow(self):
        return scores(self.average).detach()

    @cached_property
    def law(self):
        return self.own.sum(-1).exp()

    @cached_property
    def mixed(self):
        """The mixture's law, token by token."""
        blend = geometric_mixture(next_logits(self.policy), next_logits(self.reference), WEIGHT)
        return (blend.gather(-1, ANSWERS[..., None])[..., 0] * MASK).sum(-1).exp()

    def gradient(self, value) -> Tensor:
        parts = torch.autograd.grad(value, self.parameters, retain_graph=True)
        return torch.cat([part.flatten() for part in parts])

    def divergence(self, other) -> Tensor:
        return (self.law * (self.own.sum(-1) - other.sum(-1))).sum()

    def against(self, opponent, tau=TAU) -> Tensor:
        """Gradient of the objective against a fixed opponent, differentiated as it is written."""
        won = (self.law * (self.preference @ opponent)).sum()
        return -self.gradient(won - tau * self.divergence(self.base))

    def expected(self, loss, law) -> Tensor:
        """Mean gradient of a loss of groups of two, over all pairs of answers drawn from a law."""
        count = len(ANSWERS)
        first = torch.arange(count).repeat_interleave(count)
        both = torch.stack([first, torch.arange(count).repeat(count)], -1)  # (pairs, 2)
        chance = law[both].prod(-1).detach()
        return self.gradient((chance * loss(both)).sum())

    def drawn(self, loss, law=None) -> Tensor:
        """Mean gradient of a loss of single answers, over those of the policy or of a law."""
        chance = (self.law if law is None else law).detach()
        return self.gradient((chance * loss).sum())

    def table(self, both) -> Tensor:
        """Preferences within groups, ``(groups, 2, 2)``."""
        return self.preference[both[:, :, None], both[:, None, :]]


def apart(one, other) -> float:
    """Relative distance."""
    return ((one - other).norm() / other.norm()).item()


def cosine(one, other) -> float:
    return (one @ other / one.norm() / other.norm()).item()
