"""SkyWatch scenes: an embedded data set of drawn skies and what flies in them, in COCO format.

`python -m jaxvision.data.skywatch OUT` writes it to a folder; `generate` is the same as a function.
"""

from jaxvision.data.skywatch.folder import generate
from jaxvision.data.skywatch.looks import CLASSES

__all__ = ["CLASSES", "generate"]
