"""A result on every device present against float64 on the CPU, and where nothing has a value."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

Case = Callable[[str, torch.dtype], Iterable[Tensor]]

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def numbers(device: str, dtype: torch.dtype, *shape: int) -> Tensor:
    """Numbers that are the same everywhere."""
    flat = torch.arange(math.prod(shape), dtype=dtype, device=device)
    return torch.cos(3 * flat).reshape(shape)


def agrees_with_the_cpu(
    case: Case, device: str, dtype: torch.dtype, view: Callable[[Tensor], Tensor] = lambda x: x
) -> None:
    """The results of a case are on the device, of the dtype, and those of the CPU in float64.

    Truth values have no dtype to keep, and are the same.
    """
    exact = case("cpu", torch.float64)
    tolerance = 1e-9 if dtype == torch.float64 else 2e-3
    for ours, theirs in zip(case(device, dtype), exact, strict=True):
        assert ours.device.type == device
        if theirs.dtype == torch.bool:
            assert torch.equal(ours.cpu(), theirs)
            continue
        assert ours.dtype == dtype
        torch.testing.assert_close(
            view(ours.cpu().double()), view(theirs), rtol=tolerance, atol=tolerance
        )


def stays(case: Case, elsewhere: str) -> None:
    """With fake tensors, mixing devices raises; no value can be read either."""
    with FakeTensorMode():
        for result in case(elsewhere, torch.float64):
            assert result.device.type == elsewhere
