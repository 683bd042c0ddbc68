"""The networks by name: raw, from standardised input to logits, without weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from bandlimit.errors import UserError, suggest
from bandlimit.files import own_code
from bandlimit.models.kinds import (
    ARCHITECTURES,
    NO_BATCHNORM,
    SMALL_RESNETS,
    TORCHVISION,
    check_architecture,
    library,
)

OF_ONE_SIZE: tuple[str, ...] = (
    "small_cnn",
    "small_cnn_no_batchnorm",
    "two_layer",
    "fully_connected",
    "lenet",
    "cifar_alexnet",
)
"""Those whose weights depend on the height and width of the images."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (He et al. 2015, option A).

    Where the block halves the image, the shortcut takes each second pixel and adds channels of
    zeros, half of them before and half after those of its input. Without BatchNorm the
    convolutions have biases.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, batchnorm: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=not batchnorm)
        self.bn1 = nn.BatchNorm2d(outputs) if batchnorm else None
        # A module for each activation, so that a forward hook can name each of them.
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=not batchnorm)
        self.bn2 = nn.BatchNorm2d(outputs) if batchnorm else None
        self.relu2 = nn.ReLU()
        self.stride = stride
        self.added = outputs - inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of x, N x inputs x H x W."""
        y = self.relu1(_normalised(self.conv1(x), self.bn1))
        y = _normalised(self.conv2(y), self.bn2)
        if self.added:
            before = self.added // 2
            # As x[:, :, ::2, ::2], with a gradient whose channels come last like all others: on
            # the CPU, kernels on two layouts take several times as long.
            x = F.avg_pool2d(x, 1, self.stride)
            x = F.pad(x, (0, 0, 0, 0, before, self.added - before))
        out: torch.Tensor = self.relu2(y + x)
        return out


def _normalised(x: torch.Tensor, norm: nn.BatchNorm2d | None) -> torch.Tensor:
    return x if norm is None else norm(x)


class CifarResNet(nn.Module):
    """The residual networks for small images of He et al. 2015, section 4.2: depth is 6n + 2.

    Parameters are named as in the published CIFAR-10 checkpoints. The average over the last
    feature map is global, so that images of any size fit (28 x 28 as well as 32 x 32).

    Without BatchNorm, nothing keeps the features of one size: each block adds a path of the
    variance of its input, and they would double from block to block. So the last convolution of
    each of the B blocks starts smaller by sqrt(B), after which the variance grows by less than e
    over all of them, and the biases start at 0. Nothing else is added, so that the two networks
    differ by BatchNorm alone. Adam trains them at a learning rate of 1e-3.

    Args:
        depth: number of layers with weights, of the residual path.
        classes: number of logits.
        channels: of the images.
        stride: of the first convolution; 2 halves the image before the first block, as the
            networks for large images of the same paper do, and saves three quarters of the sums.
        batchnorm: whether each convolution is followed by BatchNorm; else it has a bias.
    """

    def __init__(
        self,
        depth: int,
        *,
        classes: int,
        channels: int = 3,
        stride: int = 1,
        batchnorm: bool = True,
    ) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(channels, 16, 3, stride=stride, padding=1, bias=not batchnorm)
        self.bn1 = nn.BatchNorm2d(16) if batchnorm else None
        self.relu = nn.ReLU()
        self.layer1 = self._stage(16, 16, 1, blocks, batchnorm)
        self.layer2 = self._stage(16, 32, 2, blocks, batchnorm)
        self.layer3 = self._stage(32, 64, 2, blocks, batchnorm)
        self.linear = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        if not batchnorm:
            self._balance(3 * blocks)

    @staticmethod
    def _stage(
        inputs: int, outputs: int, stride: int, blocks: int, batchnorm: bool
    ) -> nn.Sequential:
        first = BasicBlock(inputs, outputs, stride, batchnorm=batchnorm)
        others = (BasicBlock(outputs, outputs, 1, batchnorm=batchnorm) for _ in range(blocks - 1))
        return nn.Sequential(first, *others)

    def _balance(self, blocks: int) -> None:
        """Start the residual paths small and the biases of the convolutions at 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
            if isinstance(module, BasicBlock):
                with torch.no_grad():
                    module.conv2.weight.mul_(blocks**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N x classes) of standardised images (N x channels x H x W)."""
        x = self.relu(_normalised(self.conv1(x), self.bn1))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: torch.Tensor = self.linear(F.avg_pool2d(x, x.shape[2:]).flatten(1))
        return logits


class TwoLayer(nn.Module):
    """A rectified input layer, 500 sigmoids, and an outer layer that is not trained.

    "A frequency domain analysis of gradient-based adversarial examples", figure 11: an input
    layer of the image's size followed by a ReLU, a hidden layer of 500 followed by a sigmoid, and
    an outer layer whose parameters are not trained. Read to the letter, the ReLU acts on the input
    itself: it changes no pixel where the normalisation has mean 0 and std 1, as the document's
    data do without any training tricks; with another mean it cuts off what is darker. It passes no
    gradient where its input is 0 or less, black pixels included.

    The weights of the outer layer are signs drawn with equal chances, as in its section 2.1 (a
    Bernoulli distribution), over sqrt(500), so that logits start near 1; it has no bias. They are
    saved like all others.

    Args:
        inputs: values of an image, C H W.
        classes: number of logits.
    """

    HIDDEN = 500

    def __init__(self, inputs: int, *, classes: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.hidden = nn.Linear(inputs, self.HIDDEN)
        self.sigmoid = nn.Sigmoid()
        self.outer = nn.Linear(self.HIDDEN, classes, bias=False)
        with torch.no_grad():
            self.outer.weight.bernoulli_(0.5).sub_(0.5).mul_(2 * self.HIDDEN**-0.5)
        self.outer.weight.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N x classes) of standardised images (N x C x H x W)."""
        logits: torch.Tensor = self.outer(self.sigmoid(self.hidden(self.relu(x.flatten(1)))))
        return logits


def _started(network: nn.Module) -> None:
    """Start the weights of all layers by He et al. 2015, for ReLUs, and the biases at 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """Return a convolution that keeps the size of the image over its stride, and a ReLU."""
    padding = kernel // 2
    return [nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding), nn.ReLU()]


class SmallCNN(nn.Module):
    """Two strided convolutions and a linear layer: a plain network that trains in seconds.

    A design of our own, for experiments that train many networks on a core. Kernels of 3 x 3, 16 of
    them in the first layer, as in the ResNets for small images (He et al. 2015, section 4.2) and in
    "High-frequency Component Helps Explain the Generalization of Convolutional Neural Networks",
    figure 7. Each layer halves the image, the first one too, whose sums over few channels are dear.
    The last one sees features at their places, by which it learns without BatchNorm as well: with
    the average over places in its stead, that took several times as many epochs.

    Args:
        sides: height and width of the images.
        classes: number of logits.
        channels: of the images.
        batchnorm: whether each convolution is followed by BatchNorm; else it has a bias.
    """

    def __init__(
        self, sides: Sequence[int], *, classes: int, channels: int, batchnorm: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, stride=2, padding=1, bias=not batchnorm)
        self.bn1 = nn.BatchNorm2d(16) if batchnorm else None
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=not batchnorm)
        self.bn2 = nn.BatchNorm2d(32) if batchnorm else None
        self.relu2 = nn.ReLU()
        self.linear = nn.Linear(32 * math.prod(_halved(side, 2) for side in sides), classes)
        _started(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N x classes) of standardised images (N x channels x H x W)."""
        x = self.relu1(_normalised(self.conv1(x), self.bn1))
        x = self.relu2(_normalised(self.conv2(x), self.bn2))
        logits: torch.Tensor = self.linear(x.flatten(1))
        return logits


class FullyConnected(nn.Module):
    """A hidden layer of 200 ReLUs: 784-200-10 on images of 28 x 28 pixels and ten classes.

    The plain network without convolutions beside which the frequency principle is shown.

    Args:
        inputs: values of an image, C H W.
        classes: number of logits.
    """

    HIDDEN = 200

    def __init__(self, inputs: int, *, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, self.HIDDEN)
        self.relu = nn.ReLU()
        self.linear = nn.Linear(self.HIDDEN, classes)
        _started(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N x classes) of standardised images (N x channels x H x W)."""
        logits: torch.Tensor = self.linear(self.relu(self.hidden(x.flatten(1))))
        return logits


def _halved(side: int, times: int) -> int:
    """Return a side that is halved some times, rounded up."""
    return math.ceil(side / 2**times)


class LeNet(nn.Module):
    """LeNet-5: 6 and 16 kernels of 5 x 5, then layers of 120 and 84.

    LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document
    recognition", section II.B. As is usual today, with ReLUs in place of sigmoids, the largest of
    four features in place of their trained mean, and all features of the first layer seen by each
    kernel of the second. Smaller images than 32 x 32 are padded by two pixels on each side, as
    there.

    Args:
        sides: height and width of the images.
        classes: number of logits.
        channels: of the images.

    Raises:
        UserError: a side is below `LEAST`.
    """

    LEAST = 12

    def __init__(self, sides: Sequence[int], *, classes: int, channels: int) -> None:
        super().__init__()
        if min(sides) < self.LEAST:
            raise UserError(
                f"The architecture 'lenet' takes images of at least {self.LEAST} x {self.LEAST} "
                f"pixels, and {sides[0]} x {sides[1]} were given."
            )
        padding = 2 if min(sides) < 32 else 0
        left = [((side + 2 * padding - 4) // 2 - 4) // 2 for side in sides]
        self.features = nn.Sequential(
            nn.Conv2d(channels, 6, 5, padding=padding),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.hidden = nn.Sequential(
            nn.Linear(16 * math.prod(left), 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()
        )
        self.linear = nn.Linear(84, classes)
        _started(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N x classes) of standardised images (N x channels x H x W)."""
        logits: torch.Tensor = self.linear(self.hidden(self.features(x).flatten(1)))
        return logits


class CifarAlexNet(nn.Module):
    """AlexNet for small images.

    Krizhevsky, Sutskever and Hinton 2012, "ImageNet classification with deep convolutional neural
    networks", section 3.5. Five convolutions and three linear layers with its three pools, of a
    quarter of its widths, the linear ones a sixteenth. Its first kernels of 11 x 11 at stride 4
    become 5 x 5 at stride 2, and pools do not overlap. Response normalisation is left out; dropout
    belongs to a recipe.

    Args:
        sides: height and width of the images.
        classes: number of logits.
        channels: of the images.
    """

    def __init__(self, sides: Sequence[int], *, classes: int, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_convolution(channels, 24, 5, 2),
            nn.MaxPool2d(2, ceil_mode=True),
            *_convolution(24, 64, 5),
            nn.MaxPool2d(2, ceil_mode=True),
            *_convolution(64, 96),
            *_convolution(96, 96),
            *_convolution(96, 64),
            nn.MaxPool2d(2, ceil_mode=True),
        )
        left = 64 * math.prod(_halved(side, 4) for side in sides)
        self.hidden = nn.Sequential(nn.Linear(left, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
        self.linear = nn.Linear(256, classes)
        _started(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N x classes) of standardised images (N x channels x H x W)."""
        logits: torch.Tensor = self.linear(self.hidden(self.features(x).flatten(1)))
        return logits


class CifarVGG11(nn.Module):
    """VGG-11 for small images.

    Simonyan and Zisserman 2015 (arXiv:1409.1556), table 1, configuration A. Its eight convolutions
    of 3 x 3 and five pools, of a quarter of its widths. What the last pool leaves of a small image
    is one place, so that one linear layer follows in place of three; of larger images it is
    averaged.

    Args:
        classes: number of logits.
        channels: of the images.
    """

    STAGES = ((16,), (32,), (64, 64), (128, 128), (128, 128))

    def __init__(self, *, classes: int, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stage in self.STAGES:
            for width in stage:
                layers += _convolution(channels, width)
                channels = width
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(channels, classes)
        _started(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N x classes) of standardised images (N x channels x H x W)."""
        x = self.features(x)
        logits: torch.Tensor = self.linear(F.avg_pool2d(x, x.shape[2:]).flatten(1))
        return logits


def build(
    name: str,
    *,
    classes: int,
    channels: int = 3,
    sides: Sequence[int] | None = None,
    own_code: Mapping[str, str] | None = None,
) -> nn.Module:
    """Return a network with fresh parameters: standardised N x channels x H x W -> N x classes.

    Args:
        name: one of `kinds.ARCHITECTURES`, 'torchvision:NAME', 'timm:NAME', or
            'path/to/file.py:build', which is called with `classes` and `channels` by keyword.
        classes: number of logits.
        channels: of the images.
        sides: height and width of the images; needed by those in `OF_ONE_SIZE` alone.
        own_code: the sha256 of the files of the user's own code that it was planned with; None
            checks nothing.

    Raises:
        UserError: no architecture has this name, it takes only images of 3 channels, it needs the
            sides, or larger ones, or code of the user's own makes no network or was changed.
    """
    if name not in ARCHITECTURES:
        return _from_elsewhere(name, classes, channels, own_code)
    plain = name.removesuffix(NO_BATCHNORM)
    if name in OF_ONE_SIZE:
        if sides is None:
            raise UserError(
                f"The architecture {name!r} has weights for images of one size and needs their "
                "height and width; none were given."
            )
        if name == "two_layer":
            return TwoLayer(channels * sides[0] * sides[1], classes=classes)
        if name == "fully_connected":
            return FullyConnected(channels * sides[0] * sides[1], classes=classes)
        if plain == "small_cnn":
            return SmallCNN(sides, classes=classes, channels=channels, batchnorm=plain == name)
        kind = LeNet if name == "lenet" else CifarAlexNet
        return kind(sides, classes=classes, channels=channels)
    if name == "cifar_vgg11":
        return CifarVGG11(classes=classes, channels=channels)
    if plain in SMALL_RESNETS:
        depth, stride = SMALL_RESNETS[plain]
        return CifarResNet(
            depth, classes=classes, channels=channels, stride=stride, batchnorm=plain == name
        )
    if channels != 3:
        raise UserError(
            f"The architecture {name!r} takes images of 3 channels, and {channels} were given; "
            "all but those of torchvision and efficientnet_lite0 take any number."
        )
    if name in TORCHVISION:
        import torchvision  # 3 s: paid only by the networks that come from it

        network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes)
        return network
    from efficientnet_lite_pytorch import EfficientNet

    efficientnet: nn.Module = EfficientNet.from_name("efficientnet-lite0", num_classes=classes)
    return efficientnet


def _from_elsewhere(
    name: str, classes: int, channels: int, known: Mapping[str, str] | None
) -> nn.Module:
    """Return a network of a package, or of the user's own code."""
    check_architecture(name, "The architecture")
    named = library(name)
    if named and named[0] == "torchvision":
        return _of_torchvision(named[1], classes, channels)
    if named:
        return _of_timm(named[1], classes, channels)
    network = own_code.load(name, "The architecture", known)(classes=classes, channels=channels)
    if not isinstance(network, nn.Module):
        raise UserError(
            f"The architecture {name!r} must return a torch.nn.Module when it is called with "
            f"classes={classes} and channels={channels}, and it returned {type(network).__name__}."
        )
    return network


def _of_torchvision(name: str, classes: int, channels: int) -> nn.Module:
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UserError(
            f"torchvision has no classifier 'torchvision:{name}'; {suggest(name, known)}."
        )
    if channels != 3:
        raise UserError(
            f"The architecture 'torchvision:{name}' takes images of 3 channels, and {channels} "
            "were given."
        )
    # Further outputs that some have are for training.
    more = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    network: nn.Module = torchvision.models.get_model(
        name, weights=None, num_classes=classes, **more
    )
    return network


def _of_timm(name: str, classes: int, channels: int) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise UserError(
            f"The architecture 'timm:{name}' needs the package timm, which is not installed; "
            "'uv pip install timm' in the environment, or the extra 'bandlimit[timm]', brings it."
        ) from error
    if name not in timm.list_models():
        raise UserError(f"timm has no model 'timm:{name}'; {suggest(name, timm.list_models())}.")
    network: nn.Module = timm.create_model(
        name, pretrained=False, num_classes=classes, in_chans=channels
    )
    return network


def with_own_padding(network: nn.Module) -> nn.Module:
    """Return the network with each convolution that a layer pads in the form of a plain one.

    EfficientNet pads by a layer within its convolution, since it pads one side more than the other
    where it halves the image; that copies every feature map. A kernel with a row and a column of
    zeros put before its weights, padded alike on all sides, computes the same sums. The network
    that is given is used up; its parameters keep their names, those kernels grow by one, and what
    pads in another way is left as it is. The attribute `zeros_before` of a plain convolution counts
    the rows and columns of zeros.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            plain = _plain(child) if isinstance(child, nn.Conv2d) else None
            if plain is not None:
                setattr(parent, name, plain)
    return network


def _plain(convolution: nn.Conv2d) -> nn.Conv2d | None:
    """Return a plain convolution for one with a layer of zeros before it, or None for others.

    The layer must pad no side less than the one before it, as those of EfficientNet do.
    """
    layer = getattr(convolution, "static_padding", None)
    if isinstance(layer, nn.ZeroPad2d):
        left, right, top, bottom = layer.padding
    elif type(layer).__name__ == "Identity":  # EfficientNet has one of its own
        left = right = top = bottom = 0
    else:
        return None
    if (
        right < left
        or bottom < top
        or convolution.dilation != (1, 1)
        or convolution.padding_mode != "zeros"
        or isinstance(convolution.padding, str)
    ):
        return None
    weight = F.pad(convolution.weight, (right - left, 0, bottom - top, 0))
    plain = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        (weight.shape[2], weight.shape[3]),
        stride=(convolution.stride[0], convolution.stride[1]),
        padding=(bottom + int(convolution.padding[0]), right + int(convolution.padding[1])),
        groups=convolution.groups,
        bias=False,
    )
    plain.weight = nn.Parameter(weight, requires_grad=convolution.weight.requires_grad)
    plain.bias = convolution.bias
    plain.zeros_before = (bottom - top, right - left)  # type: ignore[assignment]
    return plain
