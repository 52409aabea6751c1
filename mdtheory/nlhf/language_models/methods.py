"""The algorithms as parts: who answers, against whom, and which loss learns from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

from torch import Tensor

from mdtheory.checks import require_count, require_number
from mdtheory.nlhf.language_models.objectives import (
    ipo_loss,
    mirror_prox_loss,
    opponent_loss,
    pairs_loss,
    reward_loss,
    self_play_loss,
)
from mdtheory.nlhf.online_preference.losses import dpo_loss

PRECISIONS = ("auto", "bf16", "float32")


class Batch(NamedTuple):
    """What a loss sees: log-probabilities of tokens ``(B, n, N)``, and what the judge said.

    ``judged`` is a table of preferences, ``(B, n, m)`` or ``(B, n, n)``, or rewards ``(B, n)``.
    """

    log_probs: Tensor
    reference: Tensor
    average: Tensor | None
    judged: Tensor


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The numbers of a run, checked; :class:`PreferenceTrainer` says what they are."""

    loss: str = "nash-md"
    temperature: float = 0.1
    mixture: float = 0.25
    step_size: float = 2.0
    average: float = 0.05
    group: int = 4
    prompts_per_step: int = 8
    new_tokens: int = 64
    learning_rate: float = 1e-6
    max_steps: int = 100
    accumulate: int = 1
    sampling_temperature: float = 1.0
    precision: str = "auto"
    warmup: int = 0
    decay: float = 0.0
    clip: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("loss", "precision"):
            choices = tuple(METHODS) if name == "loss" else PRECISIONS
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name}: expected one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )
        pairs = self.loss in ("online-ipo", "ipo-md", "online-dpo")
        require_number("temperature", self.temperature, 0.0, strict=pairs)
        for name in ("mixture", "average", "decay"):
            require_number(name, getattr(self, name), 0.0, maximum=1.0)
        for name in ("step_size", "clip"):
            require_number(name, getattr(self, name), 0.0, strict=True, infinite=True)
        for name in ("learning_rate", "sampling_temperature"):
            require_number(name, getattr(self, name), 0.0, strict=True)
        for name in ("group", "prompts_per_step", "new_tokens", "max_steps", "accumulate"):
            require_count(name, getattr(self, name))
        for name in ("warmup", "seed"):
            require_count(name, getattr(self, name), 0)
        if self.prompts_per_step % self.accumulate:
            raise ValueError(
                f"accumulate: expected a divisor of prompts_per_step = {self.prompts_per_step}, "
                f"got {self.accumulate}"
            )

    def rate(self, step: int) -> float:
        """Learning rate of a step: up along a line, level, and down along a line at the end."""
        up = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        last = self.decay * self.max_steps
        down = min(1.0, (self.max_steps - step) / last) if last else 1.0
        return self.learning_rate * min(up, down)

    def identity(self) -> str:
        """What another run must have in common to go on with this one's checkpoint."""
        said = asdict(self)
        if not self.decay:  # then a run can be made longer
            del said["max_steps"]
        return ", ".join(f"{name} {value!r}" for name, value in said.items())


class Method(NamedTuple):
    """One algorithm.

    ``source`` says whose answers are learned from, ``opponent`` who gives others beside them;
    without an opponent, twice as many answers are compared among themselves.
    """

    words: str
    loss: Callable[[Batch, Settings], Tensor]
    source: str = "policy"
    opponent: str | None = None
    averages: bool = False
    rewards: bool = False


def _against(batch: Batch, settings: Settings) -> Tensor:
    return opponent_loss(batch.log_probs, batch.reference, batch.judged, settings.temperature)


def _self_play(batch: Batch, settings: Settings) -> Tensor:
    return self_play_loss(batch.log_probs, batch.reference, batch.judged, settings.temperature)


def _mirror_prox(batch: Batch, settings: Settings) -> Tensor:
    assert batch.average is not None
    return mirror_prox_loss(
        batch.log_probs, batch.reference, batch.average, batch.judged,
        settings.temperature, settings.step_size,
    )  # fmt: skip


def _ipo(batch: Batch, settings: Settings) -> Tensor:
    return ipo_loss(batch.log_probs, batch.reference, batch.judged, settings.temperature)


def _dpo(batch: Batch, settings: Settings) -> Tensor:
    return pairs_loss(
        dpo_loss, batch.log_probs, batch.reference, batch.judged, settings.temperature
    )


def _rlhf(batch: Batch, settings: Settings) -> Tensor:
    return reward_loss(batch.log_probs, batch.reference, batch.judged, settings.temperature)


METHODS: dict[str, Method] = {
    "nash-md": Method("Nash-MD-PG", _against, opponent="mixture"),
    "nash-ema": Method("Nash-EMA-PG", _against, opponent="average", averages=True),
    "self-play": Method("regularised self-play", _self_play),
    "mirror-prox": Method("mirror prox, practical version (ours)", _mirror_prox, averages=True),
    "online-ipo": Method("online IPO", _ipo),
    "ipo-md": Method("IPO-MD", _ipo, source="mixture"),
    "online-dpo": Method("online DPO", _dpo),
    "rlhf": Method("RLHF, leave-one-out baseline", _rlhf, rewards=True),
}
