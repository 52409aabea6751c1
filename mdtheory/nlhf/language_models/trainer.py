"""The trainer: draw answers, let them be judged, learn from it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from mdtheory.checks import require_count, require_extra
from mdtheory.nlhf.language_models.intervals import Interval, clopper_pearson
from mdtheory.nlhf.language_models.judging import (
    Judge,
    Rewards,
    judged,
    rewards_of,
    table_between,
    table_within,
)
from mdtheory.nlhf.language_models.learning import Drawn, Learning
from mdtheory.nlhf.language_models.likelihoods import answer_mask
from mdtheory.nlhf.language_models.loading import (
    Prompt,
    Prompts,
    Source,
    load_model,
    load_tokenizer,
    model_path,
    no_bars,
)
from mdtheory.nlhf.language_models.logbook import Logbook
from mdtheory.nlhf.language_models.methods import METHODS, Settings
from mdtheory.nlhf.language_models.policies import Policies
from mdtheory.nlhf.language_models.sampling import sample_answers

# What a stream of chance is for; each step of each process has its own.
SAMPLES, ORDER, ADAPTERS, SHOWN, WINS = range(5)


class PreferenceTrainer:
    r"""Align a causal language model of ``transformers`` with preferences.

    One step: draw ``group`` answers to each prompt and as many of the opponent (or twice as many,
    to be compared among themselves); let all pairs be judged; take one step of AdamW on the loss.
    The algorithms are those of the earlier chapters: ``"nash-md"``, ``"nash-ema"``,
    ``"self-play"``, ``"mirror-prox"`` (a practical version, ours), ``"online-ipo"``,
    ``"ipo-md"``, ``"online-dpo"``, and ``"rlhf"`` with a reward as their rival. No dropout
    is used, and answers are drawn from the law that is scored.

    Started by ``accelerate launch`` it shares the work: every process draws and judges answers to
    its own ``prompts_per_step`` prompts, and gradients are averaged.

    Args:
        model: the policy: a folder, a GGUF file, a name, or a model, which is trained in place.
        preference: who judges: a function of prompts, first and second answers that returns
            probabilities in [0, 1] that the first is preferred (asked in both orders), a
            :class:`PreferenceModel`, or :class:`Rewards`.
        prompts: texts, or turns of conversations.
        tokenizer: of ``transformers`` or where to find it; by default beside the model.
        reference: :math:`\mu`, like ``model``; by default a frozen copy of the policy, and with
            ``lora`` the policy without its adapters.
        loss: the algorithm.
        temperature: :math:`\tau`, the weight of the divergence to the reference.
        mixture: :math:`\beta` in [0, 1], the reference's weight in the opponent of ``"nash-md"``
            and in what ``"ipo-md"`` draws from.
        step_size: :math:`\gamma` of ``"mirror-prox"``; infinite for self-play.
        average: share by which the average of ``"nash-ema"`` and ``"mirror-prox"`` follows.
        group: answers to a prompt, beside as many others.
        prompts_per_step: prompts of a step, in each process.
        new_tokens: the longest answer, in tokens.
        learning_rate: of AdamW.
        max_steps: where :meth:`train` ends.
        accumulate: parts in which the gradient of a step is computed; it changes nothing but the
            memory.
        sampling_temperature: by which all logits are divided, those that are scored too.
        lora: settings of ``peft.LoraConfig`` for adapters; by default the model is trained whole.
        precision: ``"auto"`` (bf16 products on CUDA), ``"bf16"`` or ``"float32"`` (as it is).
        accelerator: of ``accelerate``; one is made by default.
        output: a folder for checkpoints, metrics and samples.
        save_every: steps between checkpoints; 0 for none but the last.
        warmup: steps in which the learning rate rises.
        decay: share of the steps, at the end, in which it falls to 0.
        clip: the largest norm of a gradient, infinite for any.
        template: how prompts are written, as :class:`~.loading.Prompts` takes it.
        progress: whether to show a bar and samples.
        seed: of all that is drawn.

    Raises:
        ImportError: the extra ``llm`` is not installed.
        FileNotFoundError: a model that is not where it was said to be.
        TypeError: an argument of the wrong kind.
        ValueError: one out of range, no prompts, or rewards that are missing.

    Source:
        Munos et al. (2024); Calandriello et al. (2024); Tiapkin et al. (2025).
    """

    def __init__(
        self,
        model: Source | Module,
        *,
        preference: Judge,
        prompts: Sequence[Prompt],
        tokenizer: Any = None,
        reference: Source | Module | None = None,
        loss: str = "nash-md",
        temperature: float = 0.1,
        mixture: float = 0.25,
        step_size: float = 2.0,
        average: float = 0.05,
        group: int = 4,
        prompts_per_step: int = 8,
        new_tokens: int = 64,
        learning_rate: float = 1e-6,
        max_steps: int = 100,
        accumulate: int = 1,
        sampling_temperature: float = 1.0,
        lora: Mapping[str, Any] | None = None,
        precision: str = "auto",
        accelerator: Any = None,
        output: str | Path | None = None,
        save_every: int = 0,
        warmup: int = 0,
        decay: float = 0.0,
        clip: float = 1.0,
        template: str | None = "auto",
        progress: bool = True,
        seed: int = 0,
    ) -> None:
        self.settings = Settings(
            loss=loss, temperature=temperature, mixture=mixture, step_size=step_size,
            average=average, group=group, prompts_per_step=prompts_per_step,
            new_tokens=new_tokens, learning_rate=learning_rate, max_steps=max_steps,
            accumulate=accumulate, sampling_temperature=sampling_temperature,
            precision=precision, warmup=warmup, decay=decay, clip=clip, seed=seed,
        )  # fmt: skip
        self.method = METHODS[loss]
        self.preference, self.prompts = preference, _prompts(prompts)
        if not callable(preference):
            raise TypeError(f"preference: expected a function, got {type(preference).__name__}")
        if self.method.rewards and not isinstance(preference, Rewards):
            raise ValueError(
                f"preference: expected Rewards(function) for the loss {loss!r}, got "
                f"{type(preference).__name__}"
            )
        for source in (model, reference):
            if not isinstance(source, Module | None):
                model_path(source)  # what is not there is said before anything is loaded
        if tokenizer is None:
            if isinstance(model, Module):
                raise TypeError("tokenizer: expected one with a model that is an object, got None")
            tokenizer = model
        paths = isinstance(tokenizer, str | Path)
        self.tokenizer = load_tokenizer(tokenizer) if paths else tokenizer
        self.accelerator = accelerator or require_extra("accelerate", "llm").Accelerator()
        self.rank, self.processes = self.accelerator.process_index, self.accelerator.num_processes
        if str(self.accelerator.distributed_type).rpartition(".")[2] in SHARDED:
            raise ValueError(
                "accelerator: expected data parallelism, for answers are drawn from whole models; "
                f"got {self.accelerator.distributed_type}; use lora to save memory"
            )
        self.device = self.accelerator.device
        self.half = precision == "bf16" or (precision == "auto" and self._has_bf16())
        dtype = torch.bfloat16 if self.half and lora is not None else None
        other = None if reference is None else load_model(reference, dtype=dtype)
        self.policies = Policies(
            load_model(model, dtype=dtype).to(self.device),
            None if other is None else other.to(self.device),
            lora,
            averages=self.method.averages,
            generator=self._chance(ADAPTERS, device=torch.device("cpu")),
        )
        self.encoder = Prompts(self.tokenizer, self.policies.policy, template)
        for prompt in self.prompts[:1]:
            self.encoder.text(prompt)
        self.learning = Learning(self.policies, self.settings, self.accelerator, self._products)
        require_count("save_every", save_every, 0)
        self.logbook = Logbook(
            output, self._identity(), main=self.accelerator.is_main_process, progress=progress
        )
        self.save_every, self.steps = save_every, 0

    @property
    def model(self) -> Module:
        """The policy, without what distributes it."""
        return self.policies.policy

    def train(self, resume: bool = False) -> list[dict[str, float]]:
        """Steps up to ``max_steps``.

        Args:
            resume: whether to go on from the checkpoint in ``output``, if there is one. What
                follows it is then the same, number for number, as without the interruption.

        Returns:
            The table of :meth:`step`, a row a step, those of an earlier process too.

        Raises:
            ValueError: ``output`` holds a checkpoint and is not to be resumed, or one of another
                run.
        """
        if self.logbook.checkpoint is not None and not self.steps:
            if resume:
                self._resume()
            elif self.logbook.checkpoint.exists():
                raise ValueError(
                    f"output: expected a folder without a checkpoint, or resume; got "
                    f"{self.logbook.checkpoint.parent}"
                )
        with self.logbook.bar(self.settings.max_steps, self.steps) as bar:
            while self.steps < self.settings.max_steps:
                row = self.step()
                bar.update(row)
                final = self.steps == self.settings.max_steps
                if final or (self.save_every and self.steps % self.save_every == 0):
                    self._keep()
        return self.logbook.rows

    def step(self) -> dict[str, float]:
        """One step.

        Returns:
            A row of the table: ``step``; ``loss``; ``preferred``, how often an answer was preferred
            to those that it met, or ``reward``; ``kl``, the mean log-ratio of an answer to the
            reference, an estimate of the divergence where the policy drew it; ``entropy``,
            its mean negative log-probability; ``length`` in tokens; the share that ``ended``; the
            share of ``distinct`` answers; ``gradient``, the norm before it is clipped;
            ``learning_rate``; and seconds of ``sampling``, ``judging`` and ``learning``.

        Raises:
            ArithmeticError: the gradient is not finite.
            TypeError: the judge returned no numbers.
            ValueError: likewise, or none in [0, 1].
        """
        begin = time.perf_counter()
        prompts = self._next_prompts()
        tokens, mask = self.encoder.encode(prompts, self.device)
        answers, others = self._draw(tokens, mask)
        drawn = time.perf_counter()
        texts = self._texts(answers)
        verdict = self._judge(prompts, texts, None if others is None else self._texts(others))
        known = time.perf_counter()
        row: dict[str, float] = {"step": self.steps + 1}
        batch = Drawn(tokens, mask.bool(), answers, answer_mask(answers, self.encoder.ends))
        row |= self.learning.step(self.steps, batch, verdict)
        ended = torch.isin(answers, torch.tensor(self.encoder.ends, device=self.device)).any(-1)
        row["ended"] = ended.double().mean().item()
        row["distinct"] = float(np.mean([len(set(group)) / len(group) for group in texts]))
        if self.processes > 1:
            shared = torch.tensor(list(row.values()), device=self.device)
            row = dict(zip(row, self.accelerator.reduce(shared, "mean").tolist(), strict=True))
        row |= {
            "learning_rate": self.settings.rate(self.steps),
            "sampling": drawn - begin,
            "judging": known - drawn,
            "learning": time.perf_counter() - known,
        }
        self.steps += 1
        self.logbook.rows.append(row)
        return row

    def generate(self, prompts: Sequence[Prompt], n: int = 1, *, seed: int = 0) -> list[list[str]]:
        """Answers of the policy as it is.

        Args:
            prompts: texts, or turns of conversations.
            n: answers to each prompt.
            seed: of what is drawn; training is not disturbed.

        Returns:
            ``n`` texts for each prompt.

        Raises:
            ValueError: no prompts, or no positive number of answers.
        """
        return self._generate(self.model, prompts, n, self._chance(SHOWN, seed))

    def win_rate(
        self,
        other: PreferenceTrainer | Module | None,
        prompts: Sequence[Prompt],
        n: int = 1,
        *,
        seed: int = 0,
        level: float = 0.95,
    ) -> Interval:
        """How often the judge prefers the policy's answers to another's.

        Each comparison is one throw of a coin with the judge's probability, so that wins are
        counted and the interval is exact for independent pairs.

        Args:
            other: a trainer, a model with the same tokenizer, or nothing for the reference.
            prompts: texts, or turns of conversations.
            n: pairs for each prompt.
            seed: of what is drawn.
            level: coverage of the interval.

        Returns:
            The rate, with the interval of :func:`clopper_pearson`.

        Raises:
            ValueError: no prompts, or no positive number of pairs.
        """
        chance = self._chance(WINS, seed)
        mine = self._generate(self.model, prompts, n, chance)
        if other is None:
            with self.policies.reference() as base:
                theirs = self._generate(base, prompts, n, chance)
        elif isinstance(other, Module):
            theirs = self._generate(other, prompts, n, chance)
        else:
            theirs = other._generate(other.model, prompts, n, other._chance(WINS, seed + 1))
        asked = [text for text in map(self._asked, prompts) for _ in range(n)]
        pairs = [[text for group in groups for text in group] for groups in (mine, theirs)]
        found = judged(self.preference, asked, *pairs).to(chance.device)
        won = torch.rand(found.shape, generator=chance, device=chance.device) < found
        return clopper_pearson(int(won.sum()), len(won), level)

    def save(self, path: str | Path) -> None:
        """Write the policy and its tokenizer into a folder that ``transformers`` reads.

        Adapters are written alone, as ``peft`` does it. One process writes.

        Args:
            path: the folder.
        """
        if self.accelerator.is_main_process:
            Path(path).mkdir(parents=True, exist_ok=True)
            model: Any = self.model
            with warnings.catch_warnings(), no_bars():
                warnings.filterwarnings("ignore", category=FutureWarning)  # peft's, of others
                model.save_pretrained(str(path))
            self.tokenizer.save_pretrained(str(path))
        self.accelerator.wait_for_everyone()

    # What a step does.

    def _next_prompts(self) -> list[Prompt]:
        """This process's share of the next prompts, in an order that every process knows."""
        each = self.settings.prompts_per_step
        start = (self.steps * self.processes + self.rank) * each
        size = len(self.prompts)
        turns = range(start // size, (start + each - 1) // size + 1)
        words = (self.settings.seed, ORDER)
        orders = [np.random.default_rng((*words, turn)).permutation(size) for turn in turns]
        first = start % size
        return [self.prompts[at] for at in np.concatenate(orders)[first : first + each]]

    def _draw(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """Answers to learn from, ``(B, n, N)``, and those of the opponent, if there is one."""
        settings, group = self.settings, self.settings.group
        policy, chance = self.model, self._chance(SAMPLES, self.steps)

        def draw(model: Module, own: int, mixed: int) -> Tensor:
            return sample_answers(
                model, tokens, mask, own, settings.new_tokens, ends=self.encoder.ends,
                generator=chance, temperature=settings.sampling_temperature, mixed=mixed,
                reference=self.policies.reference, weight=settings.mixture,
            )  # fmt: skip

        with self._products():
            if self.method.opponent == "mixture":
                both = draw(policy, group, group)
                return both[:, :group], both[:, group:]
            if self.method.opponent == "average":
                own = draw(policy, group, 0)
                with self.policies.average() as slow:
                    return own, draw(slow, group, 0)
            if self.method.source == "mixture":
                return draw(policy, 0, 2 * group), None
            return draw(policy, 2 * group, 0), None

    def _judge(
        self, prompts: Sequence[Prompt], own: list[list[str]], others: list[list[str]] | None
    ) -> Tensor:
        asked = [self._asked(prompt) for prompt in prompts]
        if self.method.rewards:
            assert isinstance(self.preference, Rewards)
            found = rewards_of(self.preference, asked, own)
        elif others is None:
            found = table_within(self.preference, asked, own)
        else:
            found = table_between(self.preference, asked, own, others)
        return found.to(self.device)

    # Small parts.

    def _generate(
        self, model: Module, prompts: Sequence[Prompt], n: int, chance: torch.Generator
    ) -> list[list[str]]:
        tokens, mask = self.encoder.encode(_prompts(prompts), self.device)
        with self._products():
            found = [
                sample_answers(
                    model, *rows, n, self.settings.new_tokens, ends=self.encoder.ends,
                    generator=chance, temperature=self.settings.sampling_temperature,
                )
                for rows in zip(
                    tokens.split(self.settings.prompts_per_step),
                    mask.split(self.settings.prompts_per_step),
                    strict=True,
                )
            ]  # fmt: skip
        return self._texts(torch.cat(found))

    def _texts(self, answers: Tensor) -> list[list[str]]:
        flat, each = self.encoder.decode(answers.flatten(0, 1)), answers.shape[1]
        return [flat[at : at + each] for at in range(0, len(flat), each)]

    def _asked(self, prompt: Prompt) -> str:
        """What the judge is told of a prompt: the text itself, or all of a conversation."""
        return prompt if isinstance(prompt, str) else self.encoder.text(prompt)

    def _chance(
        self, purpose: int, turn: int = 0, device: torch.device | None = None
    ) -> torch.Generator:
        """A source of chance that depends on nothing but what it is for: nothing is to be saved."""
        # The first weights of adapters are the same in all processes.
        rank = 0 if purpose == ADAPTERS else self.rank
        sequence = np.random.SeedSequence((self.settings.seed, purpose, rank, turn))
        number = int(sequence.generate_state(1, np.uint64)[0]) >> 1
        return torch.Generator(device or self.device).manual_seed(number)

    def _products(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    def _has_bf16(self) -> bool:
        if self.accelerator.mixed_precision == "bf16":
            return True
        return self.device.type == "cuda" and torch.cuda.is_bf16_supported()

    def _identity(self) -> str:
        weights = sum(one.numel() for one in self.policies.trained)
        return f"{self.settings.identity()}, {weights} weights, {self.processes} processes"

    def _keep(self) -> None:
        if self.logbook.shows:
            shown = list(self.prompts[:3])
            self.logbook.show(self.steps, list(map(self._asked, shown)), self.generate(shown))
        state = {"optimizer": self.learning.optimizer.state_dict(), **self.policies.state()}
        self.logbook.keep(self.steps, state)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        state = self.logbook.resume()
        if state is not None:
            self.policies.restore(state)
            self.learning.optimizer.load_state_dict(state["optimizer"])
            self.steps = state["step"]


SHARDED = ("FSDP", "DEEPSPEED", "MEGATRON_LM", "TP")


def _prompts(prompts: Sequence[Prompt]) -> Sequence[Prompt]:
    if isinstance(prompts, str) or not isinstance(prompts, Sequence):
        raise TypeError(f"prompts: expected a sequence of texts, got {type(prompts).__name__}")
    if not len(prompts):
        raise ValueError("prompts: expected at least one prompt, got none")
    return prompts
