"""Answers drawn from a policy and from its mixture with a reference, both with their caches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

from mdtheory.checks import require_count, require_integers, require_number, require_shape
from mdtheory.convex.mirror_maps import mixture
from mdtheory.nlhf.language_models.likelihoods import (
    accepted,
    at_least_single,
    inputs,
    positions,
)

# Makes the reference ready for a forward pass, and the policy ready again.
Reference = Callable[[], AbstractContextManager[Module]]


def sample_answers(
    model: Module,
    prompts: Tensor,
    prompt_mask: Tensor,
    count: int,
    new_tokens: int,
    *,
    ends: Iterable[int],
    generator: torch.Generator,
    temperature: float = 1.0,
    mixed: int = 0,
    reference: Module | Reference | None = None,
    weight: float = 0.0,
) -> Tensor:
    r"""Draw answers token by token: some from the policy, some from its mixture with a reference.

    All answers to all prompts are one batch with one cache a model. A prompt is read once, and its
    cache copied for its answers.

    Args:
        model: the policy, a causal language model, not training.
        prompts: tokens, shape ``(B, P)``, padded on the left.
        prompt_mask: 1 where there is a token, shape ``(B, P)``.
        count: answers of the policy to each prompt, at least 0.
        new_tokens: the longest answer, in tokens.
        ends: tokens that end an answer.
        generator: the source of chance, on the device of the prompts.
        temperature: by which logits are divided, above 0.
        mixed: answers of the mixture to each prompt.
        reference: the reference model, or what makes one ready; needed where the mixture has a
            part of it.
        weight: :math:`\beta` in [0, 1], the reference's weight in the mixture.

    Returns:
        Tokens, shape ``(B, count + mixed, new_tokens)``, those of the policy first; what follows
        the first end repeats it.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a shape or a range, no answers at all, or a mixture without a reference.
    """
    require_integers("prompts", prompts)
    require_shape("prompts", prompts, (*prompts.shape[:1], *prompts.shape[-1:]))
    require_shape("prompt_mask", prompt_mask, tuple(prompts.shape))
    heat = require_number("temperature", temperature, 0.0, strict=True)
    share = require_number("weight", weight, 0.0, maximum=1.0)
    own, other = require_count("count", count, 0), require_count("mixed", mixed, 0)
    if not own + other:
        raise ValueError("count, mixed: expected at least one answer to a prompt, got none")
    if other and share and reference is None:
        raise ValueError("reference: expected a model for the mixture, got None")
    final = torch.tensor(list(ends), device=prompts.device)
    length = require_count("new_tokens", new_tokens)
    ready = (lambda: nullcontext(reference)) if isinstance(reference, Module) else reference
    rows = _Rows(prompts, prompt_mask.bool(), own, other, length)
    with torch.inference_mode():
        found = _drawn(
            model, rows, final, generator, heat, ready if other and share else None, share
        )
    return found.clone()  # a tensor that may take part in a gradient


class _Rows(NamedTuple):
    """What is drawn for: prompts, how many answers of each kind, and how long they may be."""

    prompts: Tensor
    mask: Tensor
    own: int
    other: int
    length: int


def _drawn(
    model: Module,
    rows: _Rows,
    final: Tensor,
    generator: torch.Generator,
    heat: float,
    ready: Reference | None,
    share: float,
) -> Tensor:
    """The loop over tokens; ``ready`` only where the mixture has a part of the reference."""
    prompts, mask, own, other, length = rows
    each = own + other
    policy = _Decoder(model, prompts, mask, each, length)
    second = None
    if ready is not None:
        with ready() as base:
            second = _Decoder(base, prompts, mask, other, length)
    answers = prompts.new_zeros(len(prompts) * each, length)
    ended = torch.zeros_like(answers[:, 0], dtype=torch.bool)
    last = answers[:, 0]
    for place in range(length):
        law = policy.logits if heat == 1 else policy.logits / heat  # (B * each, V)
        if second is not None:
            law = law.unflatten(0, (-1, each))
            base_law = second.logits if heat == 1 else second.logits / heat
            blend = mixture(law[:, own:], base_law.unflatten(0, (-1, other)), share)
            law = torch.cat([law[:, :own], blend], 1).flatten(0, 1)
        drawn = torch.multinomial(law.softmax(-1), 1, generator=generator)[:, 0]
        last = torch.where(ended, last, drawn)
        answers[:, place] = last
        ended |= torch.isin(last, final)
        if place + 1 == length:
            break
        if bool(ended.all()):
            answers[:, place + 1 :] = last[:, None]
            break
        policy.read(model, last)
        if second is not None and ready is not None:
            with ready() as base:
                second.read(base, last.unflatten(0, (-1, each))[:, own:].flatten())
    return answers.unflatten(0, (-1, each))


class _Decoder:
    """One model's cache and its next logits, for some answers to each prompt."""

    def __init__(
        self, model: Module, prompts: Tensor, mask: Tensor, answers: int, length: int
    ) -> None:
        given = inputs(model, prompts, mask, positions(mask), 1)
        self.cache, self.logits = self._call(model, {**given, "use_cache": True})
        self.used = prompts.shape[1]
        if answers > 1:
            self.cache.batch_repeat_interleave(answers)
            self.logits = self.logits.repeat_interleave(answers, 0)
            mask = mask.repeat_interleave(answers, 0)
        self.next = mask.sum(-1, keepdim=True)  # the position of the next token
        grown = torch.ones(len(mask), length, dtype=torch.bool, device=mask.device)
        self.mask = torch.cat([mask, grown], 1).long()

    def read(self, model: Module, token: Tensor) -> None:
        """Go on by one token each."""
        self.used += 1
        given = inputs(model, token[:, None], self.mask[:, : self.used], self.next, 1)
        name = "cache" if "cache" in accepted(model) else "past_key_values"
        given |= {name: self.cache, "use_cache": True}
        self.cache, self.logits = self._call(model, given)
        self.next = self.next + 1

    def _call(self, model: Module, given: dict[str, Any]) -> tuple[Any, Tensor]:
        out = model(**given)
        cache = out.cache if "cache" in out else out.past_key_values
        return cache, at_least_single(out.logits[:, -1])
