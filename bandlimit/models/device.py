"""The device that a job runs on."""

from __future__ import annotations

import torch

from bandlimit.errors import UserError, suggest
from bandlimit.models import cards


def choose_device(name: str) -> torch.device:
    """Return the device called auto, cpu or cuda; auto is the card if there is one.

    For a card, TF32 and algorithms that vary from run to run are turned off in this process. Of
    several cards it is one that no other job has (`cards`), from then on the current one.

    Raises:
        UserError: another name, or cuda without a card.
    """
    if name == "cpu" or not is_present(name):
        return torch.device("cpu")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    count = torch.cuda.device_count()
    if count > 1:
        uuids = [str(torch.cuda.get_device_properties(i).uuid) for i in range(count)]
        torch.cuda.set_device(cards.take(uuids))
    return torch.device("cuda")


def is_present(name: str) -> bool:
    """Return whether there is a card, for the device called auto, cpu or cuda; takes none.

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
    return present
