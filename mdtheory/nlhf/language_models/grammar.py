r"""A small world of texts in which everything is known: a grammar, its judge, and exact classes.

A prompt is a topic. An answer is a short sentence in one of three styles, about the right topic or
another one. Judges put answers about the right topic first; among those, styles beat each other in
a circle. A decoder is so small that it is trained from scratch in seconds, and the shares of the
seven classes of its answers are exact: all sentences of the grammar are scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from mdtheory.checks import require_count, require_extra, require_number
from mdtheory.nlhf.language_models.judging import Texts
from mdtheory.nlhf.language_models.likelihoods import answer_mask, sequence_log_probs
from mdtheory.nlhf.reward_models import NeuralPreference

TOPICS = ("film", "book", "trip", "meal")
FILLINGS = (
    ("good", "fine", "great", "nice"),
    ("love", "adore", "enjoy", "like"),
    ("six", "seven", "eight", "nine"),
)
# What is said in each style; the first is brief, the second warm, the third precise.
STYLES = ("{topic} is {word}", "i {word} the {topic} so much", "the {topic} scores {word} of ten")
STYLE_NAMES = ("brief", "warm", "precise")
CLASSES = (*(f"{style}, {hit}" for style in STYLE_NAMES for hit in ("wrong", "right")), "none")
OUTSIDE = 6
# How often the corpus speaks in each style, and of the topic that was asked for.
STYLE_SHARES, RIGHT_SHARE = (0.5, 0.3, 0.2), 0.8
END, LONGEST = ".", 7
SENTENCES = {
    style.format(topic=topic, word=word): (kind, topic)
    for topic in TOPICS
    for kind, style in enumerate(STYLES)
    for word in FILLINGS[kind]
}
_SAID = sorted({word for sentence in SENTENCES for word in sentence.split()})
# Every token with its number; the last three are for those who read pairs.
WORDS = {word: at for at, word in enumerate([END, "?", *_SAID, "first", "second", "answer"])}
FEATURES = (LONGEST + 1) * len(WORDS)


def class_of(prompt: str, answer: str) -> int:
    """The class of an answer, an index into ``CLASSES``.

    Args:
        prompt: one of ``TOPICS``.
        answer: a text, without the point at its end.

    Returns:
        Twice the style, and 1 more for the right topic; the last class for what is no sentence.
    """
    found = SENTENCES.get(answer)
    return OUTSIDE if found is None else 2 * found[0] + (found[1] == prompt)


def class_preferences(noise: float = 0.1) -> Tensor:
    """Preferences between classes: sentences, then the right topic, then a circle of styles.

    Brief beats warm, warm beats precise, precise beats brief.

    Args:
        noise: how often a judge says the opposite, in [0, 1/2].

    Returns:
        Shape ``(7, 7)``, float64.

    Raises:
        ValueError: a noise out of range.
    """
    require_number("noise", noise, 0.0, maximum=0.5)
    table = torch.full((len(CLASSES),) * 2, 0.5, dtype=torch.float64)
    for one in range(OUTSIDE + 1):
        for other in range(OUTSIDE + 1):
            if OUTSIDE in (one, other):
                order = (one != OUTSIDE) - (other != OUTSIDE)
            elif one % 2 != other % 2:
                order = one % 2 - other % 2
            else:
                order = (0, -1, 1)[(one // 2 - other // 2) % 3]
            table[one, other] += (0.5 - noise) * order
    return table


class Annotators:
    """Judges who follow :func:`class_preferences`.

    Args:
        noise: as there.
    """

    antisymmetric = True

    def __init__(self, noise: float = 0.1) -> None:
        self.table = class_preferences(noise)

    def __call__(self, prompts: Texts, first: Texts, second: Texts) -> Tensor:
        """Their preferences, float64, shape ``(pairs,)``."""
        rows, columns = (
            torch.tensor([class_of(p, a) for p, a in zip(prompts, answers, strict=True)])
            for answers in (first, second)
        )
        return self.table[rows, columns]


def tokenizer() -> Any:
    """A tokenizer whose tokens are the grammar's words; the point ends an answer.

    Returns:
        Of ``transformers``.

    Raises:
        ImportError: the extra ``llm`` is not installed.
    """
    transformers = require_extra("transformers", "llm")
    tokenizers = require_extra("tokenizers", "llm")
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="?"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, eos_token=END, pad_token=END, unk_token="?", padding_side="left"
    )


class NetworkJudge:
    """A small network on the words of both answers, as a judge; much faster than a decoder.

    Args:
        model: takes :func:`features` of answers.
    """

    antisymmetric = True

    def __init__(self, model: NeuralPreference) -> None:
        self.model = model

    @torch.no_grad()
    def __call__(self, prompts: Texts, first: Texts, second: Texts) -> Tensor:
        """Its preferences, float32, shape ``(pairs,)``."""
        ahead, behind = (features(prompts, answers) for answers in (first, second))
        return self.model.logit(ahead, behind).sigmoid()


def features(prompts: Texts, answers: Texts) -> Tensor:
    """Numbers that describe answers: which word stands where, and the prompt.

    Args:
        prompts: one text an answer.
        answers: texts of at most ``LONGEST`` words.

    Returns:
        Zeros and ones, float32, shape ``(answers, FEATURES)``.
    """
    found = torch.zeros(len(answers), LONGEST + 1, len(WORDS))
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        for place, word in enumerate([prompt, *answer.split()[:LONGEST]]):
            found[row, place, WORDS.get(word, 1)] = 1
    return found.flatten(1)


def decoder(generator: torch.Generator, width: int = 32, layers: int = 1) -> Module:
    """A small GPT-2 with random weights for the grammar's words.

    Args:
        generator: source of the weights, on the CPU.
        width: of its layers.
        layers: how many.

    Returns:
        A model of ``transformers``, not training.

    Raises:
        ImportError: the extra ``llm`` is not installed.
    """
    transformers = require_extra("transformers", "llm")
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer()), n_positions=32, n_embd=require_count("width", width),
        n_layer=require_count("layers", layers), n_head=2, bos_token_id=0, eos_token_id=0,
        pad_token_id=0,
    )  # fmt: skip
    model: Module = transformers.GPT2LMHeadModel(config).eval()
    for weights in model.parameters():
        if weights.ndim > 1:
            torch.nn.init.normal_(weights, std=weights.shape[-1] ** -0.5, generator=generator)
    return model


def corpus(count: int, generator: torch.Generator) -> list[tuple[str, str]]:
    """Prompts with answers as the corpus has them.

    Args:
        count: how many.
        generator: the source of chance, on the CPU.

    Returns:
        Pairs of texts.
    """

    def draw(most: int) -> list[int]:
        return torch.randint(most, (count,), generator=generator).tolist()

    shares = torch.tensor(STYLE_SHARES)
    styles = torch.multinomial(shares, count, replacement=True, generator=generator).tolist()
    strays = (torch.rand(count, generator=generator) >= RIGHT_SHARE).tolist()
    found = []
    for topic, other, style, stray, word in zip(
        draw(4), draw(4), styles, strays, draw(4), strict=True
    ):
        about = TOPICS[other if stray else topic]
        said = STYLES[style].format(topic=about, word=FILLINGS[style][word])
        found.append((TOPICS[topic], said))
    return found


def supervise(
    model: Module,
    generator: torch.Generator,
    *,
    steps: int = 250,
    batch: int = 64,
    learning_rate: float = 1e-2,
) -> list[float]:
    """Supervised fine-tuning on the corpus, by Adam with a learning rate that falls to 0.

    Args:
        model: of :func:`decoder`, trained in place.
        generator: source of the corpus, on the CPU.
        steps: of Adam.
        batch: answers of a step.
        learning_rate: of Adam.

    Returns:
        The loss of each step, in nats an answer.
    """
    words, losses = tokenizer(), []
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    for step in range(require_count("steps", steps, 0)):
        pairs = corpus(batch, generator)
        asked, said = [prompt for prompt, _ in pairs], [answer for _, answer in pairs]
        loss = -_scores(model, words, asked, said).mean()
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def exact_shares(model: Module) -> Tensor:
    """Shares of the classes among a model's answers to each topic, from all sentences.

    Args:
        model: a causal language model for the grammar's tokenizer.

    Returns:
        Log-probabilities, float64, shape ``(4, 7)``. Their mean over topics is a lower bound in
        exploitability, not its mean.
    """
    words = tokenizer()
    shares = torch.zeros(len(TOPICS), len(CLASSES), dtype=torch.float64)
    for row, topic in enumerate(TOPICS):
        scores = _scores(model, words, [topic] * len(SENTENCES), list(SENTENCES)).double().exp()
        kinds = torch.tensor([class_of(topic, sentence) for sentence in SENTENCES])
        shares[row].index_add_(0, kinds, scores.cpu())
    tiny = torch.finfo(torch.float32).tiny
    shares[:, OUTSIDE] = (1 - shares.sum(-1)).clamp_min(tiny)  # what rounding may take away
    return (shares / shares.sum(-1, keepdim=True)).log()


def _scores(model: Module, words: Any, prompts: Sequence[str], answers: Sequence[str]) -> Tensor:
    """Log-probabilities of sentences, ended by the point, shape ``(answers,)``."""
    device = next(model.parameters()).device
    end = words.eos_token_id
    asked = torch.tensor(words(list(prompts))["input_ids"], device=device)
    said = torch.full((len(answers), LONGEST), end, device=device)
    for row, tokens in zip(said, words(list(answers))["input_ids"], strict=True):
        row[: len(tokens)] = torch.tensor(tokens, device=device)
    mask = answer_mask(said, [end])
    return sequence_log_probs(model, asked, torch.ones_like(asked), said, mask).sum(-1)
