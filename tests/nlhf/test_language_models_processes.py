"""Two processes that share the work through accelerate.

On CPUs ``accelerate launch`` starts several through MPI alone; torchrun, which it uses on GPUs,
starts them here.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.nlhf.language_models_training import spoken, trainer, weights, without_seconds

pytest.importorskip("accelerate")
ROOT = Path(__file__).resolve().parents[2]
STEPS = 2

SCRIPT = """
import sys, torch
from tests.nlhf.language_models_training import trainer, weights
run = trainer(output=sys.argv[1], max_steps=2, accumulate=2, clip=float("inf"), save_every=1)
prompts = run._next_prompts()
step, after = run.step, []
run.step = lambda: (step(), after.append(weights(run.model)))[0]
run.train()
torch.save({"table": run.logbook.rows, "prompts": prompts, "after": after, "rank": run.rank},
           f"{sys.argv[1]}/rank-{run.rank}.pt")
again = trainer(output=sys.argv[1], max_steps=3, accumulate=2, clip=float("inf"), save_every=1)
again.train(resume=True)
run.save(f"{sys.argv[1]}/model")
torch.save(weights(again.model), f"{sys.argv[1]}/again-{run.rank}.pt")
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What two processes found, and their folder."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "script.py").write_text(SCRIPT)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
        str(folder / "script.py"), str(folder),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
                   "ACCELERATE_USE_CPU": "true"}  # fmt: skip
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, [torch.load(folder / f"rank-{rank}.pt") for rank in range(2)]


def test_both_have_the_same_weights_and_the_same_table(both):
    one, other = both[1]
    for mine, theirs in zip(one["after"], other["after"], strict=True):
        assert torch.equal(mine, theirs)
    assert without_seconds(one["table"]) == without_seconds(other["table"])
    assert len(one["table"]) == STEPS


def test_each_has_prompts_of_its_own(both):
    one, other = both[1]
    assert sorted(one["prompts"]) == sorted(other["prompts"])  # four prompts, a turn each
    assert one["prompts"] != other["prompts"]


def test_files_are_written_once(both):
    folder, found = both
    lines = (folder / "metrics.csv").read_text("utf-8").splitlines()
    assert len(lines) == 1 + 3
    assert (folder / "model" / "model.safetensors").is_file()
    assert len(found) == 2


def test_both_go_on_from_one_checkpoint(both):
    folder = both[0]
    one, other = (torch.load(folder / f"again-{rank}.pt") for rank in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, both[1][0]["after"][-1])


def test_the_step_is_that_of_the_averaged_gradient(both):
    """Each share in a process of its own, put together by hand."""
    gradients, rows = [], []
    for rank in range(2):
        run = trainer(clip=float("inf"))
        run.rank, run.processes = rank, 2
        run.learning.optimizer.step = lambda: None
        rows.append(run.step())
        gradients.append([weight.grad for weight in run.policies.trained])
    model = spoken()
    for weight, one, other in zip(model.parameters(), *gradients, strict=True):
        weight.grad = (one + other) / 2
    torch.optim.AdamW(model.parameters(), 1e-3, betas=(0.9, 0.95), weight_decay=0.0).step()
    torch.testing.assert_close(both[1][0]["after"][0], weights(model), rtol=1e-7, atol=1e-9)
    table = both[1][0]["table"][0]
    for name in ("loss", "preferred", "length", "entropy", "ended", "distinct"):
        assert table[name] == pytest.approx((rows[0][name] + rows[1][name]) / 2, rel=1e-6), name
