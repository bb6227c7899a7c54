"""synthaug: rendered, labelled images in; realistic images with the same, proven labels out."""

__version__ = "0.1.0"
