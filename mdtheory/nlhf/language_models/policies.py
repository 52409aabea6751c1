"""A policy with its reference and its slow average, full or as adapters."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from mdtheory.checks import require_extra
from mdtheory.nlhf.language_models.loading import adapters_off

# Of LoRA; what is given takes precedence.
ADAPTERS = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}


class Policies:
    """The models of a run: which weights are trained, and how to become the other policies.

    Args:
        model: the policy, trained in place.
        reference: another model, or nothing: then it is a frozen copy of the policy as it comes,
            with the adapters that it carries; or the policy without its adapters, if it is here
            that it is given some.
        lora: settings of ``peft.LoraConfig``, or nothing to train what the model lets be trained.
        averages: whether a slow average of the weights is kept.
        generator: source of the adapters' first weights, on the CPU.

    Raises:
        ImportError: the extra ``llm`` is not installed.
        TypeError: ``lora`` is no mapping.
        ValueError: adapters for a model which has some, or nothing to train.
    """

    def __init__(
        self,
        model: Module,
        reference: Module | None,
        lora: Mapping[str, Any] | None,
        *,
        averages: bool,
        generator: torch.Generator,
    ) -> None:
        self.without_adapters = lora is not None and reference is None
        if lora is not None:
            model = with_adapters(model, lora, generator)
        elif reference is None:
            reference = copy.deepcopy(model)
        if reference is model:
            raise ValueError("reference: expected another object than the model, which is trained")
        self.policy = model
        self.base = None if reference is None else reference.requires_grad_(False).eval()
        self.trained: list[Tensor] = [
            weights for weights in model.parameters() if weights.requires_grad
        ]
        if not self.trained:
            raise ValueError("model: expected weights that can be trained, got none")
        self.slow: list[Tensor] | None = (
            [weights.detach().clone() for weights in self.trained] if averages else None
        )

    def reference(self) -> AbstractContextManager[Module]:
        """The reference, ready for a forward pass; afterwards the policy is."""
        return adapters_off(self.policy) if self.base is None else nullcontext(self.base)

    @contextmanager
    def average(self) -> Iterator[Module]:
        """The policy with its averaged weights; afterwards with its own."""
        assert self.slow is not None
        own = [weights.data for weights in self.trained]
        try:
            for weights, slow in zip(self.trained, self.slow, strict=True):
                weights.data = slow
            yield self.policy
        finally:
            for weights, data in zip(self.trained, own, strict=True):
                weights.data = data

    @torch.no_grad()
    def move_average(self, share: float) -> None:
        """Let the average go a share of the way to the weights, equation ``eq-ema``."""
        if self.slow is not None:
            for slow, weights in zip(self.slow, self.trained, strict=True):
                slow.lerp_(weights, share)

    def state(self) -> dict[str, list[Tensor]]:
        """The weights that change."""
        return {"trained": [w.detach() for w in self.trained], "average": self.slow or []}

    @torch.no_grad()
    def restore(self, state: Mapping[str, list[Tensor]]) -> None:
        """Take weights from :meth:`state`."""
        pairs: list[tuple[Tensor, Tensor]] = [*zip(self.trained, state["trained"], strict=True)]
        pairs += zip(self.slow or [], state["average"], strict=True)
        for weights, saved in pairs:
            weights.copy_(saved)


def with_adapters(model: Module, lora: Mapping[str, Any], generator: torch.Generator) -> Module:
    """A model with low-rank adapters, which alone are trained; at first they change nothing.

    Args:
        model: a causal language model without adapters.
        lora: settings of ``peft.LoraConfig``; what is left out is as ``ADAPTERS`` says.
        generator: source of the first weights, on the CPU.

    Returns:
        The model of ``peft``.

    Raises:
        ImportError: the extra ``llm`` is not installed.
        TypeError: ``lora`` is no mapping.
        ValueError: the model has adapters, or a setting that ``peft`` does not know.
    """
    peft = require_extra("peft", "llm")
    if not isinstance(lora, Mapping):
        raise TypeError(f"lora: expected settings by name, got {type(lora).__name__}")
    if hasattr(model, "peft_config"):
        raise ValueError("lora: expected None for a model which carries adapters")
    try:
        config = peft.LoraConfig(task_type="CAUSAL_LM", **{**ADAPTERS, **lora})
        with warnings.catch_warnings():
            # It mends a setting and says so, and asks transformers by an old name.
            warnings.filterwarnings("ignore", message="fan_in_fan_out")
            warnings.filterwarnings("ignore", category=FutureWarning)
            adapted: Module = peft.get_peft_model(model, config).eval()
    except (TypeError, ValueError) as error:
        raise ValueError(f"lora: expected settings of peft.LoraConfig ({error})") from error
    for name, weights in adapted.named_parameters():
        if weights.requires_grad and ".lora_A." in name:  # peft drew them from the global source
            first = torch.empty(weights.shape)
            torch.nn.init.kaiming_uniform_(first, 5**0.5, generator=generator)
            weights.data.copy_(first)
    return adapted
