"""Log-probabilities of answers under a causal language model, and mixtures of two models."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from mdtheory.checks import (
    require_integers,
    require_number,
    require_same_kind,
    require_scale,
    require_shape,
    require_tensor,
    require_values,
)
from mdtheory.convex.mirror_maps import mixture
from mdtheory.sequences import token_log_probs


def at_least_single(logits: Tensor) -> Tensor:
    """In float32 or wider: half precision is for matrix products only.

    Args:
        logits: floating-point numbers of any shape.

    Returns:
        The same numbers.
    """
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def geometric_mixture(logits: Tensor, reference_logits: Tensor, weight: float | Tensor) -> Tensor:
    r"""Next token's law :math:`\propto \pi^{1-\beta}\mu^{\beta}`, from the logits of both models.

    Equation ``eq-token-mixture``; :func:`~mdtheory.convex.mirror_maps.mixture` is the same for
    log-probabilities. Logits need no normalisation first: a constant changes nothing.

    Args:
        logits: those of :math:`\pi`, shape ``(..., V)``.
        reference_logits: those of :math:`\mu`, likewise.
        weight: :math:`\beta` in [0, 1], the *reference's* weight: 0 is the policy. A number, or a
            tensor of the batch's shape.

    Returns:
        Log-probabilities ``(..., V)``, in float32 or wider.

    Raises:
        TypeError: no floating-point tensors of one dtype.
        ValueError: shapes that differ, a NaN, or a weight outside [0, 1].

    Source:
        Munos et al. (2024), section 7.
    """
    own = at_least_single(require_tensor("logits", logits))
    require_same_kind("reference_logits", require_tensor("reference_logits", reference_logits),
                      "logits", logits)  # fmt: skip
    require_shape("reference_logits", reference_logits, tuple(logits.shape))
    for name, value in (("logits", logits), ("reference_logits", reference_logits)):
        require_values(name, value, ~value.isnan(), "logits without a NaN")
    share = require_scale(
        "weight", weight, own, own.shape[:-1], maximum=1.0, widens=False, trailing=1
    )
    return mixture(own, at_least_single(reference_logits), share)


def answer_mask(answers: Tensor, ends: Iterable[int]) -> Tensor:
    """Which tokens belong to an answer: those up to and with the first that ends it.

    Only answers are looked at. A prompt may hold the token too, as chat templates do.

    Args:
        answers: tokens, integers of shape ``(..., N)``.
        ends: the tokens that end an answer.

    Returns:
        Truth values ``(..., N)``; all true where no token ends the answer.

    Raises:
        TypeError: answers that are no integers.
    """
    require_integers("answers", answers)
    ended = torch.isin(answers, torch.tensor(list(ends), device=answers.device))
    return ended.cumsum(-1) - ended.long() == 0


def positions(mask: Tensor) -> Tensor:
    """Positions of tokens behind their left pads, 0 for the pads.

    Args:
        mask: true where there is a token, shape ``(rows, L)``.

    Returns:
        Integers ``(rows, L)``.
    """
    return (mask.long().cumsum(-1) - 1).clamp_min(0)


def sequence_log_probs(
    model: Module,
    prompts: Tensor,
    prompt_mask: Tensor,
    answers: Tensor,
    answer_mask: Tensor,
    *,
    temperature: float = 1.0,
) -> Tensor:
    r"""Log-probability of each token of answers under a causal language model.

    Left pads of the prompts are neither attended to nor counted in positions, so that a prompt has
    the same answers with and without them. Their sum over tokens is that of the answer.

    Args:
        model: of ``transformers``: called with ``input_ids``, ``attention_mask`` and what else it
            takes, it returns ``logits``.
        prompts: tokens, shape ``(rows, P)``, padded on the **left**.
        prompt_mask: 1 where there is a token, shape ``(rows, P)``.
        answers: tokens, shape ``(rows, N)``, padded on the right with any token.
        answer_mask: true where a token belongs to the answer, shape ``(rows, N)``.
        temperature: at which answers are drawn, above 0: of the law that is scored.

    Returns:
        :math:`\log\pi(y_n \mid x, y_{<n})`, shape ``(rows, N)``, 0 where masked; float32 or wider.

    Raises:
        TypeError: tokens that are no integers, or masks without truth values.
        ValueError: shapes that differ, pads on the wrong side, or a NaN from the model.
    """
    require_integers("prompts", prompts)
    require_integers("answers", answers)
    rows = prompts.shape[0]
    for name, tokens in (("prompts", prompts), ("answers", answers)):
        require_shape(name, tokens, (rows, *tokens.shape[-1:]))
        if not tokens.shape[1]:
            raise ValueError(f"{name}: expected at least one token a row, got none")
    before, during = _mask("prompt_mask", prompt_mask), _mask("answer_mask", answer_mask)
    require_shape("prompt_mask", prompt_mask, tuple(prompts.shape))
    require_shape("answer_mask", answer_mask, tuple(answers.shape))
    words = "a token of the prompt in the last place, and pads on the left alone"
    require_values("prompt_mask", before[:, -1], before[:, -1], words)
    require_values("prompt_mask", before, before[:, 1:] | ~before[:, :-1], words)
    words = "the answer's tokens first, and pads on the right alone"
    require_values("answer_mask", during, during[:, :-1] | ~during[:, 1:], words)
    heat = require_number("temperature", temperature, 0.0, strict=True)
    return log_probs_of(model, prompts, before, answers, during, heat)


def log_probs_of(
    model: Module, prompts: Tensor, before: Tensor, answers: Tensor, during: Tensor, heat: float
) -> Tensor:
    """What :func:`sequence_log_probs` returns, for arguments that are known to be right.

    Args:
        model: as there.
        prompts: likewise.
        before: its ``prompt_mask``, truth values.
        answers: likewise.
        during: its ``answer_mask``, truth values.
        heat: its ``temperature``.

    Returns:
        Shape ``(rows, N)``.
    """
    count = answers.shape[1]
    mask = torch.cat([before, during], 1)
    given = inputs(model, torch.cat([prompts, answers], 1), mask, positions(mask), count + 1)
    logits = at_least_single(model(use_cache=False, **given).logits[:, -count - 1 : -1])
    return token_log_probs(logits if heat == 1 else logits / heat, answers, during)


def inputs(
    model: Module, tokens: Tensor, mask: Tensor, places: Tensor, kept: int
) -> dict[str, Any]:
    """The arguments of a call, of those which this model takes.

    Args:
        model: a causal language model, wrapped or not.
        tokens: shape ``(rows, L)``.
        mask: true where a token is attended to, shape ``(rows, all so far)``.
        places: positions, shape ``(rows, L)``.
        kept: of how many of the last tokens the logits are needed.

    Returns:
        Arguments by name.
    """
    given: dict[str, Any] = {"input_ids": tokens, "attention_mask": mask.long()}
    known = accepted(model)
    if "position_ids" in known:
        given["position_ids"] = places
    if "logits_to_keep" in known:  # the logits of a prompt are never made
        given["logits_to_keep"] = kept
    return given


def bare(model: Any) -> Module:
    """The model inside the wrappers of ``accelerate`` and ``peft``."""
    while True:
        if hasattr(model, "get_base_model"):
            model = model.get_base_model()
        elif isinstance(getattr(model, "module", None), Module):
            model = model.module
        else:
            return model


def accepted(model: Module) -> frozenset[str]:
    """Names of the arguments that a model takes, inside its wrappers."""
    return _arguments(type(bare(model)).forward)


@functools.cache
def _arguments(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def _mask(name: str, value: object) -> Tensor:
    """Truth values, or the 0 and 1 of tokenizers."""
    if not isinstance(value, Tensor) or value.dtype not in (torch.bool, torch.int64, torch.int32):
        came = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{name}: expected truth values, or integers 0 and 1, got {came}")
    require_values(name, value, (value == 0) | (value == 1), "0 or 1")
    return value.bool()
