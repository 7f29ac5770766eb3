"""Units: pixels lie in [0, 1], and an attack budget epsilon is counted in 1/255 of that range."""

LEVELS = 255


def distance(epsilon):
    """The l2 distance, in pixels of the range [0, 1], of an `epsilon` counted in 1/255; numbers or arrays."""
    return epsilon / LEVELS


def pixels(images):
    """uint8 images as pixels in [0, 1]: numpy arrays become float64, torch tensors float32."""
    return images.float() / LEVELS if hasattr(images, "requires_grad") else images / LEVELS
