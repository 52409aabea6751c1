"""Masked discrete diffusion over plans: the network, its loss, decoding and inpainting.

The chapter 'Reflective planning' explains it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from mdtheory.checks import require_count, require_number

Order = Literal["confidence", "certainty", "random"]
Model = Callable[[Tensor, Tensor], Tensor]


class MaskedDenoiser(torch.nn.Module):
    """A small transformer that tells, for a partly masked plan, the law of each of its tokens.

    With ``copies`` every weight has a leading axis: independent networks, one slice a seed.

    Args:
        tokens: number of codes; the token with this number is the mask.
        condition: numbers in a row of the condition.
        width: of the rows inside.
        layers: number of blocks of attention and perceptron.
        length: tokens in a plan.
        heads: of the attention; they divide the width.
        copies: number of networks side by side; none is one network without that axis.
        generator: source of the weights; the network lives on its device. Without one the weights
            are the same every time.

    Raises:
        TypeError: a size that is no whole number.
        ValueError: a size below 1, or heads that do not divide the width.
    """

    def __init__(
        self,
        tokens: int,
        condition: int,
        width: int = 64,
        layers: int = 2,
        *,
        length: int = 16,
        heads: int = 4,
        copies: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        sizes = {"tokens": tokens, "condition": condition, "width": width, "layers": layers,
                 "length": length, "heads": heads}  # fmt: skip
        for name, size in sizes.items():
            require_count(name, size)
        if width % heads:
            raise ValueError(f"heads: expected a divisor of the width {width}, got {heads}")
        lead = () if copies is None else (require_count("copies", copies),)
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        self.mask, self.length, self.width, self.heads = tokens, length, width, heads

        def normal(scale: float, *shape: int) -> torch.nn.Parameter:
            drawn = torch.randn(*lead, *shape, generator=generator, device=generator.device)
            return torch.nn.Parameter(scale * drawn)

        def linear(name: str, inputs: int, outputs: int, gain: float = 1.0) -> None:
            self.register_parameter(f"{name}_weight", normal(gain / inputs**0.5, inputs, outputs))
            self.register_parameter(f"{name}_bias", normal(0.0, 1, outputs))

        # Codes are ordered: neighbours start out alike, as waves of several lengths see them.
        waves = _waves(tokens + 1, width, generator.device)
        self.embedding = torch.nn.Parameter(waves + normal(0.1, tokens + 1, width).detach())
        self.places = normal(0.5, length, width)
        linear("condition", condition, width)
        self.blocks = layers
        for layer in range(layers):
            linear(f"attend{layer}", width, 3 * width)
            linear(f"merge{layer}", width, width, layers**-0.5)
            linear(f"widen{layer}", width, 2 * width)
            linear(f"narrow{layer}", 2 * width, width, layers**-0.5)
        linear("out", width, tokens, 0.1)
        self.answer = torch.nn.Parameter(waves[:tokens].expand(*lead, tokens, width).clone())

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """Unnormalised log-probabilities of every token.

        Args:
            tokens: codes or masks, int64 ``(B, length)``; with copies ``(copies, B, length)``.
            condition: shape ``(B, rows, condition)``; with copies ``(copies, B, ...)``.

        Returns:
            Shape ``(B, length, codes)``, with copies one more axis.
        """
        if self.embedding.ndim == 2:
            own = self.embedding[tokens] + self.places
        else:
            copy = torch.arange(len(self.embedding), device=tokens.device)[:, None, None]
            own = self.embedding[copy, tokens] + self.places[:, None]
        rows = torch.cat([self._linear("condition", condition), own], -2)
        for layer in range(self.blocks):
            split = self._linear(f"attend{layer}", _norm(rows)).unflatten(-1, (3, self.heads, -1))
            q, k, v = (part.transpose(-3, -2) for part in split.unbind(-3))
            seen = functional.scaled_dot_product_attention(q, k, v)
            rows = rows + self._linear(f"merge{layer}", seen.transpose(-3, -2).flatten(-2))
            inner = functional.gelu(self._linear(f"widen{layer}", _norm(rows)))
            rows = rows + self._linear(f"narrow{layer}", inner)
        last = _norm(rows[..., condition.shape[-2] :, :])
        answer = self.answer.transpose(-2, -1)
        answer = answer if answer.ndim == 2 else answer[:, None]
        return self._linear("out", last) + last @ answer / self.width**0.5

    def _linear(self, name: str, rows: Tensor) -> Tensor:
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        if weight.ndim == 2:
            return torch.addmm(bias[0], rows.flatten(0, -2), weight).unflatten(0, rows.shape[:-1])
        flat = torch.baddbmm(bias, rows.flatten(1, -2), weight)
        return flat.unflatten(1, rows.shape[1:-1])


def _norm(rows: Tensor) -> Tensor:
    return functional.layer_norm(rows, rows.shape[-1:])


def _waves(codes: int, width: int, device: torch.device) -> Tensor:
    place = torch.arange(codes, dtype=torch.float32, device=device)[:, None] / codes
    pitch = 2 ** torch.linspace(0, 5, width // 2, device=device)
    both = [(math.pi * pitch * place).sin(), (math.pi * pitch * place).cos()]
    waves = torch.cat(both, -1)
    return functional.pad(waves, (0, width - waves.shape[-1]))


def masked_loss(
    model: MaskedDenoiser,
    tokens: Tensor,
    condition: Tensor,
    generator: torch.Generator,
    weighted: bool = False,
) -> Tensor:
    r"""One draw of the loss ``eq-masked-loss`` for each plan of a batch, averaged.

    A level :math:`u` is drawn uniformly from (0, 1], and every token is masked with this
    probability; the loss is what the model gives away on masked tokens,
    :math:`-\sum_i \log p_\theta(y_i \mid \tilde y, c)`, times :math:`1/u` if weighted.

    Args:
        model: tells the logits of tokens, and has ``mask``.
        tokens: plans, int64 ``(..., B, L)``.
        condition: shape ``(..., B, rows, condition)``.
        generator: source of the masks.
        weighted: whether to weigh by :math:`1/u`, which makes the mean a bound.

    Returns:
        Mean over the batch, shape ``(...)``: one number for each copy of the model.
    """
    device = tokens.device
    level = 1 - torch.rand(*tokens.shape[:-1], 1, generator=generator, device=device)
    masked = torch.rand(tokens.shape, generator=generator, device=device) < level
    logits = model(torch.where(masked, model.mask, tokens), condition)
    taken = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    lost = -(taken * masked).sum(-1)
    return (lost / level[..., 0] if weighted else lost).mean(-1)


def decode(
    model: MaskedDenoiser,
    condition: Tensor,
    steps: int = 5,
    temperature: float = 0.0,
    *,
    order: Order = "confidence",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Plans from nothing but masks, equation ``eq-reveal``.

    Args:
        model: tells the logits of tokens, and has ``mask`` and ``length``.
        condition: shape ``(..., B, rows, condition)``.
        steps: number of calls of the model, at least 1.
        temperature: as in :func:`inpaint`.
        order: as in :func:`inpaint`.
        generator: as in :func:`inpaint`.

    Returns:
        Codes, int64 ``(..., B, length)``.

    Raises:
        ValueError: as :func:`inpaint` does.
    """
    shape = (*condition.shape[:-2], model.length)
    masks = torch.full(shape, model.mask, device=condition.device)
    return inpaint(model, masks, condition, steps, temperature, order=order, generator=generator)


def inpaint(
    model: MaskedDenoiser,
    tokens: Tensor,
    condition: Tensor,
    steps: int = 1,
    temperature: float = 0.0,
    *,
    order: Order = "confidence",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Fill the masks of plans and leave the rest as it is, equation ``eq-reveal``.

    In call :math:`b` all masked tokens are proposed at once, and the best of them are kept, so
    that :math:`\lceil n b/B \rceil` of the :math:`n` masks are filled; ties go to the first.

    Args:
        model: tells the logits of tokens, and has ``mask``.
        tokens: codes and masks, int64 ``(..., B, L)``; nothing but the masks is changed.
        condition: shape ``(..., B, rows, condition)``.
        steps: :math:`B \ge 1`, number of calls of the model.
        temperature: 0 proposes the likeliest code; above 0 codes are drawn.
        order: which proposals are kept: ``"confidence"``: those that the model finds likeliest;
            ``"certainty"``: those at the tokens whose likeliest code is the most likely, whatever
            was drawn; ``"random"``: any.
        generator: for a positive temperature and for the random order.

    Returns:
        Codes, int64 ``(..., B, L)``, without masks.

    Raises:
        TypeError: steps that are no whole number.
        ValueError: no step, a negative temperature, another order, or no generator where one is
            needed.
    """
    require_count("steps", steps)
    require_number("temperature", temperature, 0.0)
    if order not in ("confidence", "certainty", "random"):
        raise ValueError(
            f"order: expected 'confidence', 'certainty' or 'random', got {order!r}"
        )  # fmt: skip
    if generator is None and (temperature > 0 or order == "random"):
        raise ValueError("generator: expected one for draws, got None")
    return fill(model, tokens, condition, steps, temperature, order, generator)


@torch.no_grad()
def fill(
    model: MaskedDenoiser, tokens: Tensor, condition: Tensor, steps: int, temperature: float,
    order: Order, generator: torch.Generator | None,
) -> Tensor:  # fmt: skip
    """As :func:`inpaint`, unchecked. The arguments are those of :func:`inpaint`.

    Returns:
        Codes, int64 ``(..., B, L)``, without masks.
    """
    tokens = tokens.clone()
    every = (tokens == model.mask).sum(-1, keepdim=True)
    for step in range(steps):
        masked = tokens == model.mask
        law = (model(tokens, condition) / (temperature or 1.0)).softmax(-1)
        if temperature > 0:
            # The largest of p / e with exponential e is a draw from p.
            noise = torch.empty_like(law).exponential_(generator=generator)
            proposed = (law / noise).argmax(-1)
        else:
            proposed = law.argmax(-1)
        if order == "random":
            rank = torch.rand(tokens.shape, generator=generator, device=tokens.device)
        elif order == "certainty":
            rank = law.amax(-1)
        else:
            rank = law.gather(-1, proposed[..., None])[..., 0]
        rank = torch.where(masked, rank, -1.0)
        place = rank.argsort(dim=-1, descending=True, stable=True).argsort(-1)
        wanted = (every * (step + 1) + steps - 1) // steps
        kept = masked & (place < wanted - (every - masked.sum(-1, keepdim=True)))
        tokens = torch.where(kept, proposed, tokens)
    return tokens


def train_denoiser(
    tokens: Tensor,
    condition: Tensor,
    generator: torch.Generator,
    *,
    codes: int,
    steps: int = 1000,
    batch: int = 128,
    width: int = 64,
    layers: int = 2,
    learning_rate: float = 3e-3,
    copies: int | None = None,
    weighted: bool = False,
) -> tuple[MaskedDenoiser, Tensor]:
    """A planner that has learned plans by filling masks.

    Args:
        tokens: plans shown, int64 ``(M, L)``, the same for all copies, which draw differently.
        condition: what each of them answered to, shape ``(M, rows, condition)``.
        generator: source of weights, masks and minibatches.
        codes: size of the vocabulary.
        steps: of AdamW, with a learning rate that rises and falls once.
        batch: plans in a step.
        width: of the network.
        layers: of the network.
        learning_rate: at its peak.
        copies: number of networks, as in :class:`MaskedDenoiser`.
        weighted: as in :func:`masked_loss`.

    Returns:
        The network, and its losses ``(steps, ...)``.

    Raises:
        ValueError: numbers of plans and conditions that differ, or sizes that are not positive.
    """
    if len(tokens) != len(condition):
        raise ValueError(f"condition: expected {len(tokens)} of them, got {len(condition)}")
    require_count("steps", steps)
    require_count("batch", batch)
    model = MaskedDenoiser(
        codes, condition.shape[-1], width, layers, length=tokens.shape[-1], copies=copies,
        generator=generator,
    )  # fmt: skip
    optimiser = torch.optim.AdamW(model.parameters(), learning_rate)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, steps)
    lead = () if copies is None else (copies,)
    losses = []
    for _ in range(steps):
        pick = torch.randint(
            len(tokens), (*lead, batch), generator=generator, device=tokens.device
        )  # fmt: skip
        loss = masked_loss(model, tokens[pick], condition[pick], generator, weighted)
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
        plan.step()
        losses.append(loss.detach())
    return model.requires_grad_(False), torch.stack(losses)
