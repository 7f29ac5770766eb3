"""Units: pixels lie in [0, 1], and an attack budget epsilon is counted in 1/255 of that range."""

LEVELS = 255


def distance(epsilon):
    """The l2 distance, in pixels of the range [0, 1], of an `epsilon` counted in 1/255; numbers or arrays."""
    return epsilon / LEVELS


def pixels(images):
    """uint8 images as pixels in [0, 1]: numpy arrays become float64, torch tensors float32."""
    return images.float() / LEVELS if hasattr(images, "requires_grad") else images / LEVELS


def exact_pixels(images):
    """torch images as float64 pixels in [0, 1]: k / 255 correctly rounded for uint8 images, floating ones as they are."""
    exact = images.double()
    # by a tensor: for a Python number, GPUs multiply by 1 / 255, which is rounded as well
    return exact if images.is_floating_point() else exact / exact.new_tensor(LEVELS)
