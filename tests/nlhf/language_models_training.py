"""A run so small that a step takes milliseconds."""

import copy
import functools
import io
from contextlib import redirect_stderr

import pytest
import torch

from mdtheory.nlhf.language_models import PreferenceTrainer, Rewards
from mdtheory.nlhf.language_models import grammar as world

pytest.importorskip("transformers")
accelerate = pytest.importorskip("accelerate")

SECONDS = ("sampling", "judging", "learning")
LOSSES = ("nash-md", "nash-ema", "self-play", "mirror-prox", "online-ipo", "ipo-md", "online-dpo",
          "rlhf")  # fmt: skip
TOPICS = list(world.TOPICS)


@functools.cache
def words():
    return world.tokenizer()


@functools.cache
def _spoken():
    generator = torch.Generator().manual_seed(0)
    model = world.decoder(generator)
    world.supervise(model, generator, steps=60)
    return model.double()


def spoken():
    """A decoder that has read some of the corpus."""
    return copy.deepcopy(_spoken())


def counts_hits(prompts, answers):
    """A reward: 1 for a sentence about the right topic."""
    return [float(world.class_of(p, a) % 2) for p, a in zip(prompts, answers, strict=True)]


def judge_for(loss):
    return Rewards(counts_hits) if loss == "rlhf" else world.Annotators()


def trainer(model=None, loss="nash-md", **settings):
    chosen = {
        "preference": judge_for(loss), "prompts": TOPICS, "tokenizer": words(), "group": 2,
        "prompts_per_step": 4, "new_tokens": world.LONGEST, "learning_rate": 1e-3,
        "max_steps": 4, "progress": False,
        # Numbers are compared with those of the CPU; test_language_models_devices has the rest.
        "accelerator": accelerate.Accelerator(cpu=True),
    }  # fmt: skip
    return PreferenceTrainer(spoken() if model is None else model, loss=loss, **chosen | settings)


def without_seconds(table):
    return [{k: v for k, v in row.items() if k not in SECONDS} for row in table]


def weights(model):
    return torch.cat([w.detach().flatten() for w in model.parameters()])


def quietly(work):
    with redirect_stderr(io.StringIO()):
        return work()
