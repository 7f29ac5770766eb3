"""LiST, Lipschitz Scaling Training: tune the Lipschitz constant of a network by temperature scaling.

In a training loop of your own, LipschitzFeedback measures the temperature T* of validation logits after each epoch and gives
the next Lipschitz constant, L / T*. `export` turns the trained network into plain layers, `certify` computes radii::

    import lipscale

    feedback = lipscale.LipschitzFeedback()
    for epoch in range(epochs):
        train_one_epoch(network)  # 1-Lipschitz layers, then scale = lipscale.Scale(L)
        update = feedback.update(scale.scale, network(validation_images), validation_labels)
        scale.scale = update.next_lipschitz
    plain = lipscale.export(network, image_shape)
    lipscale.certify(plain, test_images, test_labels).accuracy(epsilon=36)

Names are imported when they are first used, so that `import lipscale` alone loads neither torch nor numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lipscale.attacks.falsification import falsify as falsify
    from lipscale.certification.certificate import Certificate as Certificate
    from lipscale.certification.certificate import certificate as certificate
    from lipscale.certification.certified_calibration import CertifiedCalibration as CertifiedCalibration
    from lipscale.certification.certified_calibration import certified_calibration as certified_calibration
    from lipscale.certification.certify import Certification as Certification
    from lipscale.certification.certify import certify as certify
    from lipscale.certification.export import export as export
    from lipscale.certification.model_file import save as save
    from lipscale.certification.plain_layers import Centre as Centre
    from lipscale.certification.plain_layers import GroupSort2 as GroupSort2
    from lipscale.certification.plain_layers import PlainNetwork as PlainNetwork
    from lipscale.certification.plain_layers import Residual as Residual
    from lipscale.certification.plain_layers import Scale as Scale
    from lipscale.errors import LipscaleError as LipscaleError
    from lipscale.evaluation.metrics import expected_calibration_error as expected_calibration_error
    from lipscale.method.budget import LipschitzBudget as LipschitzBudget
    from lipscale.method.feedback import LipschitzFeedback as LipschitzFeedback
    from lipscale.method.feedback import Update as Update
    from lipscale.method.offset import logit_offset as logit_offset
    from lipscale.method.offset import offset_logits as offset_logits
    from lipscale.method.temperature import fit_temperature as fit_temperature
    from lipscale.networks.maxmin import MaxMin as MaxMin
    from lipscale.networks.network import LipschitzNetwork as LipschitzNetwork
    from lipscale.networks.network import build_network as build_network
    from lipscale.published import load as load

__version__ = "0.1.0"

_MODULES = {
    "Centre": "certification.plain_layers",
    "Certificate": "certification.certificate",
    "Certification": "certification.certify",
    "CertifiedCalibration": "certification.certified_calibration",
    "GroupSort2": "certification.plain_layers",
    "LipscaleError": "errors",
    "LipschitzBudget": "method.budget",
    "LipschitzFeedback": "method.feedback",
    "LipschitzNetwork": "networks.network",
    "MaxMin": "networks.maxmin",
    "PlainNetwork": "certification.plain_layers",
    "Residual": "certification.plain_layers",
    "Scale": "certification.plain_layers",
    "Update": "method.feedback",
    "build_network": "networks.network",
    "certificate": "certification.certificate",
    "certified_calibration": "certification.certified_calibration",
    "certify": "certification.certify",
    "expected_calibration_error": "evaluation.metrics",
    "export": "certification.export",
    "falsify": "attacks.falsification",
    "fit_temperature": "method.temperature",
    "load": "published",
    "logit_offset": "method.offset",
    "offset_logits": "method.offset",
    "save": "certification.model_file",
}

__all__ = [*sorted(_MODULES), "__version__"]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
