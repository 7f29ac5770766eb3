"""What a module runs besides the code of its class.

A copy of its layers would not have that, and bounds of its layers do not cover it. `Module.compile` is no addition, as it keeps
the function.
"""

from torch import nn
from torch.nn.modules import module as torch_module

from lipscale.errors import LipscaleError


def addition(module: nn.Module) -> str:
    """A hook or a method of its own, in words; empty if there is nothing. Hooks on gradients do not count."""
    if module._forward_hooks or module._forward_pre_hooks:
        return "a hook"
    if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks:
        return "a hook for all modules"
    own = [name for name in vars(module) if callable(getattr(type(module), name, None))]
    return f"a {own[0]} of its own" if own else ""


def check_additions(network: nn.Module) -> None:
    """Raises LipscaleError where something besides the layers would run."""
    for name, module in network.named_modules():
        if not (added := addition(module)):
            continue
        where = f"layer {name}" if name else "the network"
        if {type(hook).__name__ for hook in module._forward_pre_hooks.values()} & {"SpectralNorm", "WeightNorm"}:
            raise LipscaleError(
                f"{where} has the weights of torch.nn.utils.spectral_norm or weight_norm, set by a hook; allowed: those "
                "of torch.nn.utils.parametrizations"
            )
        raise LipscaleError(f"{where} ({type(module).__name__}) has {added}, which a copy would not have; allowed: none")
