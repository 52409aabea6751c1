"""Checkpoints: written atomically, and refused where they belong to another run.

The chapter 'Mirror descent policy optimisation' explains it.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from mdtheory.files import write_atomically


def save_checkpoint(path: Path, identity: str, state: dict[str, Any]) -> None:
    """Write the state of a run, so that a reader finds the old file or the new one, never a part.

    Args:
        path: the file; its folder is made.
        identity: what the run is, in words.
        state: tensors, numbers, texts, and lists and dictionaries of them.
    """
    buffer = io.BytesIO()
    torch.save({"identity": identity, **state}, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, identity: str, device: torch.device) -> dict[str, Any]:
    """Read the state of a run.

    Args:
        path: the file.
        identity: what the run is, in words, as when it was saved.
        device: where the tensors go.

    Returns:
        The state.

    Raises:
        ValueError: the file belongs to another run, or is no checkpoint.
    """
    try:
        # Only tensors and plain values: a checkpoint cannot run code.
        state = torch.load(path, map_location=device, weights_only=True)
        found = state.pop("identity")
    except Exception as error:
        raise ValueError(f"checkpoint: expected a checkpoint in {path} ({error})") from error
    if found != identity:
        raise ValueError(f"checkpoint: expected a run of {identity}, got one of {found}")
    return state
