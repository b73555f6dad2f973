"""What the boxes and classes of one split look like."""

import numpy as np

from jaxvision.data.doctor.finding import ERROR, OK, WARN, Finding, some
from jaxvision.data.doctor.table import Table
from jaxvision.data.rows import boxes_needed

TOLERANCE = 1.0  # pixels by which a box may leave its image through rounding
MANY = 0.1  # share of faulty boxes from which it is no accident
FEW_EXAMPLES = 20
CELLS = 2  # cells of the finest feature map that a box should span
CROWDED, MOSTLY_EMPTY, TOO_MANY_SMALL = 0.2, 0.5, 0.2
MANY_OBJECTS = 16  # a quarter of the training slots of configs/cofnet.py:skywatch without a GPU

Size = tuple[int, int]  # height, width


def check(table: Table, *, size: Size, stride: int) -> list[Finding]:
    """All checks that need no picture, for training at `size` pixels with a finest `stride`."""
    if not len(table.boxes):
        return [Finding(ERROR, "boxes", "no box in this split", "export the annotations again")]
    fractions = _fractions(table)
    if fractions:
        return [*fractions, *_classes(table)]
    order = _order(table)
    findings = [*order, *_extent(table, order_is_wrong=bool(order)), *_repeats(table)]
    return [*findings, *_classes(table), *_shares(table), *_resolution(table, size, stride)]


def _fractions(table: Table) -> list[Finding]:
    if table.boxes.max() > 1.0:
        return []
    text = f"all boxes lie within one pixel, e.g. {table.boxes[0].tolist()}"
    mend = "multiply x and w by the image's width, y and h by its height: COCO boxes are in pixels"
    return [Finding(ERROR, "normalised", text, mend)]


def _order(table: Table) -> list[Finding]:
    """Boxes written as x1, y1, x2, y2: the last two always exceed the first two.

    For real widths that happens only to boxes near the upper left corner.
    """
    boxes, limit = table.boxes[~table.crowd], table.sizes[table.image[~table.crowd]]
    if len(boxes) < 4:
        return []
    corners = (boxes[:, 2:] > boxes[:, :2]).all(axis=1).mean()
    outside = (boxes[:, :2] + boxes[:, 2:] > limit + TOLERANCE).any(axis=1).mean()
    if corners < 0.98 or outside < MANY:
        return []
    text = (
        f"boxes look like x1, y1, x2, y2: in {corners:.0%} the last two numbers exceed the first, "
        f"and read as x, y, width, height {outside:.0%} leave the image"
    )
    return [Finding(ERROR, "order", text, "write bbox as [x1, y1, x2 - x1, y2 - y1]")]


def _extent(table: Table, *, order_is_wrong: bool) -> list[Finding]:
    boxes, limit = table.boxes, table.sizes[table.image]
    flat = (boxes[:, 2:] <= 0).any(axis=1)
    start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    away = ~flat & ((end <= 0) | (start >= limit)).any(axis=1)
    over = ~flat & ~away & ((start < -TOLERANCE) | (end > limit + TOLERANCE)).any(axis=1)
    findings = []
    for chosen, what, mend in (
        (flat, "have no area", "delete or redraw them; training drops them"),
        (away, "lie outside their image", "delete or redraw them; training drops them"),
        (over, "reach outside their image", "clip them to the image, as training does"),
    ):
        share = chosen.mean()
        if not chosen.any() or (order_is_wrong and chosen is over):
            continue
        if share > MANY:
            mend = "compare the sheet: are the boxes of another image size or number order?"
        files = dict.fromkeys(table.files[i] for i in table.image[chosen])
        text = f"{chosen.sum()} boxes ({share:.1%}) {what}: {some(files)}"
        findings.append(Finding(ERROR if share > MANY else WARN, "extent", text, mend))
    return findings or [Finding(OK, "extent", f"{len(boxes)} boxes, all within their images")]


def _repeats(table: Table) -> list[Finding]:
    rows = np.column_stack([table.image, table.category, table.boxes])
    again = len(rows) - len(np.unique(rows, axis=0))
    if not again:
        return []
    text = f"{again} boxes repeat another one of the same class exactly"
    return [Finding(WARN, "repeats", text, "delete the copies: each counts as an object missed")]


def _classes(table: Table) -> list[Finding]:
    ids = sorted(table.categories)
    if not ids:
        return []
    counts = {table.categories[c]: int((table.category == c).sum()) for c in ids}
    unused = [name for name, count in counts.items() if not count]
    rare = [f"{name} ({count})" for name, count in counts.items() if 0 < count < FEW_EXAMPLES]
    findings = []
    if unused:
        text = f"{len(unused)} of {len(ids)} classes have no box: {some(unused)}"
        mend = "fine for a part of a larger set; otherwise remove them from categories"
        findings.append(Finding(WARN, "classes", text, mend))
    if rare:
        text = f"{len(rare)} classes have fewer than {FEW_EXAMPLES} boxes: {some(rare)}"
        findings.append(Finding(WARN, "classes", text, "label more, or join classes"))
    if 0 in ids and table.categories[0].lower().strip("_") in ("background", "none", "void"):
        mend = "remove it: what is not labelled is background already"
        findings.append(Finding(WARN, "classes", f"category 0 is {table.categories[0]!r}", mend))
    gaps = ids[-1] - ids[0] + 1 - len(ids)
    text = f"{len(ids)} category ids from {ids[0]} to {ids[-1]}"
    text += f" with {gaps} left out" if gaps else ""
    text += "; class index = rank of the id, so no numbering is wrong in itself"
    return [*findings, Finding(OK, "category ids", text)]


def _shares(table: Table) -> list[Finding]:
    n = len(table.files)
    empty = 1 - len(np.unique(table.image)) / n
    crowd = table.crowd.mean()
    mend = "label them, or drop some, unless the scenes are really empty"
    level = WARN if empty > MOSTLY_EMPTY else OK
    text = f"{empty:.0%} of {n} images without a box"
    findings = [Finding(level, "empty images", text, mend if level == WARN else "")]
    level = WARN if crowd > CROWDED else OK
    mend = "iscrowd=1 marks regions to ignore; set 0 for single objects" if level == WARN else ""
    text = f"{crowd:.1%} of the boxes are crowd regions"
    return [*findings, Finding(level, "crowd", text, mend), _most(table)]


def _most(table: Table) -> Finding:
    """The fullest image, which decides how much room all of them get."""
    counts = np.bincount(table.image)
    most = int(counts.max())
    text = f"up to {most} objects in an image ({table.files[counts.argmax()]})"
    if most <= MANY_OBJECTS:
        return Finding(OK, "objects", text)
    room = boxes_needed(most)
    mend = (
        f"the refiner learns from all at once with --config.loss.slots.count={4 * room}; where "
        f"data.max_boxes is set, training needs {room}"
    )
    return Finding(WARN, "objects", f"{text}, more than {MANY_OBJECTS}", mend)


def _resolution(table: Table, size: Size, stride: int) -> list[Finding]:
    """How large the boxes are for the model that will look at them."""
    usable = (table.boxes[:, 2:] > 0).all(axis=1) & ~table.crowd
    usable &= np.isfinite(table.sizes[table.image]).all(axis=1)
    if not usable.any():
        return []
    sizes = table.sizes[table.image[usable]]
    scale = (size[::-1] / sizes).min(axis=1)
    short = table.boxes[usable, 2:].min(axis=1) * scale
    wanted = CELLS * stride
    small = (short < wanted).mean()
    text = (
        f"at {_named(size)} {small:.0%} of the boxes are narrower than {wanted} px, "
        f"{CELLS} cells of stride {stride}"
    )
    if small <= TOO_MANY_SMALL:
        return [Finding(OK, "resolution", text)]
    larger = np.quantile(wanted / short, 1 - TOO_MANY_SMALL)
    whole = np.median(1 / scale)  # at so many times the size the images keep their pixels
    height, width = np.median(sizes, axis=0)[::-1].astype(int)
    better = tuple(int(np.ceil(side * larger / 32) * 32) for side in size)
    mend = f"train at {_named(better)} (the images have {_named((height, width))}): "
    mend += f'--config.model.size="{better}"'
    if larger > 1.5 * whole:
        own = tuple(max(side, int(side * whole) // 32 * 32) for side in size)
        mend = f"train at {_named(own)} or more, and predict with tiles: "
        mend += f'--config.model.size="{own}", predict --tile=N'
        if own == size:
            mend = f"the images ({_named((height, width))}) have no more pixels: take larger ones"
    return [Finding(WARN, "resolution", text, mend)]


def _named(size: Size) -> str:
    """Height x width, as `model.size` has them."""
    return f"{size[0]}x{size[1]} px"
