"""The networks by name: raw, from standardised input to logits, without weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from bandlimit.errors import UserError, suggest

_CIFAR_DEPTHS = {f"cifar_resnet{depth}": depth for depth in (20, 32, 44, 56, 110)}
_TORCHVISION = ("resnet50", "resnet152", "vgg16", "vgg16_bn")

ARCHITECTURES: tuple[str, ...] = (
    *_CIFAR_DEPTHS,
    "strided_resnet8",
    *_TORCHVISION,
    "efficientnet_lite0",
)
"""The names that `build` knows."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (He et al. 2015, option A).

    Where the block halves the image, the shortcut takes each second pixel and adds channels of
    zeros, half of them before and half after those of its input.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        # A module for each activation, so that a forward hook can name each of them.
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.stride = stride
        self.added = outputs - inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of x, N x inputs x H x W."""
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        if self.added:
            before = self.added // 2
            # As x[:, :, ::2, ::2], with a gradient whose channels come last like all others: on
            # the CPU, kernels on two layouts take several times as long.
            x = F.avg_pool2d(x, 1, self.stride)
            x = F.pad(x, (0, 0, 0, 0, before, self.added - before))
        out: torch.Tensor = self.relu2(y + x)
        return out


class CifarResNet(nn.Module):
    """The residual networks for small images of He et al. 2015, section 4.2: depth is 6n + 2.

    Parameters are named as in the published CIFAR-10 checkpoints. The average over the last
    feature map is global, so that images of any size fit (28 x 28 as well as 32 x 32).

    Args:
        depth: number of layers with weights, of the residual path.
        classes: number of logits.
        channels: of the images.
        stride: of the first convolution; 2 halves the image before the first block, as the
            networks for large images of the same paper do, and saves three quarters of the sums.
    """

    def __init__(self, depth: int, *, classes: int, channels: int = 3, stride: int = 1) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(channels, 16, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = self._stage(16, 16, 1, blocks)
        self.layer2 = self._stage(16, 32, 2, blocks)
        self.layer3 = self._stage(32, 64, 2, blocks)
        self.linear = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
        first = BasicBlock(inputs, outputs, stride)
        return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N x classes) of standardised images (N x channels x H x W)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: torch.Tensor = self.linear(F.avg_pool2d(x, x.shape[2:]).flatten(1))
        return logits


def build(name: str, *, classes: int, channels: int = 3) -> nn.Module:
    """Return a network with fresh parameters: standardised N x channels x H x W -> N x classes.

    Raises:
        UserError: no architecture has this name, or it takes only images of 3 channels.
    """
    if name not in ARCHITECTURES:
        raise UserError(f"There is no architecture {name!r}; {suggest(name, ARCHITECTURES)}.")
    if name in _CIFAR_DEPTHS:
        return CifarResNet(_CIFAR_DEPTHS[name], classes=classes, channels=channels)
    if name == "strided_resnet8":
        return CifarResNet(8, classes=classes, channels=channels, stride=2)
    if channels != 3:
        raise UserError(
            f"The architecture {name!r} takes images of 3 channels, and {channels} were given; "
            "those named cifar_resnet and strided_resnet8 take any number."
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
    that is given is used up; its parameters keep their names, those kernels grow by one. What pads
    in another way is left as it is.
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
    return plain
