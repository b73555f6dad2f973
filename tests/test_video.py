import numpy as np
import pytest
from PIL import Image

from jaxvision.data.video import Video, VideoWriter, is_image, is_video, write_gif


def moving_square(count=12, h=48, w=64):
    frames = np.full((count, h, w, 3), 40, np.uint8)
    for i, frame in enumerate(frames):
        frame[16:32, 3 * i : 3 * i + 16] = (230, 60, 20)
    return frames


def write(path, frames, fps=12.5):
    with VideoWriter(path, fps=fps, height=frames.shape[1], width=frames.shape[2]) as writer:
        for frame in frames:
            writer.write(frame)


def test_frames_come_back_in_order_and_in_rgb(tmp_path):
    frames = moving_square()
    write(tmp_path / "a.mp4", frames)
    video = Video(tmp_path / "a.mp4")
    assert (video.count, video.fps, video.height, video.width) == (12, 12.5, 48, 64)
    for _ in range(2):  # each iteration starts anew
        read = np.stack(list(video)).astype(int)
        assert read.shape == frames.shape
        assert abs(read - frames).mean() < 6  # compression
        assert abs(read - frames[::-1]).mean() > 12 and abs(read[..., ::-1] - frames).mean() > 12


def test_odd_sizes_lose_no_pixel(tmp_path):
    frames = moving_square(h=47, w=63)
    write(tmp_path / "odd.mp4", frames)
    video = Video(tmp_path / "odd.mp4")
    assert (video.height, video.width) == (48, 64)
    assert abs(np.stack(list(video))[:, :47, :63].astype(int) - frames).mean() < 6


def test_what_was_written_before_an_exception_can_be_read(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with VideoWriter(tmp_path / "a.mp4", fps=5, height=48, width=64) as writer:
            for frame in moving_square()[:7]:
                writer.write(frame)
            raise KeyboardInterrupt
    assert len(list(Video(tmp_path / "a.mp4"))) == 7


def test_files_that_are_no_videos_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.mp4"):
        Video(tmp_path / "absent.mp4")
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(ValueError, match="text.mp4"):
        Video(tmp_path / "text.mp4")
    write(tmp_path / "a.mp4", moving_square())
    half = (tmp_path / "a.mp4").read_bytes()[:-500]  # without its index
    (tmp_path / "cut.mp4").write_bytes(half)
    with pytest.raises(ValueError, match="cut.mp4"):
        Video(tmp_path / "cut.mp4")


def test_a_video_that_breaks_off_gives_its_frames_and_then_says_so(tmp_path):
    rng = np.random.default_rng(0)
    write(tmp_path / "a.mp4", rng.integers(0, 255, (30, 48, 64, 3), np.uint8))
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    start = content.index(b"mdat") + 4
    end = content.index(b"moov")
    content[start + (end - start) // 2 : end - 4] = bytes(end - 4 - start - (end - start) // 2)
    (tmp_path / "broken.mp4").write_bytes(content)
    read = []
    with pytest.raises(ValueError, match="broken.mp4.* of 30 frames"):
        for frame in Video(tmp_path / "broken.mp4"):
            read.append(frame)
    assert 5 < len(read) < 25


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(OSError, match="absent.*a.mp4"):
        VideoWriter(tmp_path / "absent" / "a.mp4", fps=5, height=48, width=64)
    with pytest.raises(ValueError, match="a.avi"):
        VideoWriter(tmp_path / "a.avi", fps=5, height=48, width=64)
    with VideoWriter(tmp_path / "a.mp4", fps=5, height=48, width=64) as writer:
        with pytest.raises(ValueError, match="not uint8"):
            writer.write(np.zeros((64, 48, 3), np.uint8))


def test_frames_that_do_not_arrive_are_missed(tmp_path):
    with pytest.raises(OSError, match="a.mp4: 5 of 6 frames arrived"):
        with VideoWriter(tmp_path / "a.mp4", fps=5, height=48, width=64) as writer:
            for frame in moving_square()[:5]:
                writer.write(frame)
            writer._writer.release()  # as if the disk were full from here on
            writer.write(frame)


@pytest.mark.parametrize("fps", [23.976, 30000 / 1001, 14.8571, 59.94, 7.3])
def test_any_frame_rate_is_kept(tmp_path, fps):
    write(tmp_path / "a.mp4", moving_square(), fps=fps)
    video = Video(tmp_path / "a.mp4")
    assert video.fps == pytest.approx(fps, rel=2e-3) and video.count == 12


def test_gif_keeps_frames_and_duration(tmp_path):
    frames = moving_square()
    write_gif(tmp_path / "a.gif", iter(frames), fps=12.5)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 12
        total = 0
        for i in range(12):
            gif.seek(i)
            total += gif.info["duration"]
        assert total == 960
        np.testing.assert_allclose(np.asarray(gif.convert("RGB")), frames[11], atol=8)
    assert len(list(Video(tmp_path / "a.gif"))) == 12  # a GIF is read as a video
    with pytest.raises(ValueError, match="b.gif.*no frames"):
        write_gif(tmp_path / "b.gif", [], fps=15)
    with pytest.raises(ValueError, match="b.gif.*120"):
        write_gif(tmp_path / "b.gif", frames, fps=120)


@pytest.mark.parametrize(
    "name, image, video",
    [
        ("a.JPG", True, False),
        ("a.tiff", True, False),
        ("b.MP4", False, True),
        ("c.gif", False, True),
        ("notes.txt", False, False),
        ("mp4", False, False),
    ],
)
def test_kinds_are_told_by_name(name, image, video):
    assert (is_image(name), is_video(name)) == (image, video)
