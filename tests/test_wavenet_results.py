"""RESULTS.md says what the tables say: rates saved, how sure that is, what was not run."""

from jaxvision.baselines.measure import Row
from jaxvision.wavenet_mv.report import others, rates, results
from jaxvision.wavenet_mv.report.facts import Facts, Stage


def curve(name, share, noise=0.0):
    """A codec that needs `share` of the bits that a straight line says, on three pictures."""
    for k in range(3):
        for psnr in (28.0, 30.0, 32.0, 34.0):
            yield Row(
                codec=name,
                setting=f"{psnr:g}",
                image=str(k),
                checksum="",
                bpp=share * (1 + noise * (k - 1)) * 2 ** (psnr / 4 - 8),
                psnr=psnr,
                ms_ssim=1 - 10 ** (-psnr / 20),
                encode_ms=1.0,
                decode_ms=1.0,
                rate="file",
            )


def test_results_say_what_the_numbers_say(tmp_path):
    ours = [
        rates.Rate(
            picture=row.image,
            checksum="",
            quality=(row.psnr - 28) / 2,
            weight=256.0,
            bytes=1000,
            bpp=row.bpp,
            model_bpp=row.bpp / 1.005,
            psnr=row.psnr,
            ms_ssim=row.ms_ssim,
            encode_s=0.1,
            decode_s=0.2,
            same=True,
        )
        for row in curve("", 0.8)
    ]
    rates.write(tmp_path / "codec.csv", ours)
    near = list(curve("near", 0.8, noise=0.3))
    other = [*curve("worse", 1.0), *curve("better", 0.4), *near]
    others.write_rows(tmp_path / "baselines.csv", other)
    stages = (Stage(name="compressor", steps=6000, minutes=12.5),)
    facts = Facts(
        model="0123", lambdas=(256, 512), hardware="a CPU", jax="1", seed=42, stages=stages
    )
    results.write(tmp_path, facts, {"vvc": "no ffmpeg"})
    text = (tmp_path / "RESULTS.md").read_text()
    for words in (
        "Model `0123`, trained: compressor 6,000 steps in 12.5 min; seed 42, one run.",
        "Measured on a CPU",
        "20.0 % fewer bits than worse, [-20.0, -20.0] % over 3 pictures, from 28.0 to 34.0 dB",
        "100.0 % more bits than better, [+100.0, +100.0] % over 3 pictures",
        "it cannot be told from near: ",
        "vvc: not run: no ffmpeg",
        "of fewer than 10 pictures",
        "All 12 files decode to the pixels that the encoder meant. Beside what the model's own "
        "probabilities ask for, files are +0.50 to +0.50 %",
    ):
        assert words in text, words
