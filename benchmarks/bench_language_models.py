"""A step of Nash-MD-PG and of online DPO, beside TRL's trainers.

``python benchmarks/bench_language_models.py`` prints medians of both sides and their ratios,
measured in turns in one run; it needs TRL 1.12 (the last with Nash-MD) or a newer one (online DPO)
on the path, with ``datasets``, installed beside: ``pip install --no-deps --target FOLDER ...``.
``pytest benchmarks/bench_language_models.py`` times our steps with pytest-benchmark.

The setting: a random GPT-2 of two layers, width 64, 98 tokens, four prompts, answers of 16 tokens,
a reward from a random network of the same size.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest

pytest.importorskip("transformers")

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from mdtheory.nlhf.language_models import PreferenceTrainer, Rewards

PROMPTS = [f"hello number {k}" for k in range(64)]
BATCH, NEW, RATE, STEPS, SKIPPED = 4, 16, 1e-3, 30, 3
SIZES = {"n_positions": 128, "n_embd": 64, "n_layer": 2, "n_head": 2}
IDS = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}


def tokenizer() -> Any:
    """One token a printed character."""
    table = {"<pad>": 0, "<eos>": 1, "<unk>": 2}
    table |= {chr(code): code - 32 + 3 for code in range(32, 127)}
    plain = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    found = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>",
        bos_token="<eos>", padding_side="left",
    )  # fmt: skip
    found.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    return found


def config(**more: Any) -> Any:
    return transformers.GPT2Config(vocab_size=len(tokenizer()), **SIZES, **IDS, **more)


def policy() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        return transformers.GPT2LMHeadModel(config())


def reward_model() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(1)
        return transformers.GPT2ForSequenceClassification(config(num_labels=1)).eval()


def ours(loss: str) -> PreferenceTrainer:
    """As many answers as TRL draws: one and one of the mixture, or a pair."""
    words, network = tokenizer(), reward_model()

    @torch.no_grad()
    def rewards(prompts: Any, answers: Any) -> Any:
        texts = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
        rows = words(texts, return_tensors="pt", padding=True)
        return network(input_ids=rows.input_ids, attention_mask=rows.attention_mask).logits[:, 0]

    return PreferenceTrainer(
        policy(), preference=Rewards(rewards), prompts=PROMPTS, tokenizer=words, loss=loss,
        mixture=0.5, group=1, prompts_per_step=BATCH, new_tokens=NEW, learning_rate=RATE,
        max_steps=10**6, progress=False,
    )  # fmt: skip


def trl_seconds(which: str, folder: str) -> list[float]:
    """Seconds of each step of TRL's trainer."""
    import pyarrow
    from datasets import Dataset

    common = {
        "output_dir": folder, "per_device_train_batch_size": BATCH, "max_steps": STEPS,
        "report_to": "none", "learning_rate": RATE, "save_strategy": "no", "logging_steps": 1000,
        "use_cpu": True, "bf16": False, "max_new_tokens": NEW, "disable_tqdm": True,
    }  # fmt: skip
    # With a fingerprint of its own: the newest pyarrow's tables cannot be hashed.
    data = Dataset(pyarrow.table({"prompt": PROMPTS}), fingerprint="prompts")
    place = f"{folder}/model"
    policy().save_pretrained(place)
    tokenizer().save_pretrained(place)
    load = transformers.GPT2LMHeadModel.from_pretrained
    shared = {
        "model": load(place), "ref_model": load(place), "reward_funcs": reward_model(),
        "processing_class": tokenizer(), "train_dataset": data,
    }  # fmt: skip
    if which == "nash-md":
        from trl.experimental.nash_md import NashMDConfig, NashMDTrainer

        trainer = NashMDTrainer(args=NashMDConfig(**common), **shared)
    else:
        from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

        shared["reward_processing_classes"] = tokenizer()
        trainer = OnlineDPOTrainer(args=OnlineDPOConfig(**common), **shared)
    times: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *arguments: Any, **more: Any) -> None:
            self.begin = clock()

        def on_step_end(self, *arguments: Any, **more: Any) -> None:
            times.append(clock() - self.begin)
            for _ in range(2):  # in turns: what else the machine does, it does to both
                turn()

    trainer.add_callback(Clock())
    turn = _TURN[0]
    trainer.train()
    return times


_TURN: list[Callable[[], None]] = [lambda: None]
_CLOCK: list[Callable[[], float]] = [time.perf_counter]


def clock() -> float:
    """Seconds, of the wall's clock or of the processor's."""
    return _CLOCK[0]()


def compare(which: str) -> tuple[float, float]:
    """Median milliseconds of a step: TRL's and ours."""
    mine, run = [], ours(which)

    def turn() -> None:
        begin = clock()
        run.step()
        mine.append(clock() - begin)

    _TURN[0] = turn
    with tempfile.TemporaryDirectory() as folder:
        theirs = trl_seconds(which, folder)
    return 1e3 * statistics.median(theirs[SKIPPED:]), 1e3 * statistics.median(mine[2 * SKIPPED :])


@pytest.mark.parametrize("loss", ["nash-md", "online-dpo"])
def test_a_step(benchmark, loss):
    run = ours(loss)
    row = benchmark.pedantic(run.step, rounds=5, warmup_rounds=2)
    assert row["length"] <= NEW


def main() -> None:
    """Print both sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("which", nargs="*", help="nash-md, online-dpo; by default what TRL has")
    parser.add_argument(
        "--processor", action="store_true", help="its time, where other work disturbs the wall's"
    )
    given = parser.parse_args()
    _CLOCK[0] = time.process_time if given.processor else time.perf_counter
    torch.set_num_threads(given.threads)
    os.environ.update(
        HF_HUB_OFFLINE="1", TRL_EXPERIMENTAL_SILENCE="1", TOKENIZERS_PARALLELISM="false"
    )
    import trl

    has = find_spec("trl.experimental.nash_md") is not None
    for which in given.which or (["nash-md", "online-dpo"] if has else ["online-dpo"]):
        theirs, mine = compare(which)
        print(
            f"{which}: TRL {trl.__version__} {theirs:.1f} ms a step, ours {mine:.1f} ms, "
            f"ratio {mine / theirs:.2f}; {given.threads} thread(s), "
            f"{'processor' if given.processor else 'wall'} time"
        )


if __name__ == "__main__":
    main()
