"""The default device: the environment variable first, then a GPU, then the CPU."""

import pytest
import torch

from mdtheory.device import default_device


@pytest.fixture(autouse=True)
def _no_override(monkeypatch):
    monkeypatch.delenv("MDTHEORY_DEVICE", raising=False)


def _pretend_cuda(monkeypatch, present):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)


@pytest.mark.parametrize(("present", "kind"), [(True, "cuda"), (False, "cpu")])
def test_a_gpu_is_used_when_there_is_one(monkeypatch, present, kind):
    _pretend_cuda(monkeypatch, present)
    assert default_device() == torch.device(kind)


@pytest.mark.parametrize("present", [True, False])
def test_the_variable_overrides_what_is_present(monkeypatch, present):
    _pretend_cuda(monkeypatch, present)
    monkeypatch.setenv("MDTHEORY_DEVICE", "cpu")
    assert default_device() == torch.device("cpu")


def test_the_variable_may_name_one_of_several_gpus(monkeypatch):
    _pretend_cuda(monkeypatch, True)
    monkeypatch.setenv("MDTHEORY_DEVICE", "cuda:1")
    assert default_device() == torch.device("cuda", 1)


def test_an_empty_variable_is_no_override(monkeypatch):
    _pretend_cuda(monkeypatch, False)
    monkeypatch.setenv("MDTHEORY_DEVICE", "")
    assert default_device() == torch.device("cpu")


@pytest.mark.parametrize("name", ["abacus", "cuda:", "cuda"])
def test_what_is_no_device_here_is_refused_by_name(monkeypatch, name):
    _pretend_cuda(monkeypatch, False)
    monkeypatch.setenv("MDTHEORY_DEVICE", name)
    with pytest.raises(ValueError, match="MDTHEORY_DEVICE"):
        default_device()
