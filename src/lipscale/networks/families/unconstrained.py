"""Layers without a constraint, for the network that LiST is compared with."""

from torch import nn

from lipscale.networks.families import base

CONSTRAINED = False
ORTHOGONAL = False

dense = nn.Linear
conv = nn.Conv2d
plain = base.plain
