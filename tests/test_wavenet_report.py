"""Reports: what files cost, what the tables say, and a checklist that can say NO."""

import dataclasses
import functools
import math

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxvision import record
from jaxvision.entropy.quantize import pmf_tables
from jaxvision.wavenet_mv import adamix, container, wavelet
from jaxvision.wavenet_mv.codec import Codec
from jaxvision.wavenet_mv.compressor import CompressorConfig
from jaxvision.wavenet_mv.contexts import SCALES
from jaxvision.wavenet_mv.heads.model import HeadsConfig
from jaxvision.wavenet_mv.model import WavenetMV, WavenetMvConfig
from jaxvision.wavenet_mv.reader import Reader
from jaxvision.wavenet_mv.report import checklist, checks_model, checks_run, rates, results
from jaxvision.wavenet_mv.report.facts import facts_of
from jaxvision.wavenet_mv.report.layers import branches
from jaxvision.wavenet_mv.report.pictures import busiest
from jaxvision.wavenet_mv.report.write import bring, write_report
from jaxvision.wavenet_mv.wavelet import WaveletConfig

README = """
launch/setup_coco.sh; launch/setup_davis.sh
python -m jaxvision.launch --config=configs/wavenet_mv.py
"""


def config(**compressor):
    return WavenetMvConfig(
        wavelet=WaveletConfig(levels=2, width=8),
        compressor=CompressorConfig(latents=32, deeper=1, sigma="channel", **compressor),
    )


@functools.cache
def reader():
    heads = HeadsConfig(detect_classes=2, actions=2, width=16, depth=1, stride=4)
    return Reader(config(), heads, rngs=nnx.Rngs(0))


@functools.cache
def codec():
    return Codec(reader().codec)


@functools.cache
def pictures():
    """Two of one size, whose sides are multiples of nothing."""
    y, x = np.mgrid[:42, :50]
    waves = np.stack([np.sin(x / 5 + k) + np.cos(y / 7 - k) for k in range(3)], -1)
    found = {}
    for name, seed in (("one", 0), ("two", 1)):
        noise = np.random.default_rng(seed).normal(0, 4, waves.shape)
        found[name] = np.clip(127 + (50 - 20 * seed) * waves + noise, 0, 255).astype(np.uint8)
    return found


def make_run(folder):
    """What a run of two stages leaves, as far as the report looks at it."""
    (folder / "config.json").write_text('{"run": ["compressor", "heads"], "seed": 42}')
    for stage, steps in (("compressor", 6000), ("heads", 2000)):
        checkpoint = folder / stage / "checkpoints" / str(steps)
        checkpoint.mkdir(parents=True)
        where = record.Record(step=steps, examples=0, batch=8, seconds=90.0, metrics={})
        extra = {"best": None, "arrays": {}, "files": {}}
        record.write_record(checkpoint, dataclasses.asdict(where) | extra)
        log = folder / "tensorboard" / stage
        log.mkdir(parents=True)
        (log / "events.out.tfevents.1.vm").write_bytes(b"some events")
    (folder / "README.md").write_text(README)
    return folder


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A run's folder with its report, what was echoed, and the scalars."""
    folder = make_run(tmp_path_factory.mktemp("run"))
    tasks, said = folder / "heads" / "tasks.csv", []
    tasks.write_text("lambda,bpp,mAP,mIoU\n256,0.2,0.31,0.5\n1024,0.6,0.40,0.45\n")
    scalars = write_report(
        codec(),
        pictures(),
        folder,
        reader=reader(),
        tasks=tasks,
        readme=folder / "README.md",
        baselines=("jpeg-420", "jpeg-xl"),
        between=1,
        echo=said.append,
    )
    return folder, said, scalars


def test_a_report_is_whole(reported):
    folder, said, scalars = reported
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    wanted = {"codec.csv", "baselines.csv", "tasks.csv", "RESULTS.md", "checklist_report.md"}
    assert wanted | {"fig/rd.pdf", "fig/rd.png", "fig/pictures.png"} <= files
    assert not [name for name in files if ".part" in name or "/." in name]
    assert any(line.startswith("2/2 two: ") for line in said)
    first = codec().encode(pictures()["one"], 0.0), codec().encode(pictures()["two"], 0.0)
    assert scalars["bpp_256"] == pytest.approx(8 * sum(map(len, first)) / (2 * 42 * 50))
    assert "ms_ssim_256" not in scalars  # too small
    assert scalars["checklist"] == 7


def test_a_line_of_codec_csv_is_a_file(reported):
    found = rates.read(reported[0] / "codec.csv")
    assert [r.quality for r in found[:5]] == [0, 0.5, 1, 1.5, 2] and len(found) == 10
    assert found[1].weight == pytest.approx((256 * 512) ** 0.5, rel=1e-6)
    assert all(r.same for r in found)
    image, rate = pictures()["two"], found[8]
    data = codec().encode(image, rate.quality)
    error = np.mean((codec().decode(data).image.astype(float) - image) ** 2)
    assert rate.bytes == len(data) and rate.psnr == pytest.approx(
        10 * np.log10(255**2 / error), abs=1e-3
    )
    # -Σ log2 p from the definition, in double precision
    padded = np.pad(image, [(0, 6), (0, 6), (0, 0)], mode="reflect")
    latents = codec().programs.analysis(padded)
    symbols = codec().programs.symbols(codec().programs.in_steps(latents, rate.quality))
    bits = 0.0
    for x, rows in zip(symbols, codec().programs.rows(symbols), strict=True):
        reach = SCALES[rows] * math.sqrt(2)
        below = [np.vectorize(math.erfc)((abs(x) + end) / reach) / 2 for end in (-0.5, 0.5)]
        bits -= np.log2(np.maximum(below[0] - below[1], 2.0**-16)).sum()
    assert rate.model_bpp == pytest.approx(bits / (42 * 50), rel=1e-3)  # float32's erfc


def test_qualities_are_those_that_a_header_holds():
    found = rates.qualities(codec(), between=2)
    assert found[0] == 0 and found[3] == 1 and found[-1] == 2 and len(found) == 7
    assert all(q * container.QUALITY == int(q * container.QUALITY) for q in found)


def test_a_decoder_that_shows_something_else_is_told(reported, monkeypatch, tmp_path):
    real = codec().reconstruct
    monkeypatch.setattr(codec(), "reconstruct", lambda *a: real(*a) ^ 1)
    found = rates.measure_all(codec(), dict(one=pictures()["one"]), between=0, echo=lambda _: None)
    rates.write(tmp_path / "codec.csv", found)
    assert not any(r.same for r in rates.read(tmp_path / "codec.csv"))
    results.write(tmp_path, facts_of(codec(), tmp_path))
    text = (tmp_path / "RESULTS.md").read_text()
    assert "3 of 3 files decode to other pixels: one at quality 0, one at quality 1" in text
    assert "no checkpoint says how it was trained" in text and "No heads were measured" in text


def test_tasks_are_read_from_their_table(reported):
    text = (reported[0] / "RESULTS.md").read_text()
    assert "From λ = 256 to 1024: mAP 0.310 → 0.400 (+0.090), mIoU 0.500 → 0.450 (-0.050)." in text
    assert "trained: compressor 6,000 steps in 1.5 min, heads 2,000 steps" in text


def test_another_table_is_refused(tmp_path):
    path = tmp_path / "codec.csv"
    path.write_text("picture,bpp\n")
    with pytest.raises(ValueError, match="does not begin with picture,checksum,quality"):
        rates.read(path)
    with pytest.raises(ValueError, match="no pictures"):
        write_report(codec(), {}, tmp_path)


def test_tasks_of_an_earlier_report_do_not_stay(tmp_path):
    source, target = tmp_path / "a.csv", tmp_path / "tasks.csv"
    source.write_text("lambda\n")
    for path in (source, target):  # its own place is left alone
        bring(path, target)
        assert target.read_text() == "lambda\n"
    bring(None, target)
    assert not target.exists()


def test_the_busiest_part_is_found():
    image = np.zeros((40, 60, 3), np.uint8)
    image[25:33, 42:50] = np.random.default_rng(0).integers(0, 256, (8, 8, 3))
    rows, columns = busiest(image, 16)
    assert rows.start <= 25 < 33 <= rows.stop == rows.start + 16
    assert columns.start <= 42 < 50 <= columns.stop == columns.start + 16
    assert busiest(image, 50) == (slice(0, 40), busiest(image, 50)[1])


def test_the_checklist_says_yes(reported):
    text = (reported[0] / "checklist_report.md").read_text()
    assert text.count("**YES**") == 7 and "**NO**" not in text
    assert "compressor: checkpoint 6000, 11 bytes for TensorBoard" in text


def test_layers_without_relu_are_told(monkeypatch):
    assert len(branches(codec().model)) == 4

    def leaky(self, x):
        return wavelet.CORRECTION * self.conv3.value(self.conv2(self.conv1(x, low=-127)))

    monkeypatch.setattr(wavelet.Branch, "__call__", leaky)
    answer = checks_model.wavelet_layers(codec().model)
    assert not answer.holds and "not that of its layers with ReLU" in answer.evidence


def test_layers_of_another_size_are_told():
    model = nnx.clone(codec().model)
    model.wavelet.steps[0].update.conv3 = wavelet.WholeConv(8, 3, 3, rngs=nnx.Rngs(0))
    answer = checks_model.wavelet_layers(model)
    assert not answer.holds
    assert answer.evidence == "UpdateCNN 0: its convolutions are 3×3, 3×3, 3×3"


def test_the_literal_layers_are_seen(monkeypatch):
    cfg = WavenetMvConfig(
        wavelet=WaveletConfig(mode="literal", width=8), compressor=CompressorConfig(latents=8)
    )
    model = WavenetMV(cfg, rngs=nnx.Rngs(0))
    assert checks_model.wavelet_layers(model).holds and checks_model.mixing(model).holds
    linear = lambda self, x: self.conv3(self.conv2(self.conv1(x)))  # noqa: E731
    monkeypatch.setattr(wavelet.FloatBranch, "__call__", linear)
    assert not checks_model.wavelet_layers(model).holds


def test_mixing_without_attention_is_told(monkeypatch):
    monkeypatch.setattr(adamix, "softmax", lambda logits: jnp.full_like(logits, 31.0))
    answer = checks_model.mixing(codec().model)
    assert not answer.holds and "not the mixture of its filters" in answer.evidence


def test_three_filters_are_told():
    model = nnx.clone(codec().model)
    mixer = model.mixer.analysis
    mixer.branches = nnx.List(list(mixer.branches)[:3])
    answer = checks_model.mixing(model)
    assert not answer.holds and "it has 3 branches" in answer.evidence


def test_other_tables_and_lambdas_are_told():
    most = [math.ceil(6 * s) for s in SCALES]
    laplace = [
        np.exp(-math.sqrt(2) * abs(np.arange(-m, m + 1)) / s)
        for m, s in zip(most, SCALES, strict=True)
    ]
    tables = pmf_tables([x / x.sum() for x in laplace], [-m for m in most])
    assert checks_model.gaussian_coding(codec().model, codec().tables).holds
    assert not checks_model.gaussian_coding(codec().model, tables).holds
    two = WavenetMV(config(lambdas=(256, 512)), rngs=nnx.Rngs(0))
    assert not checks_model.gaussian_coding(two, codec().tables).holds


def test_heads_that_see_pixels_are_told(monkeypatch):
    def features(self, latents):
        pixels = self.synthesise(latents)[:, ::4, ::4]
        return jnp.tile(pixels, 11)[..., :32]

    assert "no heads" in checks_model.without_pixels(codec(), None).evidence
    monkeypatch.setattr(WavenetMV, "features", features)
    answer = checks_model.without_pixels(codec(), reader())
    assert not answer.holds and "parameters that make pixels" in answer.evidence


def test_heads_that_ignore_the_file_are_told(monkeypatch):
    monkeypatch.setattr(WavenetMV, "features", lambda self, x: jnp.zeros((1, 8, 8, 32)))
    answer = checks_model.without_pixels(codec(), reader())
    assert not answer.holds and "does not change with the symbols" in answer.evidence


@pytest.mark.parametrize(
    "lost, says",
    [
        ("tensorboard/heads/events.out.tfevents.1.vm", "heads: checkpoint 2000, nothing"),
        ("heads/checkpoints/2000/record.json", "heads: no checkpoint"),
        ("config.json", "no run was found"),
    ],
)
def test_a_stage_without_its_files_is_told(tmp_path, lost, says):
    assert checks_run.saved(make_run(tmp_path)).holds
    (tmp_path / lost).unlink()
    answer = checks_run.saved(tmp_path)
    assert not answer.holds and says in answer.evidence


@pytest.mark.parametrize("name", ["codec.csv", "tasks.csv", "fig/rd.pdf", "fig/rd.png"])
def test_a_report_without_its_files_is_told(reported, tmp_path, name):
    (tmp_path / "fig").mkdir()
    for wanted in ("codec.csv", "tasks.csv", "fig/rd.pdf", "fig/rd.png"):
        (tmp_path / wanted).write_bytes((reported[0] / wanted).read_bytes())
    assert checks_run.reported(tmp_path).holds
    lines = (tmp_path / name).read_bytes().splitlines(keepends=True)
    (tmp_path / name).write_bytes(lines[0] if name.endswith("csv") else b"")
    answer = checks_run.reported(tmp_path)
    assert not answer.holds and f"{name}: absent or" in answer.evidence


@pytest.mark.parametrize("word", [*checks_run.DOWNLOADS, *checks_run.COMMANDS])
def test_a_readme_without_its_commands_is_told(tmp_path, word):
    path = tmp_path / "README.md"
    assert "there is no README.md" in checks_run.documented(path).evidence
    path.write_text(README)
    assert checks_run.documented(path).holds
    path.write_text(README.replace(word, "…"))
    answer = checks_run.documented(path)
    assert not answer.holds and f"does not say `{word}`" in answer.evidence


def test_no_is_written(tmp_path):
    checks = [checklist.Check("A claim", checks_model.Answer(False, "it is not so"))]
    checklist.write(tmp_path / "a.md", checks)
    assert "1. A claim: **NO**\n\n   it is not so." in (tmp_path / "a.md").read_text()
