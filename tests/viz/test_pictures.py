"""Pictures are valid PNG and GIF files that show what they were given."""

import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import imread
from PIL import Image

from tinygen import viz
from tinygen.errors import OutputError, ShapeError

seeds = st.integers(0, 2**32 - 1)
BOX = np.array([[-2.0, -2.0], [2.0, 2.0]])


def pixels(figure):
    """The picture as a person sees it, ``(H, W, 3)`` in [0, 1]."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    return imread(io.BytesIO(buffer.getvalue()))[..., :3]


def image_on(figure, axes=0):
    return np.asarray(figure.axes[axes].images[0].get_array())


@given(
    seed=seeds,
    n=st.integers(1, 12),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3])),
    columns=st.none() | st.integers(1, 7),
    gap=st.integers(0, 2),
)
def test_tile_puts_every_image_in_its_place(seed, n, shape, columns, gap):
    images = np.random.default_rng(seed).uniform(0.1, 0.9, (n, *shape)).astype(np.float32)
    mosaic = viz.tile(images, columns, gap)
    h, w, c = shape
    across = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / across)
    assert mosaic.shape == (rows * (h + gap) - gap, across * (w + gap) - gap, c)
    covered = np.zeros(mosaic.shape[:2], bool)
    for i, image in enumerate(images):
        y, x = (i // across) * (h + gap), (i % across) * (w + gap)
        assert np.array_equal(mosaic[y : y + h, x : x + w], image)
        covered[y : y + h, x : x + w] = True
    assert (mosaic[~covered] == (0 if c == 1 else 1)).all()


@pytest.mark.parametrize("shape", [(4, 5), (0, 4, 4, 1), (3, 4, 4, 2)])
def test_tile_refuses_what_is_not_images(shape):
    with pytest.raises(ShapeError, match="N,H,W,C"):
        viz.tile(np.zeros(shape, np.float32))


def test_images_outside_the_range_are_clipped():
    images = np.array([-3.0, 0.5, 7.0], np.float32).reshape(3, 1, 1, 1)
    assert image_on(viz.image_grid(images, columns=3, gap=0)).tolist() == [[0, 0.5, 1]]


def test_reconstructions_stand_below_their_data():
    x, y = np.zeros((4, 3, 3, 1), np.float32), np.ones((4, 3, 3, 1), np.float32)
    shown = image_on(viz.reconstructions(x, y))
    assert shown[:3].max() == 0
    assert shown[-3:, :3].min() == 1


def test_latent_plane_covers_the_prior_evenly():
    seen = []

    def decode(z):
        seen.append(z)
        return np.zeros((len(z), 2, 2, 1), np.float32)

    viz.latent_plane(decode, side=8)
    across, up = seen[0].T.reshape(2, 8, 8)
    cdf = np.vectorize(lambda v: (1 + math.erf(v / math.sqrt(2))) / 2)
    shares = (np.arange(8) + 0.5) / 8
    assert np.allclose(cdf(across), shares, atol=1e-6)
    assert np.allclose(cdf(up), shares[::-1, None], atol=1e-6)  # the first row is at the top of the picture


def test_latent_walk_starts_and_ends_at_the_codes():
    codes = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    seen = []

    def decode(z):
        seen.append(z)
        return np.zeros((len(z), 2, 2, 1), np.float32)

    viz.latent_walk(decode, codes, steps=5)
    rows = seen[0].reshape(2, 5, 4)
    assert np.array_equal(rows[:, 0], codes[:-1])
    assert np.array_equal(rows[:, -1], codes[1:])
    assert np.allclose(rows[:, 2], (codes[:-1] + codes[1:]) / 2, atol=1e-6)


def test_denoising_strip_has_a_row_for_each_sample():
    frames = np.random.default_rng(0).uniform(size=(3, 2, 4, 4, 1)).astype(np.float32)
    figure = viz.denoising_strip(frames, ["a", "b", "c"])
    shown = image_on(figure)
    assert np.array_equal(shown[:4, :4], frames[0, 0, ..., 0])
    assert np.array_equal(shown[6:10, 12:16], frames[2, 1, ..., 0])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["a", "b", "c"]


def test_density_map_is_the_right_way_up():
    def log_prob(x):  # all mass in the upper left quarter
        return np.where((x[:, 0] < 0) & (x[:, 1] > 0), 0.0, -np.inf)

    shown = pixels(viz.density_map(log_prob, BOX, resolution=20)).mean(-1)
    middle = shown[len(shown) // 8 : -len(shown) // 8]
    bright = np.argwhere((middle > middle.min() + 0.3) & (middle < 0.999)).mean(0)
    assert bright[0] < len(middle) / 2
    assert bright[1] < middle.shape[1] / 2


def test_density_beside_data_shows_the_truth_if_it_is_known():
    rng = np.random.default_rng(0)

    def normal(x):
        return -0.5 * (x**2).sum(1)

    def wide(x):
        return -0.1 * (x**2).sum(1)

    data = rng.normal(size=(50, 2))
    assert len(viz.density_beside_data(data, wide, BOX).axes) == 2
    figure = viz.density_beside_data(data, wide, BOX, exact=normal)
    assert len(figure.axes) == 3
    assert image_on(figure, 1).mean() < image_on(figure, 2).mean()


def test_box_holds_the_points_and_is_square():
    x = np.random.default_rng(0).normal(size=(5000, 2)) * [3, 1] + [5, -2]
    low, high = viz.box_of(x)
    assert np.allclose(high[0] - low[0], high[1] - low[1])
    assert ((x > low) & (x < high)).all(1).mean() > 0.99


def test_warped_grid_draws_the_image_of_straight_lines():
    shift = np.array([0.5, -0.25], np.float32)
    figure = viz.warped_grid(lambda z: 2 * z + shift, BOX, radius=1.0, lines=5)
    segments = np.array(figure.axes[0].collections[0].get_segments())
    assert np.allclose(segments.min((0, 1)), shift - 2)
    assert np.allclose(segments.max((0, 1)), shift + 2)
    direction = np.abs(segments[:, 1] - segments[:, 0])
    assert np.allclose(direction.min(1), 0, atol=1e-6)  # the map keeps the axes, so every segment is along one


def test_points_and_strips_are_not_blank():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 2))
    for figure in (
        viz.points(x, BOX),
        viz.points_beside_data(x, x, BOX, title="t"),
        viz.diffusion_strip(np.stack([x, x]), ["0", "1"], BOX),
    ):
        assert pixels(figure).var() > 1e-4


def test_loss_curves_have_a_panel_for_each_metric():
    rows = [
        {"step": s, "seconds": s / 10, "loss": 5.0 / s, "kl": 1.0 + s} | ({"r1": 2.0} if s % 4 == 0 else {})
        for s in range(1, 41)
    ]
    figure = viz.loss_curves(rows, title="run")
    visible = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title("left") for ax in visible] == ["loss", "kl", "r1"]
    assert len(visible[2].lines[0].get_xdata()) == 10
    assert viz.loss_curves([{"step": 1, "seconds": 0.1, "loss": 3.0}]).axes


def test_gallery_draws_every_panel_once():
    drawn = []
    panels = {(name, "line"): lambda ax, name=name: drawn.append(name) for name in "abcd"}
    figure = viz.gallery(panels, columns=3)
    assert drawn == list("abcd")
    assert sum(ax.get_visible() for ax in figure.axes) == 4


def test_save_writes_a_png_and_reports_what_prevents_it(tmp_path):
    figure = viz.image_grid(np.random.default_rng(0).uniform(size=(4, 5, 5, 1)))
    viz.save(figure, tmp_path / "a" / "b.png")
    assert imread(tmp_path / "a" / "b.png")[..., :3].var() > 1e-3
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        viz.save(figure, tmp_path / "file" / "b.png")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "file"}


def test_animation_has_the_frames_in_their_order(tmp_path):
    paths = []
    for i in range(3):
        figure = Figure(figsize=(1, 1), facecolor=str(i / 2))
        paths.append(tmp_path / f"{i}.png")
        viz.save(figure, paths[-1], dpi=40)
    viz.save_animation(paths, tmp_path / "a.gif", hold=2)
    with Image.open(tmp_path / "a.gif") as gif:
        greys = []
        for frame in range(gif.n_frames):
            gif.seek(frame)
            greys.append((int(np.asarray(gif.convert("L")).mean()), gif.info["duration"]))
        assert gif.info["loop"] == 0
        assert gif.size == (40, 40)
    shades = [shade for shade, _ in greys]
    assert shades == sorted(shades)
    assert shades[0] < 10 and shades[-1] > 245 and len(set(shades)) == 3
    assert greys[-1][1] >= 600  # the last stays, as equal frames or as one that is held
