"""The networks by name: raw, from standardised input to logits, without weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from bandlimit.errors import UserError, suggest

_NO_BATCHNORM = "_no_batchnorm"
_SMALL_RESNETS = {
    **{f"cifar_resnet{depth}": (depth, 1) for depth in (20, 32, 44, 56, 110)},
    "strided_resnet8": (8, 2),
}
"""Depth and stride of the first convolution."""
_TORCHVISION = ("resnet50", "resnet152", "vgg16", "vgg16_bn")

ARCHITECTURES: tuple[str, ...] = (
    *_SMALL_RESNETS,
    *(name + _NO_BATCHNORM for name in _SMALL_RESNETS),
    "two_layer",
    *_TORCHVISION,
    "efficientnet_lite0",
)
"""The names that `build` knows."""

OF_ONE_SIZE: tuple[str, ...] = ("two_layer",)
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


def build(
    name: str, *, classes: int, channels: int = 3, sides: Sequence[int] | None = None
) -> nn.Module:
    """Return a network with fresh parameters: standardised N x channels x H x W -> N x classes.

    Args:
        name: one of `ARCHITECTURES`.
        classes: number of logits.
        channels: of the images.
        sides: height and width of the images; needed by those in `OF_ONE_SIZE` alone.

    Raises:
        UserError: no architecture has this name, it takes only images of 3 channels, or it needs
            the sides.
    """
    if name not in ARCHITECTURES:
        raise UserError(f"There is no architecture {name!r}; {suggest(name, ARCHITECTURES)}.")
    if name == "two_layer":
        if sides is None:
            raise UserError(
                f"The architecture {name!r} has a weight for each pixel and needs the height and "
                "width of the images; none were given."
            )
        return TwoLayer(channels * sides[0] * sides[1], classes=classes)
    plain = name.removesuffix(_NO_BATCHNORM)
    if plain in _SMALL_RESNETS:
        depth, stride = _SMALL_RESNETS[plain]
        return CifarResNet(
            depth, classes=classes, channels=channels, stride=stride, batchnorm=plain == name
        )
    if channels != 3:
        raise UserError(
            f"The architecture {name!r} takes images of 3 channels, and {channels} were given; "
            "those named cifar_resnet, strided_resnet8 and two_layer take any number."
        )
    if name in _TORCHVISION:
        import torchvision  # 3 s: paid only by the networks that come from it

        network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes)
        return network
    from efficientnet_lite_pytorch import EfficientNet

    efficientnet: nn.Module = EfficientNet.from_name("efficientnet-lite0", num_classes=classes)
    return efficientnet


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
