"""One step of the optimiser on answers that were judged."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

from mdtheory.nlhf.language_models.likelihoods import log_probs_of
from mdtheory.nlhf.language_models.methods import METHODS, Batch, Settings
from mdtheory.nlhf.language_models.policies import Policies

BETAS = (0.9, 0.95)


class Drawn(NamedTuple):
    """Prompts ``(B, P)`` and their answers ``(B, n, N)``, each with its mask."""

    tokens: Tensor
    before: Tensor
    answers: Tensor
    during: Tensor


class Learning:
    """Scores answers under the policies of a run, and moves the weights.

    Args:
        policies: of the run.
        settings: likewise.
        accelerator: of ``accelerate``; with several processes it averages their gradients.
        products: makes the context in which models are called.
    """

    def __init__(
        self,
        policies: Policies,
        settings: Settings,
        accelerator: Any,
        products: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.policies, self.settings = policies, settings
        self.accelerator, self.products = accelerator, products
        self.method = METHODS[settings.loss]
        self.learner: Module = policies.policy
        if accelerator.num_processes > 1:
            self.learner = accelerator.prepare(self.learner)
        self.optimizer = torch.optim.AdamW(
            policies.trained, settings.learning_rate, betas=BETAS, weight_decay=0.0
        )

    def step(self, steps: int, drawn: Drawn, verdict: Tensor) -> dict[str, float]:
        """Move the weights once.

        Args:
            steps: those that were done before.
            drawn: answers.
            verdict: preferences ``(B, n, m)``, or rewards ``(B, n)``.

        Returns:
            What was seen, see :meth:`PreferenceTrainer.step`.

        Raises:
            ArithmeticError: the gradient is not finite.
        """
        settings, method = self.settings, self.method
        count, each = drawn.answers.shape[:2]
        lengths = drawn.during.sum(-1)
        longest = int(lengths.max())
        seen = drawn._replace(
            answers=drawn.answers[..., :longest], during=drawn.during[..., :longest]
        )
        parts = torch.arange(count, device=lengths.device).split(count // settings.accumulate)
        with torch.no_grad():
            with self.policies.reference() as base:
                bases = [self._score(base, seen, part) for part in parts]
            slows: list[Tensor | None] = [None] * len(parts)
            if method.averages and method.opponent is None:
                with self.policies.average() as slow:
                    slows = [self._score(slow, seen, part) for part in parts]
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate(steps)
        self.optimizer.zero_grad(set_to_none=True)
        total, ratio, entropy = 0.0, 0.0, 0.0
        for at, (part, reference, average) in enumerate(zip(parts, bases, slows, strict=True)):
            last = at + 1 == len(parts)
            with nullcontext() if last else self.accelerator.no_sync(self.learner):
                own = self._score(self.learner, seen, part)
                batch = Batch(own, reference, average, verdict[part].to(own.dtype))
                loss = method.loss(batch, settings).sum() / count
                loss.backward()
            total += loss.item()
            ratio += (own.detach() - reference).sum().item() / (count * each)
            entropy -= own.detach().sum().item() / (count * each)
        norm = torch.nn.utils.clip_grad_norm_(self.policies.trained, settings.clip)
        if not bool(norm.isfinite()):
            raise ArithmeticError(f"gradient: expected a finite norm in step {steps + 1}")
        self.optimizer.step()
        self.policies.move_average(settings.average)
        return {
            "loss": total,
            "reward" if method.rewards else "preferred": verdict.mean().item(),
            "kl": ratio,
            "entropy": entropy,
            "length": lengths.double().mean().item(),
            "gradient": norm.item(),
        }

    def _score(self, model: Module, drawn: Drawn, part: Tensor) -> Tensor:
        """Log-probabilities of the tokens of all answers to some of the prompts."""
        answers = drawn.answers[part]
        rows = part.repeat_interleave(answers.shape[1])
        with self.products():
            found = log_probs_of(
                model, drawn.tokens[rows], drawn.before[rows], answers.flatten(0, 1),
                drawn.during[part].flatten(0, 1), self.settings.sampling_temperature,
            )  # fmt: skip
        return found.unflatten(0, answers.shape[:2])
