"""l2 attacks in training: normalised gradient steps, kept in the ball around each image and in the pixel range.

Attacks take gradients with respect to images only: those of parameters, and the mode of the network, stay as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from lipscale.training.shares import normal_like, uniform_for
from lipscale.units import distance

Forward = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Ball:
    """The points within an l2 distance of each image, and in the pixel range.

    Attributes:
        images: (B, C, H, W), pixels in [0, 1].
        radius: l2 distance, pixels.
        steps: number of gradient steps of an attack.
        length: of a gradient step, pixels.
    """

    images: torch.Tensor
    radius: float
    steps: int
    length: float

    @classmethod
    def of(cls, images: torch.Tensor, settings) -> "Ball":
        """With `epsilon` (in 1/255), `steps` and `relative_step` of an objective's settings."""
        radius = distance(settings.epsilon)
        return cls(images, radius, settings.steps, settings.relative_step * radius / settings.steps)

    def project(self, points: torch.Tensor) -> torch.Tensor:
        """To the ball, then to the pixel range, which moves no point away from its image."""
        offset = points - self.images
        shrink = (self.radius / _norms(offset).clamp(min=torch.finfo(offset.dtype).tiny)).clamp(max=1)
        return (self.images + shrink * offset).clamp(0, 1)

    def random_point(self) -> torch.Tensor:
        """In a random direction from each image, at a distance that is uniform up to the radius."""
        direction = _normalised(normal_like(self.images))
        share = uniform_for(self.images)
        return self.project(self.images + self.radius * share[:, None, None, None] * direction)

    def step(self, points: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """One step along the normalised gradient."""
        return self.project(points + self.length * _normalised(gradient))


def ascend(forward: Forward, losses: Forward, start: torch.Tensor, ball: Ball) -> torch.Tensor:
    """The last point of projected gradient ascent on `losses(forward(points))`, (B, C, H, W), without gradient.

    Args:
        forward: computes logits of points.
        losses: the loss of each image, (B,), from logits.
        start: the first points, in the ball.
    """
    points = start
    for _ in range(ball.steps):
        points = ball.step(points, gradient_and_logits(forward, losses, points)[0])
    return points


def gradient_and_logits(forward: Forward, losses: Forward, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of each image's loss at its point, (B, C, H, W), and the logits there, both without gradient."""
    points = points.detach().requires_grad_()
    logits = forward(points)
    (gradient,) = torch.autograd.grad(losses(logits).sum(), points)
    return gradient, logits.detach()


def _norms(tensor: torch.Tensor) -> torch.Tensor:
    """l2 norm of each image, (B, 1, 1, 1)."""
    return tensor.flatten(1).norm(dim=1)[:, None, None, None]


def _normalised(tensor: torch.Tensor) -> torch.Tensor:
    """Each image divided by its l2 norm; zeros stay. Scaled first, so that no square of a tiny entry rounds to 0."""
    tiny = torch.finfo(tensor.dtype).tiny
    scaled = tensor / tensor.flatten(1).abs().amax(1).clamp(min=tiny)[:, None, None, None]
    return scaled / _norms(scaled).clamp(min=tiny)
