"""Pictures of data, samples and models, drawn with matplotlib; and the profile of a computation.

Each function returns a Figure, or draws into the Axes that it is given; nothing touches pyplot's state or a display.
`save` writes a Figure as PNG.
"""

from tinygen.viz.animation import save_animation
from tinygen.viz.curves import loss_curves
from tinygen.viz.images import denoising_strip, image_grid, latent_plane, latent_walk, reconstructions, tile
from tinygen.viz.overview import gallery
from tinygen.viz.plane import (
    box_of,
    density_beside_data,
    density_map,
    diffusion_strip,
    points,
    points_beside_data,
    warped_grid,
)
from tinygen.viz.profile import Profile, profile
from tinygen.viz.style import save

__all__ = [
    "Profile",
    "box_of",
    "denoising_strip",
    "density_beside_data",
    "density_map",
    "diffusion_strip",
    "gallery",
    "image_grid",
    "latent_plane",
    "latent_walk",
    "loss_curves",
    "points",
    "points_beside_data",
    "profile",
    "reconstructions",
    "save",
    "save_animation",
    "tile",
    "warped_grid",
]
