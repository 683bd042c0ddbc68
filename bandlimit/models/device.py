"""The device that a job runs on."""

from __future__ import annotations

import torch

from bandlimit.errors import UserError, suggest


def choose_device(name: str) -> torch.device:
    """Return the device called auto, cpu or cuda; auto is the card if there is one.

    For a card, TF32 and algorithms that vary from run to run are turned off in this process.

    Raises:
        UserError: another name, or cuda without a card.
    """
    names = ("auto", "cpu", "cuda")
    if name not in names:
        raise UserError(f"There is no device {name!r}; {suggest(name, names)}.")
    present = torch.cuda.is_available()
    if name == "cuda" and not present:
        raise UserError(
            "The device 'cuda' was asked for, and PyTorch finds no card on this machine; "
            "'auto' and 'cpu' are possible."
        )
    if name == "cpu" or not present:
        return torch.device("cpu")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    return torch.device("cuda")
