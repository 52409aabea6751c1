"""Offline training on the expectation over all answers: no chance, a table, and a network."""

import itertools
import math

import pytest
import torch

from mdtheory.rl import group_relative as gr
from mdtheory.rl.group_relative.exact import _Tree
from tests.rl.group_relative_cases import source


def tree(size, seed=0):
    """A task, a network whose laws are far from uniform, and all beginnings of its answers."""
    task = gr.Products(size)
    network = task.policy(2, source(seed), hidden=(8,))
    with torch.no_grad():
        for p in network.parameters:
            p.mul_(6)
    return task, network, _Tree(task)


@pytest.mark.parametrize("size", [3, 6])
def test_the_tree_holds_every_answer(size):
    task, network, whole = tree(size)
    with torch.no_grad():
        laws = whole.laws(network)
        levels = whole.levels(whole.chances(laws))
        digits = list(itertools.product(range(10), repeat=task.length))
        for prompt in (0, 1, task.prompts - 1):
            prompts = torch.full((2, len(digits)), prompt)
            answers = torch.tensor(digits).expand(2, -1, -1)
            each = task.log_probs(network, task.inputs(prompts, answers))
            chance = each.gather(-1, answers[..., None])[..., 0].sum(-1).exp()
            torch.testing.assert_close(levels[-1][:, prompt].flatten(1), chance)
            likeliest = whole.likeliest(laws)[0, prompt].tolist()
            law = each[0, :, 0]
            assert likeliest[0] == int(law[0].argmax())
        right = whole.log_right(laws).exp().mean(-1)
        torch.testing.assert_close(right, task.measure(network).value)


def test_a_table_goes_where_the_corollary_says():
    shifts = [0.0, 0.1, 0.6]
    record = gr.train_on_all_answers(
        shifts, 500, 2, source(1), shared=False, learning_rate=0.1, task=gr.Products(5),
        base_steps=100, hidden=(16,),
    )  # fmt: skip
    assert record.value.shape == (26, 3, 2)
    assert (record.value[-1, 0] > 0.999).all()
    for k in (1, 2):
        predicted = gr.asymmetric_value(record.before, shifts[k])
        torch.testing.assert_close(record.after[k], predicted, atol=0.02, rtol=0)
    # Questions on both sides of the kink were among them.
    assert (record.before > 0.1).any()
    assert (record.before < 0.6).any()


def test_a_network_gives_everybody_the_same_answer():
    record = gr.train_on_all_answers([0.0], 100, 3, source(2))
    said = (record.likeliest[0] == 0).all(-1).float().mean(-1)
    assert (said > 0.9).all()
    assert (record.value[-1, 0] < record.value[0, 0]).all()
    share = float((gr.Products().answers == 0).all(-1).float().mean())
    assert share == pytest.approx(0.19)
    torch.testing.assert_close(record.value[-1, 0], torch.full((3,), share), atol=0.02, rtol=0)


def test_all_shifts_begin_with_one_policy():
    record = gr.train_on_all_answers(
        [0.0, 0.5], 3, 2, source(3), task=gr.Products(3), base_steps=5, hidden=(4,), every=2
    )
    assert record.steps == [0, 2, 3]
    assert torch.equal(record.value[0, 0], record.value[0, 1])
    torch.testing.assert_close(record.value[0, 0], record.before.mean(-1))
    assert record.after.shape == (2, 2, 9)
    assert record.likeliest.shape == (2, 2, 9, 1)


REFUSED = {
    "shifts": [
        lambda: gr.train_on_all_answers([], 1, 1, source(0)),
        lambda: gr.train_on_all_answers([math.nan], 1, 1, source(0)),
    ],
    "steps": [lambda: gr.train_on_all_answers([0.0], 0, 1, source(0))],
    "seeds": [lambda: gr.train_on_all_answers([0.0], 1, 0, source(0))],
    "learning_rate": [lambda: gr.train_on_all_answers([0.0], 1, 1, source(0), learning_rate=-1)],
    "clip": [lambda: gr.train_on_all_answers([0.0], 1, 1, source(0), clip=0)],
}


@pytest.mark.parametrize(
    ("name", "call"), [(name, call) for name, calls in REFUSED.items() for call in calls]
)
def test_what_is_wrong_is_refused_by_name(name, call):
    with pytest.raises((TypeError, ValueError), match=f"^{name}: expected"):
        call()
