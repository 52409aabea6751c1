"""Whether the checks of the chapters refuse two sides: what a mutant must achieve."""

import torch

from mdtheory.runs import check_bound, check_identity


def breaks(label: str, left: torch.Tensor, right: torch.Tensor | float) -> bool:
    """Whether ``check_bound`` refuses the pair of sides."""
    try:
        check_bound(label, left, torch.as_tensor(right, dtype=left.dtype))
    except AssertionError:
        return True
    return False


def differ(label: str, left: torch.Tensor, right: torch.Tensor, tolerance: float = 1e-9) -> bool:
    """Whether ``check_identity`` refuses the pair of sides."""
    try:
        check_identity(label, left, right, tolerance=tolerance)
    except AssertionError:
        return True
    return False
