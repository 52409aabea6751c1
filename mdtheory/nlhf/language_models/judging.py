"""Who judges: any function of two texts, a reward of one, and tables of all pairs of a group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from mdtheory.checks import require_finite, require_values

Texts = Sequence[str]


@runtime_checkable
class Judge(Protocol):
    """What says how likely first answers are preferred to second ones: one number a pair."""

    def __call__(self, prompts: Texts, first: Texts, second: Texts, /) -> object:
        """Probabilities in [0, 1], as a tensor, an array or a sequence of numbers."""
        ...


class Rewards:
    r"""A reward as a judge: :math:`P(y \succ y') = \sigma(r(y) - r(y'))`, Bradley and Terry's.

    No circle is among its preferences.

    Args:
        function: called with prompts and answers, sequences of texts, returns one number an answer.

    Raises:
        TypeError: no function.
    """

    antisymmetric = True

    def __init__(self, function: Callable[[Texts, Texts], object]) -> None:
        if not callable(function):
            raise TypeError(f"function: expected a function, got {type(function).__name__}")
        self.function = function

    def rewards(self, prompts: Texts, answers: Texts) -> Tensor:
        """Rewards of answers, float32, shape ``(len(answers),)``.

        Args:
            prompts: one text an answer.
            answers: texts.

        Returns:
            A tensor on the CPU.

        Raises:
            TypeError: the function returned no numbers.
            ValueError: it did not return one finite number an answer.
        """
        found = _numbers("rewards", self.function(prompts, answers), len(answers))
        require_finite("rewards", found)
        return found

    def __call__(self, prompts: Texts, first: Texts, second: Texts) -> Tensor:
        """As a judge of pairs."""
        return (self.rewards(prompts, first) - self.rewards(prompts, second)).sigmoid()


def judged(judge: Judge, prompts: Texts, first: Texts, second: Texts) -> Tensor:
    r"""Preferences whose two orders sum to 1, whatever the judge says.

    A judge that does not call itself ``antisymmetric`` is asked in both orders, and what it makes
    of the position cancels: :math:`(P(y, y') + 1 - P(y', y)) / 2`.

    Args:
        judge: the judge.
        prompts: one text a pair.
        first: answers.
        second: answers.

    Returns:
        :math:`P(y \succ y')`, float32, shape ``(pairs,)``.

    Raises:
        TypeError: the judge returned no numbers.
        ValueError: it did not return one number in [0, 1] a pair.
    """
    if getattr(judge, "antisymmetric", False):
        return _preferences(judge(prompts, first, second), len(first))
    found = _preferences(
        judge([*prompts, *prompts], [*first, *second], [*second, *first]), 2 * len(first)
    )
    ahead, behind = found.split(len(first))
    return (ahead + 1 - behind) / 2


def table_between(
    judge: Judge, prompts: Texts, own: Sequence[Texts], other: Sequence[Texts]
) -> Tensor:
    """Every answer of one group against every answer of another, for each prompt.

    Args:
        judge: the judge.
        prompts: ``B`` texts.
        own: ``n`` answers to each prompt.
        other: ``m`` answers to each prompt.

    Returns:
        Preferences, float32, shape ``(B, n, m)``.

    Raises:
        TypeError: as :func:`judged`.
        ValueError: likewise.
    """
    shape = (len(prompts), len(own[0]), len(other[0]))
    if isinstance(judge, Rewards):  # a reward of each answer, not of each pair
        both = [[*mine, *theirs] for mine, theirs in zip(own, other, strict=True)]
        left, right = rewards_of(judge, prompts, both).split(shape[1:], -1)
        return (left[..., :, None] - right[..., None, :]).sigmoid()
    triples = [
        (prompt, one, two)
        for prompt, mine, theirs in zip(prompts, own, other, strict=True)
        for one in mine
        for two in theirs
    ]
    return judged(judge, *map(list, zip(*triples, strict=True))).reshape(shape)


def table_within(judge: Judge, prompts: Texts, group: Sequence[Texts]) -> Tensor:
    """Every answer of a group against the others, each pair judged once.

    Args:
        judge: the judge.
        prompts: ``B`` texts.
        group: ``n`` answers to each prompt, at least 2.

    Returns:
        Preferences, float32, shape ``(B, n, n)``, 1/2 on the diagonal.

    Raises:
        TypeError: as :func:`judged`.
        ValueError: likewise.
    """
    if isinstance(judge, Rewards):
        found = rewards_of(judge, prompts, group)
        return (found[..., :, None] - found[..., None, :]).sigmoid()
    count = len(group[0])
    rows, columns = torch.triu_indices(count, count, 1)
    triples = [
        (prompt, answers[i], answers[j])
        for prompt, answers in zip(prompts, group, strict=True)
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
    ]
    upper = judged(judge, *map(list, zip(*triples, strict=True))).reshape(len(prompts), -1)
    table = upper.new_full((len(prompts), count, count), 0.5)
    table[:, rows, columns] = upper
    table[:, columns, rows] = 1 - upper
    return table


def rewards_of(judge: Rewards, prompts: Texts, group: Sequence[Texts]) -> Tensor:
    """Rewards of a group of answers to each prompt, shape ``(B, n)``.

    Args:
        judge: the reward.
        prompts: ``B`` texts.
        group: ``n`` answers to each prompt.

    Returns:
        Float32.

    Raises:
        TypeError: as :meth:`Rewards.rewards`.
        ValueError: likewise.
    """
    each = len(group[0])
    asked = [prompt for prompt in prompts for _ in range(each)]
    said = [answer for answers in group for answer in answers]
    return judge.rewards(asked, said).reshape(len(prompts), each)


def _preferences(value: object, count: int) -> Tensor:
    found = _numbers("preference", value, count)
    require_values("preference", found, (found >= 0) & (found <= 1), "numbers in [0, 1]")
    return found


def _numbers(name: str, value: object, count: int) -> Tensor:
    """One number a text or a pair, on the CPU, without a graph."""
    try:
        found = torch.as_tensor(value).detach().float().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name}: expected a tensor, an array or a sequence of numbers, got {value!r:.80}"
        ) from error
    if found.shape != (count,):
        raise ValueError(
            f"{name}: expected one number each, shape ({count},), got {tuple(found.shape)}"
        )
    return found
