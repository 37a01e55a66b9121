"""Devices by name, asked for before anything is moved to them."""

import torch


def usable(device: str | torch.device) -> torch.device:
    """The device of that name, with its number; ValueError if there is none, or it does not work."""
    try:
        return torch.zeros(1, device=device).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: a PyTorch built without that device
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"device {str(device)!r} cannot be used ({reason})") from error
