"""Where tensors live when nobody says otherwise."""

from __future__ import annotations

import os

import torch


def default_device() -> torch.device:
    """Device on which chapters and training functions place their tensors.

    Returns:
        The device named by the environment variable ``MDTHEORY_DEVICE`` if it is set,
        else CUDA when a GPU is available, else the CPU.

    Raises:
        ValueError: ``MDTHEORY_DEVICE`` names no device, or CUDA where there is none.
    """
    name = os.environ.get("MDTHEORY_DEVICE")
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f"MDTHEORY_DEVICE: expected a device such as 'cpu' or 'cuda:0', got {name!r}"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"MDTHEORY_DEVICE: expected a device that is present, got {name!r}")
    return device
