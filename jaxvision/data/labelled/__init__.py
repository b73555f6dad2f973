"""Pictures with boxes, masks and a class: what the heads of a codec are trained on.

A row of a batch holds `image` uint8 `[s s 3]`; `boxes` float32 `[n 4]` xyxy in its pixels, objects
first, then regions to ignore (`crowd` bool `[n]`), then zeros; `labels` int32 `[n]`, -1 where there
is no box; `segments` uint8 `[s s]`, the class of each pixel, 255 where it has none; `action` int32,
the picture's class, -1 where it has none. For metrics: `index`, `size`, `letterbox`, `broken`.
"""

from jaxvision.data.labelled.config import CropConfig, LabelledConfig, ScenesConfig
from jaxvision.data.labelled.data import LabelledData

__all__ = ["CropConfig", "LabelledConfig", "LabelledData", "ScenesConfig"]
