"""Language models that read answers and judge them, fitted to labelled pairs."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.nn import Module, functional

from mdtheory.checks import require_count, require_number
from mdtheory.files import write_atomically
from mdtheory.nlhf.language_models.judging import Texts
from mdtheory.nlhf.language_models.likelihoods import bare, positions
from mdtheory.nlhf.language_models.loading import (
    Source,
    load_model,
    load_tokenizer,
    local_path,
    no_bars,
)

# What a labelled pair must have.
FIELDS = ("prompt", "first", "second", "label")
Kind = TypeVar("Kind", bound="Reader")


class Reader(Module):
    """A causal language model with a linear head on the last token, and its fit to labelled pairs.

    Args:
        backbone: a causal language model, or where to find one; it is trained, too.
        tokenizer: of ``transformers``, or where to find it; by default beside the backbone.
        form: the text that is read.

    Raises:
        TypeError: a model that is an object, without a tokenizer.
        ValueError: a form without one of its parts, or a tokenizer without a token for pads.
    """

    parts: tuple[str, ...]

    def __init__(self, backbone: Source | Module, tokenizer: Any, form: str) -> None:
        super().__init__()
        for part in self.parts:
            if part not in form:
                raise ValueError(f"form: expected a text with {part}, got {form!r}")
        if tokenizer is None:
            if isinstance(backbone, Module):
                raise TypeError("tokenizer: expected one with a model that is an object, got None")
            tokenizer = backbone
        paths = isinstance(tokenizer, str | Path)
        self.tokenizer = load_tokenizer(tokenizer) if paths else tokenizer
        self.form = form
        self.backbone = cast(Any, load_model(backbone))
        weights: Tensor = self.backbone.get_input_embeddings().weight
        self.head = torch.nn.Linear(
            weights.shape[-1], 1, bias=False, device=weights.device,
            dtype=torch.promote_types(weights.dtype, torch.float32),
        )  # fmt: skip
        torch.nn.init.zeros_(self.head.weight)  # every pair is even until something is learned
        end = self.tokenizer.eos_token_id
        self.pad = self.tokenizer.pad_token_id if end is None else end
        if self.pad is None:
            raise ValueError("tokenizer: expected a pad or an end-of-sequence token, got neither")

    @abstractmethod
    def logits(self, prompts: Texts, first: Texts, second: Texts) -> Tensor:
        """Log-odds that the first answers are preferred, shape ``(pairs,)``, with a graph."""
        ...

    def scores(self, **parts: Texts) -> Tensor:
        """What the head says of texts of the form, shape ``(texts,)``, with a graph.

        Args:
            **parts: the texts that stand in each place of the form.

        Returns:
            One number a text.

        Raises:
            ValueError: a text that is longer than the model reads.
        """
        texts = []
        for values in zip(*parts.values(), strict=True):
            text = self.form
            for name, value in zip(parts, values, strict=True):
                text = text.replace(f"{{{name}}}", value)
            texts.append(text)
        rows = [torch.tensor(row) for row in self.tokenizer(texts)["input_ids"]]
        longest = max(map(len, rows))
        most = getattr(self.backbone.config, "max_position_embeddings", None)
        if most is not None and longest > most:
            raise ValueError(
                f"{', '.join(parts)}: expected at most {most} tokens together, got {longest}"
            )
        device = self.head.weight.device
        tokens = torch.full((len(rows), longest), int(self.pad))
        mask = torch.zeros_like(tokens)
        for at, row in enumerate(rows):
            tokens[at, longest - len(row) :] = row
            mask[at, longest - len(row) :] = 1
        tokens, mask = tokens.to(device), mask.to(device)
        body: Any = bare(self.backbone).base_model  # without the layer that makes logits of tokens
        out = body(
            input_ids=tokens, attention_mask=mask, position_ids=positions(mask), use_cache=False
        )
        found: Tensor = self.head(out.last_hidden_state[:, -1].to(self.head.weight.dtype))
        return found[:, 0]

    def fit(
        self,
        pairs: Sequence[Mapping[str, Any]],
        generator: torch.Generator,
        *,
        epochs: int = 1,
        batch: int = 32,
        learning_rate: float = 1e-5,
        weight_decay: float = 0.01,
    ) -> list[float]:
        """Fit it to labelled pairs, by AdamW on the cross-entropy.

        Args:
            pairs: each with ``prompt``, ``first``, ``second`` and ``label``, the probability that
                the first is preferred, or 0 or 1.
            generator: source of the order, on the CPU.
            epochs: how often every pair is seen.
            batch: pairs of a step.
            learning_rate: of AdamW, falling to 0 along a line.
            weight_decay: likewise.

        Returns:
            The loss of each step, in nats.

        Raises:
            TypeError: a pair of another kind.
            ValueError: no pairs, one without a field, or a label outside [0, 1].
        """
        for at, pair in enumerate(pairs):
            require_pair(pair, f"pairs[{at}]")
        if not pairs:
            raise ValueError("pairs: expected at least one pair, got none")
        size, rounds = require_count("batch", batch), require_count("epochs", epochs)
        rate = require_number("learning_rate", learning_rate, 0.0, strict=True)
        optimizer = torch.optim.AdamW(self.parameters(), rate, weight_decay=weight_decay)
        steps = rounds * -(-len(pairs) // size)
        losses: list[float] = []
        for _ in range(rounds):
            for chosen in torch.randperm(len(pairs), generator=generator).split(size):
                picked = [pairs[k] for k in chosen.tolist()]
                prompts, first, second, label = ([pair[f] for pair in picked] for f in FIELDS)
                logit = self.logits(prompts, first, second)
                wanted = torch.tensor(label, dtype=logit.dtype, device=logit.device)
                loss = functional.binary_cross_entropy_with_logits(logit, wanted)
                optimizer.param_groups[0]["lr"] = rate * (1 - len(losses) / steps)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        return losses

    def save(self, path: str | Path) -> None:
        """Write model, head and tokenizer into a folder, which :meth:`load` reads.

        Args:
            path: the folder.
        """
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        with no_bars():
            self.backbone.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        head = {"kind": type(self).__name__, "form": self.form, "head": self.head.weight.tolist()}
        write_atomically(folder / "reader.json", json.dumps(head))

    @classmethod
    def load(cls: type[Kind], path: str | Path) -> Kind:
        """What :meth:`save` has written.

        Args:
            path: the folder.

        Returns:
            The model.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: it holds none of this kind.
        """
        folder = local_path("path", Path(path))
        said = {}
        if folder is not None and (folder / "reader.json").is_file():
            said = json.loads((folder / "reader.json").read_text("utf-8"))
        if said.get("kind") != cls.__name__:
            raise ValueError(f"path: expected a folder of {cls.__name__}.save, got {folder}")
        model = cls(folder, form=said["form"])  # type: ignore[arg-type, call-arg]
        with torch.no_grad():
            model.head.weight.copy_(torch.tensor(said["head"]))
        return model


class PreferenceModel(Reader):
    r"""A language model reads a prompt and two answers, and says which one is preferred.

    A linear head on the last token gives :math:`f(y, y')`, and :math:`P(y \succ y') =
    \sigma\bigl((f(y, y') - f(y', y))/2\bigr)`: the two orders sum to 1 whatever the weights are,
    and circles are no obstacle. It is :class:`~mdtheory.nlhf.reward_models.NeuralPreference` on
    texts.

    Args:
        backbone: a causal language model, or where to find one; it is trained, too.
        tokenizer: of ``transformers``, or where to find it; by default beside the backbone.
        form: the text that is read, with ``{prompt}``, ``{first}`` and ``{second}``.

    Raises:
        TypeError: a model that is an object, without a tokenizer.
        ValueError: a form without one of its parts, or a tokenizer without a token for pads.
    """

    antisymmetric = True
    parts = ("{prompt}", "{first}", "{second}")

    def __init__(
        self,
        backbone: Source | Module,
        tokenizer: Any = None,
        *,
        form: str = "{prompt}\n\nFirst: {first}\n\nSecond: {second}\n\nBetter:",
    ) -> None:
        super().__init__(backbone, tokenizer, form)

    def logits(self, prompts: Texts, first: Texts, second: Texts) -> Tensor:
        """Log-odds that the first answers are preferred; exchanging them changes the sign.

        Args:
            prompts: one text a pair.
            first: answers.
            second: answers.

        Returns:
            Shape ``(pairs,)``, with a graph.

        Raises:
            ValueError: a text that is longer than the model reads.
        """
        found = self.scores(
            prompt=[*prompts, *prompts], first=[*first, *second], second=[*second, *first]
        )
        ahead, behind = found.split(len(first))
        return (ahead - behind) / 2

    @torch.no_grad()
    def forward(self, prompts: Texts, first: Texts, second: Texts, rows: int = 64) -> Tensor:
        r"""Preferences, as a judge.

        Args:
            prompts: one text a pair.
            first: answers.
            second: answers.
            rows: pairs that are read at once.

        Returns:
            :math:`P(y \succ y')`, shape ``(pairs,)``.

        Raises:
            ValueError: as :meth:`logits`.
        """
        parts = [
            self.logits(prompts[at : at + rows], first[at : at + rows], second[at : at + rows])
            for at in range(0, len(first), rows)
        ]
        return torch.cat(parts).sigmoid()


class RewardModel(Reader):
    r"""A language model reads a prompt and an answer, and gives a reward: Bradley and Terry's.

    Fitted by :math:`P(y \succ y') = \sigma(r(y) - r(y'))`. ``Rewards(model.rewards)`` is a judge.

    Args:
        backbone: as in :class:`PreferenceModel`.
        tokenizer: likewise.
        form: the text that is read, with ``{prompt}`` and ``{answer}``.

    Raises:
        TypeError: as :class:`PreferenceModel`.
        ValueError: likewise.
    """

    parts = ("{prompt}", "{answer}")

    def __init__(
        self,
        backbone: Source | Module,
        tokenizer: Any = None,
        *,
        form: str = "{prompt}\n\nAnswer: {answer}\n\nReward:",
    ) -> None:
        super().__init__(backbone, tokenizer, form)

    def logits(self, prompts: Texts, first: Texts, second: Texts) -> Tensor:
        """Log-odds that the first answers are preferred.

        Args:
            prompts: one text a pair.
            first: answers.
            second: answers.

        Returns:
            Shape ``(pairs,)``, with a graph.

        Raises:
            ValueError: a text that is longer than the model reads.
        """
        found = self.scores(prompt=[*prompts, *prompts], answer=[*first, *second])
        one, other = found.split(len(first))
        return one - other

    @torch.no_grad()
    def rewards(self, prompts: Texts, answers: Texts, rows: int = 64) -> Tensor:
        """Rewards of answers.

        Args:
            prompts: one text an answer.
            answers: texts.
            rows: answers that are read at once.

        Returns:
            Shape ``(answers,)``.

        Raises:
            ValueError: as :meth:`logits`.
        """
        parts = [
            self.scores(prompt=prompts[at : at + rows], answer=answers[at : at + rows])
            for at in range(0, len(answers), rows)
        ]
        return torch.cat(parts)


def require_pair(pair: object, name: str) -> None:
    """Refuse what is no labelled pair.

    Args:
        pair: what came.
        name: what it is, for the message.

    Raises:
        TypeError: no mapping, or texts that are none.
        ValueError: a field that is missing, or a label outside [0, 1].
    """
    if not isinstance(pair, Mapping):
        raise TypeError(f"{name}: expected fields {', '.join(FIELDS)}, got {type(pair).__name__}")
    missing = [field for field in FIELDS if field not in pair]
    if missing:
        raise ValueError(f"{name}: expected fields {', '.join(FIELDS)}, got none of {missing}")
    for field in FIELDS[:3]:
        if not isinstance(pair[field], str):
            raise TypeError(f"{name}: expected a text as {field}, got {pair[field]!r:.60}")
    require_number(f"{name}: label", pair["label"], 0.0, maximum=1.0)
