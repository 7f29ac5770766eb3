"""Labels beside the points of a scatter plot, placed so that no label covers another one, a point or a leader line.

Each label has candidate places around its point. The cost of a place counts what it covers; the cost of two places counts
where they, or the lines that lead to them, meet. Labels take the best place in turn until none moves, from several orders,
and the best result is kept. Nothing is random but the orders, and those are seeded: the same points give the same picture.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

DISTANCES = (4, 7, 11, 16, 22, 29, 37)  # points, from the centre of the marker to the edge of the label
ANGLES = np.linspace(0, 2 * np.pi, 16, endpoint=False) + np.pi / 4  # the upper right first
GAP = 1.0  # points around a label that are kept free
EDGE = 1.5  # points inside the edge of the axes that are kept free: text is a little wider in the PDF than on the canvas
SHORT = 5.0  # points from the marker; a label that is nearer needs no leader line, unless another marker is about as near
KEPT = 56  # places of each label that are considered, the best ones by themselves
ORDERS = 12
COSTS = {
    "outside": 1e4,  # the label leaves the axes
    "label": 1e3,  # two labels overlap
    "leader": 300.0,  # a leader line runs through a label
    "marker": 200.0,  # the label covers a marker
    "passed": 60.0,  # a leader line runs through another marker
    "crossing": 100.0,  # two leader lines cross
    "nearer": 5.0,  # another marker is nearer to the label
    "line": 3.0,  # each point of another line's length under the label
    "distance": 1.0,  # each point between marker and label
}
SAMPLES = np.linspace(0, 1, 13)  # of a leader line or another line, to see what it crosses


@dataclass(frozen=True)
class Places:
    """Candidate places of one label, in points on the canvas, all arrays of shape (places, 2).

    `low` and `high` are corners of the label, with GAP around it; `near` is where the leader line from `point` ends.
    """

    point: np.ndarray
    low: np.ndarray
    high: np.ndarray
    near: np.ndarray

    def of(self, indices: np.ndarray) -> "Places":
        """Some of the places."""
        return Places(self.point, self.low[indices], self.high[indices], self.near[indices])

    @property
    def leaders(self) -> np.ndarray:
        """Points along the leader lines, (places, samples, 2)."""
        return self.point + SAMPLES[:, None] * (self.near - self.point)[:, None]


def place(
    axes: Axes, points: np.ndarray, texts: list[Text], markers: np.ndarray, radius: float, lines: list[np.ndarray]
) -> None:
    """Move texts beside their points, and draw leader lines where it would not be clear whose they are.

    Args:
        axes: whose limits and place in the figure do not change any more.
        points: (texts, 2), in data coordinates.
        texts: of the axes, anywhere.
        markers: all points of the plot, also those without label, (markers, 2), in data coordinates.
        radius: of the markers, in points.
        lines: other lines that labels should not cover, each (2 or more, 2), in data coordinates.
    """
    scale = 72 / axes.figure.dpi  # points per pixel
    points, markers, *lines = (axes.transData.transform(array) * scale for array in (points, markers, *lines))
    inside = axes.get_window_extent().get_points() * scale + np.array([[EDGE], [-EDGE]])
    sizes = [np.array(text.get_window_extent().size) * scale for text in texts]
    if not texts:
        return
    candidates = [_places(point, size) for point, size in zip(points, sizes, strict=True)]
    costs = [_cost(places, markers, radius, lines, inside) for places in candidates]
    kept = [np.sort(np.argsort(cost, kind="stable")[:KEPT]) for cost in costs]
    candidates = [places.of(indices) for places, indices in zip(candidates, kept, strict=True)]
    chosen = _choose(np.stack([cost[indices] for cost, indices in zip(costs, kept, strict=True)]), candidates)
    to_data = axes.transData.inverted().transform
    for text, places, index in zip(texts, candidates, chosen, strict=True):
        text.set(ha="center", va="center")
        text.set_position(to_data((places.low[index] + places.high[index]) / 2 / scale))
        gap = np.linalg.norm(places.near[index] - places.point) - radius
        if gap > SHORT or _rivals(places, markers, radius, factor=2)[index]:
            line = _leader(places.point, places.near[index], markers, radius)
            _draw_leader(axes, to_data(line / scale))


def _leader(point: np.ndarray, near: np.ndarray, markers: np.ndarray, radius: float) -> np.ndarray:
    """From the edge of the marker to the label, (2, 2). From its centre where another marker overlaps it."""
    distances = np.linalg.norm(markers - point, axis=1)
    overlapped = ((distances > 1e-6) & (distances < 2 * radius)).any()
    direction = (near - point) / np.linalg.norm(near - point)
    return np.array([point if overlapped else point + radius * direction, near])


def _draw_leader(axes: Axes, line: np.ndarray) -> None:
    """Above the markers, with a light edge."""
    outline = [withStroke(linewidth=1.4, foreground="white")]
    axes.plot(*line.T, color="black", lw=0.5, zorder=3.5, path_effects=outline, solid_capstyle="butt")


def _places(point: np.ndarray, size: np.ndarray) -> Places:
    directions = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
    half = size / 2
    offsets = np.concatenate([directions * (distance + half) for distance in DISTANCES])
    centres = point + offsets
    near = np.clip(point, centres - half, centres + half)
    return Places(point, centres - half - GAP, centres + half + GAP, near)


def _cost(places: Places, markers: np.ndarray, radius: float, lines: list[np.ndarray], inside: np.ndarray) -> np.ndarray:
    """Cost of each place by itself, (places,)."""
    outside = ((places.low < inside[0]) | (places.high > inside[1])).any(axis=1)
    nearest = np.clip(markers, places.low[:, None], places.high[:, None])
    covered = (np.linalg.norm(nearest - markers, axis=2) < radius).sum(axis=1)
    others = markers[np.linalg.norm(markers - places.point, axis=1) > radius]
    passed = np.linalg.norm(places.leaders[:, :, None] - others, axis=3).min(axis=1, initial=np.inf) < radius
    crossed = sum(_inside(_dense(line), places).sum(axis=1) for line in lines) if lines else 0
    return (
        COSTS["outside"] * outside
        + COSTS["marker"] * covered
        + COSTS["passed"] * passed.sum(axis=1)
        + COSTS["line"] * crossed
        + COSTS["distance"] * np.linalg.norm(places.near - places.point, axis=1)
        + COSTS["nearer"] * _rivals(places, markers, radius)
    )


def _rivals(places: Places, markers: np.ndarray, radius: float, factor: float = 1.0) -> np.ndarray:
    """How many other markers are nearer to each label than `factor` times its own, (places,)."""
    others = markers[np.linalg.norm(markers - places.point, axis=1) > 1e-6]
    nearest = np.clip(others, places.low[:, None], places.high[:, None])
    own = np.linalg.norm(places.near - places.point, axis=1) - radius
    return (np.linalg.norm(nearest - others, axis=2) - radius < factor * own[:, None]).sum(axis=1)


def _dense(line: np.ndarray) -> np.ndarray:
    """Points along a line, about one per point of length."""
    steps = [np.linspace(a, b, max(2, int(np.linalg.norm(b - a)))) for a, b in pairwise(line)]
    return np.concatenate(steps)


def _inside(points: np.ndarray, places: Places) -> np.ndarray:
    """Which points, (points, 2) or (other places, samples, 2), are in which labels: (places, points)."""
    low, high = places.low[:, None], places.high[:, None]
    return ((points >= low) & (points <= high)).all(axis=2)


def _between(places: list[Places]) -> np.ndarray:
    """Cost of each pair of places of two labels, (labels, places, labels, places); 0 for a label and itself.

    All labels have the same number of places.
    """
    low, high = np.stack([one.low for one in places]), np.stack([one.high for one in places])
    leaders = np.stack([one.leaders for one in places])
    count, each = low.shape[:2]
    cost = np.zeros((count, each, count, each))
    for i in range(count):
        for j in range(i):
            if (low[i].min(axis=0) > high[j].max(axis=0)).any() or (low[j].min(axis=0) > high[i].max(axis=0)).any():
                continue  # too far from each other to meet
            overlap = ((low[i][:, None] < high[j]) & (low[j] < high[i][:, None])).all(axis=2)
            under_first = _runs_under(leaders[j], low[i], high[i])
            under_second = _runs_under(leaders[i], low[j], high[j]).T
            cost[i, :, j] = (
                COSTS["label"] * overlap
                + COSTS["leader"] * (under_first + under_second.astype(int))
                + COSTS["crossing"] * _cross(places[i], places[j])
            )
            cost[j, :, i] = cost[i, :, j].T
    return cost


def _runs_under(leaders: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which leader lines, (lines, samples, 2), run through which labels, (labels, 2): (labels, lines)."""
    x, y = leaders[..., 0], leaders[..., 1]
    inside = (x >= low[:, None, None, 0]) & (x <= high[:, None, None, 0])
    inside &= (y >= low[:, None, None, 1]) & (y <= high[:, None, None, 1])
    return inside.any(axis=2)


def _cross(first: Places, second: Places) -> np.ndarray:
    """Which leader lines of two labels cross, (first places, second places)."""

    def side(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        return np.sign((b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0]))

    a, b, c, d = first.point, first.near[:, None], second.point, second.near[None]
    return (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)


def _choose(alone: np.ndarray, places: list[Places]) -> list[int]:
    """The index of a place for each label, so that the sum of all costs, of places (labels, places) and pairs, is small."""
    count, pairs = len(places), _between(places)
    everyone = np.arange(count)
    generator, best, least = np.random.default_rng(0), [], np.inf
    for _ in range(ORDERS):
        chosen = alone.argmin(axis=1)
        order = generator.permutation(count)
        for _ in range(30):
            before = chosen.copy()
            for i in order:
                chosen[i] = (alone[i] + pairs[i][:, everyone, chosen].sum(axis=1)).argmin()
            if (chosen == before).all():
                break
        between = pairs[everyone[:, None], chosen[:, None], everyone, chosen].sum() / 2
        total = alone[everyone, chosen].sum() + between
        if total < least:
            best, least = chosen.tolist(), total
    return best
