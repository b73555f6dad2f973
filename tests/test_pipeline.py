"""What is read at step i depends on i alone."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import grain
import numpy as np
import pytest

from jaxvision.data import pipeline, workers


def row(index: int) -> dict:
    return {"index": np.int32(index), "image": np.full((4, 4, 3), index % 251, np.uint8)}


def numbers(n: int) -> grain.MapDataset:
    return grain.MapDataset.range(n).map(row)


def indices(batches) -> list[list[int]]:
    return [batch["index"].tolist() for batch in batches]


def fail_at_seven(index: int) -> dict:
    if index == 7:
        raise ValueError("broken file: seven.jpg")
    return row(index)


def test_every_epoch_is_a_new_permutation():
    order = pipeline.shuffled(10, seed=3)
    epochs = [[order[10 * e + i] for i in range(10)] for e in range(4)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert [order[i] for i in (33, 2, 17)] == [epochs[3][3], epochs[0][2], epochs[1][7]]
    other = pipeline.shuffled(10, seed=4)
    assert [other[10 + i] for i in range(10)] not in epochs


def test_weights_repeat_examples_by_their_share():
    weights = np.array([1.0, 2.5, 0.0, 0.25, 1.25])
    order = pipeline.shuffled(5, seed=0, weights=weights)
    assert len(order) == 5
    counts = np.stack(
        [np.bincount([order[5 * e + i] for i in range(5)], minlength=5) for e in range(400)]
    )
    assert np.all((counts >= np.floor(weights)) & (counts <= np.ceil(weights)))
    # systematic sampling: a count's standard deviation is <= 0.5, 5 sigma of a mean of 400 is 0.125
    np.testing.assert_allclose(counts.mean(0), weights, atol=0.125)


@pytest.mark.parametrize(
    "weights", [np.ones(3), np.zeros(4), np.array([1, np.nan, 1, 1]), -np.ones(4)]
)
def test_bad_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weights must be 4 finite numbers"):
        pipeline.shuffled(4, seed=0, weights=weights)


def test_batches_of_an_evaluation_are_padded_and_masked():
    batches = pipeline.batches(numbers(7), batch=3, repeat=False)
    assert len(batches) == 3
    assert indices(batches) == [[0, 1, 2], [3, 4, 5], [6, 6, 6]]
    assert batches[2]["mask"].tolist() == [True, False, False]
    assert batches[0]["image"].shape == (3, 4, 4, 3) and batches[0]["image"].dtype == np.uint8
    with pytest.raises(IndexError):
        batches[3]


def test_training_batches_run_over_the_seam_of_epochs():
    batches = pipeline.batches(numbers(5), batch=4, repeat=True)
    assert indices(batches[i] for i in range(3)) == [[0, 1, 2, 3], [4, 0, 1, 2], [3, 4, 0, 1]]
    assert batches[2]["mask"].all()
    few = pipeline.batches(numbers(2), batch=5, repeat=True)
    assert few[1]["index"].tolist() == [1, 0, 1, 0, 1]


@pytest.mark.parametrize("repeat", [True, False])
@pytest.mark.parametrize("count", [2, 4])
def test_processes_hold_the_rows_of_the_same_global_batches(count, repeat):
    whole = pipeline.batches(numbers(9), batch=4, repeat=repeat)
    parts = [
        pipeline.batches(numbers(9), batch=4, repeat=repeat, process_index=p, process_count=count)
        for p in range(count)
    ]
    for i in range(3):
        for key in ("index", "image", "mask"):
            joined = np.concatenate([part[i][key] for part in parts])
            mask = whole[i]["mask"]
            np.testing.assert_array_equal(joined[mask], whole[i][key][mask])
        np.testing.assert_array_equal(np.concatenate([p[i]["mask"] for p in parts]), mask)


@pytest.mark.parametrize("workers, threads, start", [(0, 0, 1), (0, 2, 1), (1, 2, 1), (3, 2, 1)])
def test_order_is_the_index_whatever_the_workers(workers, threads, start):
    finite = pipeline.batches(numbers(10), batch=2, repeat=False)
    read = indices(pipeline.iterate(finite, start=start, workers=workers, threads=threads))
    assert read == indices(finite[i] for i in range(start, 5))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_endless_shuffled_run_can_be_entered_anywhere(workers):
    shuffled = pipeline.shuffled(7, seed=1).map_with_index(lambda i, x: row(x))
    endless = pipeline.batches(shuffled, batch=3, repeat=True)
    reader = pipeline.iterate(endless, start=1001, workers=workers)
    read = [next(reader)]
    for process in multiprocessing.active_children():  # as a scheduler and Ctrl-C do
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGINT)
    read += [next(reader) for _ in range(20)]
    assert indices(read) == indices(endless[1001 + i] for i in range(21))
    reader.close()
    assert not multiprocessing.active_children()


def test_threads_read_where_shared_memory_is_too_small_for_workers(monkeypatch):
    monkeypatch.setattr(workers.Path, "is_dir", lambda self: True)
    monkeypatch.setattr(workers.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**26))
    said = []
    monkeypatch.setattr(pipeline.logging, "warning", lambda text, *args: said.append(text % args))
    finite = pipeline.batches(numbers(6), batch=2, repeat=False)
    assert indices(pipeline.iterate(finite, workers=3)) == [[0, 1], [2, 3], [4, 5]]
    assert "instead of 3 workers" in said[0] and not multiprocessing.active_children()


@pytest.mark.parametrize("start", [3, 4, 9])
def test_starting_at_or_past_the_end_yields_what_is_left(start):
    finite = pipeline.batches(numbers(8), batch=2, repeat=False)
    assert len(list(pipeline.iterate(finite, start=start))) == max(0, 4 - start)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_surfaces_after_the_items_before_it(workers):
    batches = pipeline.batches(grain.MapDataset.range(10).map(fail_at_seven), batch=2, repeat=False)
    reader = pipeline.iterate(batches, workers=workers)
    assert indices(next(reader) for _ in range(3)) == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(ValueError, match="seven.jpg"):
        next(reader)
    with pytest.raises(StopIteration):
        next(reader)


def test_workers_end_with_their_iterator_and_with_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, os, signal, sys
            import grain
            import numpy as np
            from jaxvision.data import pipeline

            if __name__ == "__main__":
                examples = grain.MapDataset.range(100).map(lambda i: {"x": np.zeros((64, 64))})
                batches = pipeline.batches(examples, batch=4, repeat=True)
                reader = pipeline.iterate(batches, workers=1)
                next(reader)
                del reader
                assert not multiprocessing.active_children(), "workers outlive their iterator"
                reader = pipeline.iterate(batches, workers=1)
                next(reader)
                print(*(p.pid for p in multiprocessing.active_children()), flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            """
        )
    )
    import jaxvision

    root = jaxvision.__path__[0].rsplit("/", 1)[0]
    # the pipe of stdout closes only when the last process that holds it, a worker too, has ended
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": root, "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == -9, done.stderr
    assert len(done.stdout.split()) == 1


def test_bad_arguments_name_the_value_and_the_mend():
    with pytest.raises(ValueError, match="check the folder"):
        pipeline.batches(numbers(0), batch=2, repeat=False)
    with pytest.raises(ValueError, match="positive multiple of 2"):
        pipeline.batches(numbers(4), batch=3, repeat=False, process_count=2)
    with pytest.raises(ValueError, match="process_index=2"):
        pipeline.batches(numbers(4), batch=2, repeat=False, process_index=2, process_count=2)
    with pytest.raises(ValueError, match="empty"):
        pipeline.shuffled(0, seed=0)
    with pytest.raises(ValueError, match="workers=-1"):
        pipeline.iterate(numbers(4), workers=-1)
    ragged = grain.MapDataset.range(2).map(lambda i: {"x": np.zeros(i + 1)})
    with pytest.raises(ValueError, match="differ in 'x'"):
        pipeline.batches(ragged, batch=2, repeat=False)[0]
