"""`python -m jaxvision.baselines`: tables, going on after a stop, and what goes wrong."""

import numpy as np
import pytest
from PIL import Image
from test_baselines import picture

from jaxvision.baselines import __main__ as command
from jaxvision.baselines import measure as measuring
from jaxvision.baselines.codec import CodecError
from jaxvision.baselines.compare import compare, mean_curve
from jaxvision.baselines.measure import Results, Row, measure
from jaxvision.baselines.report import bd_table, means, table
from jaxvision.baselines.stills import JPEG_420

TWO = ["--codecs", "jpeg-420:20,50", "webp:10,70"]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for seed, size in enumerate([(168, 176), (161, 170)]):
        Image.fromarray(picture(*size, seed=seed)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture
def run(tmp_path, folder, capsys):
    def start(*arguments, where=folder):
        output = str(tmp_path / "out" / "results.csv")
        code = command.main([*map(str, (where, "--output", output)), *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    start.csv = tmp_path / "out" / "results.csv"
    return start


def test_a_table_and_rows_that_are_kept(run, tmp_path):
    figure = tmp_path / "rd"
    code, out, err = run(*TWO, "--anchor", "jpeg-420", "--figure", figure)
    assert code == 0, err
    lines = run.csv.read_text().splitlines()
    assert len(lines) == 9 and lines[0].startswith("Codec,Setting,Image,CRC-32,BPP,PSNR,MS-SSIM,")
    assert (
        "| Codec    | Setting" in out
        and "| jpeg-420 | 20" in out
        and "\ndvc not run: no check" in out
    )
    assert "| webp " in out.split("BD-rate against jpeg-420")[1]
    assert figure.with_suffix(".pdf").exists() and figure.with_suffix(".png").exists()
    before = run.csv.read_bytes()
    code, out, _ = run(*TWO)
    assert code == 0 and "8 are there" in out and run.csv.read_bytes() == before


def test_a_run_that_was_killed_goes_on(run):
    run(*TWO)
    whole = run.csv.read_bytes()
    run.csv.write_bytes(whole[:-20])  # within the last row
    code, out, _ = run(*TWO)
    assert code == 0 and "7 are there" in out and "1/1 webp 70 1.png" in out
    times = slice(0, 7)  # what is measured again takes another time
    rows = [line.split(",")[times] for line in run.csv.read_text().splitlines()]
    assert rows == [line.split(",")[times] for line in whole.decode().splitlines()]


def test_an_image_that_has_changed_is_measured_again(run, folder):
    run("--codecs", "webp:10")
    Image.fromarray(picture(180, 180, seed=7)).save(folder / "1.png")
    code, out, _ = run("--codecs", "webp:10")
    assert "1 are there" in out and "| webp  | 10      | 2 " in out
    assert code == 0 and len(run.csv.read_text().splitlines()) == 4


def test_a_stop_says_how_to_go_on(run, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "measure", stop)
    code, _, err = run(*TWO)
    assert code == 130 and "goes on from" in err


def test_a_codec_that_fails_on_an_image_is_told_at_the_end(run, monkeypatch):
    def fail(self, data):
        raise CodecError("jpeg-420 cannot decode")

    monkeypatch.setattr(type(JPEG_420), "decode", fail)
    code, out, err = run("--codecs", "jpeg-420:20", "wavelet-97:30")
    assert code == 1 and err.count("error: jpeg-420 20 ") == 2
    assert "| wavelet-97 (estimate) | 30" in out and len(run.csv.read_text().splitlines()) == 3


def test_wrong_input_is_named(run, folder, tmp_path, monkeypatch):
    def refused(*arguments, **options):
        code, _, err = run(*arguments, **options)
        assert code == 1 and err.startswith("error: ") and err.count("\n") == 1
        return err

    (tmp_path / "empty").mkdir()
    assert "holds no image" in refused(where=tmp_path / "empty")
    assert "nowhere: no such folder" in refused(where=tmp_path / "nowhere")
    assert "unknown; did you mean 'webp'" in refused("--codecs", "wepb")
    assert "webp:x must be numbers" in refused("--codecs", "webp:x")
    assert "anchor 'avif' was not measured" in refused("--codecs", "webp:9", "--anchor", "avif")
    assert "dvc.pth: no such file" in refused("--dvc-checkpoint", tmp_path / "dvc.pth")
    with monkeypatch.context() as patch:
        patch.setattr(type(JPEG_420), "missing", lambda self: "no JPEG here")
        assert "jpeg-420 cannot run: no JPEG here" in refused("--codecs", "jpeg-420")
    (folder / "2.png").write_bytes((folder / "1.png").read_bytes()[:999])
    assert "2.png: not an image that can be read" in refused("--codecs", "webp:9")
    (folder / "2.png").unlink()
    for junk in ("a,b\n1,2\n", "no line"):
        run.csv.write_text(junk)
        assert "is no result of this program" in refused("--codecs", "webp:9")
    run.csv.write_text(",".join(measuring.COLUMNS.values()) + "\nx,y\n")
    assert "line 2: ['x', 'y'] is no row" in refused("--codecs", "webp:9")


def test_the_list_tells_what_runs(capsys):
    assert command.main(["--list"]) == 0
    out = capsys.readouterr().out
    assert "jpeg-420       qualities 5, 10, 20" in out and "dvc            not run: " in out
    assert command.main([]) == 1 and "name a folder" in capsys.readouterr().err


def test_a_small_image_has_no_ms_ssim(tmp_path):
    image = picture(40, 50)
    row = measure(JPEG_420, image, 50, name="small")
    assert np.isnan(row.ms_ssim) and row.psnr > 25 and row.rate == "file"
    assert row.bpp == 8 * len(JPEG_420.encode(image, 50)) / 2000
    (tmp_path / "r.csv").touch()  # an empty file is a new one
    Results(tmp_path / "r.csv").add(row)
    (again,) = Results(tmp_path / "r.csv").rows.values()
    assert np.isnan(again.ms_ssim) and again.key == row.key
    assert "–" in table([row]) and means([row])[("jpeg-420", "50")][0] == 1


def test_bd_rates_by_image_and_of_mean_curves():
    def rows(codec, image, factor, nan=False):
        return [
            Row(
                codec=codec,
                setting=str(i),
                image=image,
                checksum="",
                bpp=factor * 2.0**i,
                psnr=30.0 + 3 * i,
                ms_ssim=np.nan if nan else 1 - 10 ** -(1 + i / 2),
                encode_ms=1.0,
                decode_ms=1.0,
                rate="file",
            )
            for i in range(4)
        ]

    both = [*rows("a", "x", 1.0), *rows("a", "y", 3.0), *rows("b", "x", 0.5), *rows("b", "y", 3.0)]
    found = compare(both, "a")["b"]
    assert found.keys() == {"PSNR", "MS-SSIM"}
    for comparison in found.values():
        np.testing.assert_allclose(comparison.images.mean, -25)
        np.testing.assert_allclose(comparison.curve, 100 * (3.5 / 4 - 1))
    small = [*rows("a", "x", 1.0, nan=True), *rows("b", "x", 0.5, nan=True)]
    text = bd_table(compare(small, "a"), "a")
    assert "| -50.0 % | none " in text and "b, MS-SSIM: x: anchor has the point" in text
    assert compare(small[:4], "a") == {}
    with pytest.raises(ValueError, match="not every image was measured at every setting"):
        mean_curve({"x": np.ones((2, 3)), "y": np.ones((3, 3))})
