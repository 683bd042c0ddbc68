"""A defence: the image at a random size, in a random place, before the classifier sees it."""

import torch
import torch.nn.functional as F
from torch import nn


class RandomResize(nn.Module):
    def __init__(self, classifier, smallest=22):
        super().__init__()
        self.classifier, self.smallest = classifier, smallest

    def forward(self, x):
        side = x.shape[-1]
        size = int(torch.randint(self.smallest, side + 1, ()))
        small = F.interpolate(x, size=size, mode="bilinear")
        left, top = torch.randint(side - size + 1, (2,)).tolist()
        right, bottom = side - size - left, side - size - top
        return self.classifier(F.pad(small, (left, right, top, bottom)))
