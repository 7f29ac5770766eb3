"""LiST, Lipschitz Scaling Training: tune the Lipschitz constant of a network by temperature scaling.

The paper's idea is `lipscale.method.feedback`; the scaled 1-Lipschitz networks it acts on are `lipscale.networks.network` and
`lipscale.method.budget`. Modules are imported one by one, so that drawing a figure does not load torch.
"""

__version__ = "0.1.0"
