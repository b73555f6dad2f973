"""Faults to put into a COCO JSON of 96-pixel pictures, for the doctor to find."""


def corners(data):
    for a in data["annotations"]:
        x, y, w, h = a["bbox"]
        a["bbox"] = [x, y, x + w, y + h]


def fractions(data):
    for a in data["annotations"]:
        a["bbox"] = [v / 96 for v in a["bbox"]]


def renumber(data):
    for a in data["annotations"]:
        a["category_id"] = 11 if a["category_id"] == 1 else a["category_id"]


def break_boxes(data):
    boxes = [a["bbox"] for a in data["annotations"]]
    boxes[0][2] = 0
    boxes[1][0] = 500


def shift(data):
    data["annotations"][0]["bbox"] = [90, 10, 20, 10]


def spoil(data):
    data["annotations"][0]["bbox"] = [1, 2, "wide", None]
    data["annotations"][1]["bbox"] = [1, 2, 3]
    data["annotations"][2] = "a box"
    data["annotations"][3]["bbox"] = [float("nan"), 1, 2, 3]


def orphan(data):
    data["annotations"][0]["image_id"] = 999


def twin_ids(data):
    data["annotations"][1]["id"] = data["annotations"][0]["id"]


def twin_images(data):
    data["images"].append(dict(data["images"][0]))
    data["images"].append(dict(data["images"][1], id=77))


def nameless(data):
    del data["categories"][2]["name"]


def zero_images(data):
    data["images"] = []


def wide(data):
    data["images"][0]["width"] = "wide"


def blank(data):
    data["categories"][0]["name"] = ""


def no_boxes(data):
    data["annotations"] = []


def all_crowd(data):
    for a in data["annotations"]:
        a["iscrowd"] = 1


def no_sizes(data):
    del data["images"][0]["width"]


def copies(data):
    data["annotations"].append(dict(data["annotations"][0], id=10_000))


def crowds(data):
    for a in data["annotations"][::2]:
        a["iscrowd"] = 1
