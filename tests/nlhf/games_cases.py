"""Shared by the tests of games."""

import torch

F64 = torch.float64
