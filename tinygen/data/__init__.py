"""Data: embedded digits, images and sound from files, and 2-D densities whose likelihood is known."""

from tinygen.data.density import Density, SeparateModes
from tinygen.data.loading import NAMES, Dataset, load
from tinygen.data.toy import TOYS, toy

__all__ = ["NAMES", "TOYS", "Dataset", "Density", "SeparateModes", "load", "toy"]
