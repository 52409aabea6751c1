"""The memory of a run, counted before it is started."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import Module

from mdtheory.checks import require_count, require_extra

# Bytes of an optimiser's state for each trained weight, in float32.
STATES = {"adamw": 8, "sgd": 0}


def memory_bytes(
    config: Any,
    rows: int,
    prompt: int,
    new_tokens: int,
    lora_rank: int | None = None,
    optimizer: str = "adamw",
    *,
    half: bool = True,
) -> dict[str, int]:
    r"""Bytes that a run needs in each process, but for activations and what libraries keep.

    Weights that are trained are float32, with their gradients and two averages of AdamW; where
    products are in bf16, a copy in bf16 stands beside them (``casts``). The reference is a
    second model, in the numbers of the first. With adapters the model is frozen and in bf16, and is
    its own reference. The caches are those of Nash-MD-PG, the most that any of the algorithms
    needs: all answers of the policy and its mixture, and the mixture's half under the reference.

    Args:
        config: of a causal language model of ``transformers``.
        rows: answers of a step that are drawn at once, those of the opponent too.
        prompt: tokens of the longest prompt.
        new_tokens: of the longest answer.
        lora_rank: rank of adapters on all linear layers but the last, or nothing to train all
            weights.
        optimizer: ``"adamw"``, or ``"sgd"`` without a state.
        half: whether products are in bf16, as on CUDA.

    Returns:
        Bytes of ``weights``, ``casts``, ``reference``, ``gradients``, ``optimizer``, ``cache`` and
        ``logits`` (one copy in float32 of the logits of ``rows`` answers; their backward pass has
        a second one, and parts, ``accumulate``, divide both), and their sum as ``total``.

    Raises:
        ImportError: the extra ``llm`` is not installed.
        TypeError: counts that are no whole numbers.
        ValueError: counts below 1, or an optimiser that is not known.
    """
    if optimizer not in STATES:
        raise ValueError(f"optimizer: expected one of {', '.join(STATES)}, got {optimizer!r}")
    answers, length = require_count("rows", rows), require_count("new_tokens", new_tokens)
    tokens = require_count("prompt", prompt) + length
    with torch.device("meta"):
        model = require_extra("transformers", "llm").AutoModelForCausalLM.from_config(config)
    whole = sum(weight.numel() for weight in model.parameters())
    small = 2 if half else 4
    if lora_rank is None:
        trained, weights, casts, reference = whole, 4 * whole, 2 * whole if half else 0, 4 * whole
    else:
        trained = adapter_weights(model, require_count("lora_rank", lora_rank))
        weights, casts, reference = small * whole + 4 * trained, 2 * trained if half else 0, 0
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    each = 2 * config.num_hidden_layers * shared * width * small
    found = {
        "weights": weights,
        "casts": casts,
        "reference": reference,
        "gradients": 4 * trained,
        "optimizer": STATES[optimizer] * trained,
        "cache": (answers + answers // 2) * tokens * each,
        "logits": 4 * answers * (length + 1) * config.vocab_size,
    }
    return found | {"total": sum(found.values())}


def adapter_weights(model: Module, rank: int) -> int:
    """How many weights adapters of a rank have, on all linear layers but that of the logits.

    Args:
        model: a causal language model, on any device.
        rank: of the adapters.

    Returns:
        The count.
    """
    last = getattr(model, "get_output_embeddings", lambda: None)()
    linear = [
        module.weight
        for module in model.modules()
        if module is not last and type(module).__name__ in ("Linear", "Conv1D")
    ]
    return sum(rank * sum(weight.shape) for weight in linear if isinstance(weight, torch.Tensor))
