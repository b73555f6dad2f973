"""The table of partition types, the classes of the stages, and the way back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.cnn_av1 import classes
from jaxvision.cnn_av1.classes import IGNORED, TYPES, assemble, class_counts, stage_labels, vote
from jaxvision.data.av1 import partitions


def test_types_are_numbered_as_in_the_bitstream():
    # AV1 specification, 6.10.4: PARTITION_NONE 0, HORZ 1, VERT 2, SPLIT 3, …
    assert TYPES == (
        *("NONE", "HORZ", "VERT", "SPLIT", "HORZ_A", "HORZ_B", "VERT_A", "VERT_B"),
        *("HORZ_4", "VERT_4"),
    )
    for number, name in enumerate(TYPES):
        assert getattr(partitions, name) == number


@pytest.mark.parametrize(
    "stage, expected",
    [
        ("binary", [0, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("macro", [IGNORED, 1, 1, 0, 2, 2, 2, 2, 1, 1]),
        ("rect", [IGNORED, 0, 1, *[IGNORED] * 5, 2, 3]),
        ("ab", [*[IGNORED] * 4, 0, 1, 2, 3, IGNORED, IGNORED]),
    ],
)
def test_each_type_has_its_class(stage, expected):
    np.testing.assert_array_equal(stage_labels(np.arange(10), stage), expected)
    assert len(classes.names(stage)) == max(expected) + 1
    without = [IGNORED if i in (8, 9) else label for i, label in enumerate(expected)]
    np.testing.assert_array_equal(stage_labels(np.arange(10), stage, four_way=False), without)


@pytest.mark.parametrize("four_way", [True, False])
def test_the_assembly_gives_back_every_type(four_way):
    """Certain stages, made of a type's own labels, assemble to that type and nothing else."""
    for kind in range(10 if four_way else 8):
        probabilities = {}
        for stage in ("binary", "macro", "rect", "ab"):
            count = len(classes.names(stage, four_way=four_way))
            label = int(stage_labels(np.array(kind), stage, four_way=four_way))
            even = jnp.full(count, 1 / count)
            probabilities[stage] = even if label == IGNORED else jax.nn.one_hot(label, count)
        binary = probabilities.pop("binary")[1]
        np.testing.assert_allclose(assemble(binary, **probabilities), np.eye(10)[kind], atol=1e-7)


def test_an_assembly_is_a_distribution():
    keys = jax.random.split(jax.random.key(0), 4)
    macro, rect, ab = (
        jax.nn.softmax(jax.random.normal(key, (5, count)))
        for key, count in zip(keys, (3, 4, 4), strict=False)
    )
    found = assemble(jax.random.uniform(keys[3], (5,)), macro, rect, ab)
    assert found.shape == (5, 10) and float(found.min()) >= 0
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)  # ten float32 products and their sum


def test_votes_and_their_ties():
    logits = jnp.log(
        jnp.array(
            [
                [[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.2, 0.4, 0.4]],
                [[0.5, 0.4, 0.1], [0.1, 0.8, 0.1], [0.4, 0.4, 0.2]],
                [[0.1, 0.8, 0.1], [0.1, 0.2, 0.7], [0.4, 0.2, 0.4]],
            ]
        )
    )
    # two of three; three ways, 1 being likeliest of all; 1, 0 and 0 chosen
    np.testing.assert_array_equal(vote(logits), [0, 1, 0])
    np.testing.assert_array_equal(vote(jnp.zeros((3, 2, 4))), [0, 0])


def test_wrong_types_and_stages_are_named():
    with pytest.raises(ValueError, match="partition type 10 is not"):
        stage_labels(np.array([3, 10]), "binary")
    with pytest.raises(ValueError, match="stage 'reckt' is none of binary"):
        stage_labels(np.arange(3), "reckt")
    with pytest.raises(ValueError, match="size=4"):
        partitions.possible(4)


def test_classes_are_counted_without_those_that_have_no_say():
    types = np.array([0, 3, 3, 1, 8, 4, 7])
    np.testing.assert_array_equal(class_counts(types, "macro"), [2, 2, 2])
    np.testing.assert_array_equal(class_counts(types, "macro", four_way=False), [2, 1, 2])
    np.testing.assert_array_equal(class_counts(types, "rect"), [1, 0, 1, 0])
    np.testing.assert_array_equal(class_counts(types[:1], "ab"), [0] * 4)
