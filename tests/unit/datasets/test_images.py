"""The one decoder: pixels as they were, upright, or a refusal."""

import io
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from facewright.datasets.images import (
    MAX_PIXELS,
    decode_rgb,
    image_format,
    image_size,
    is_image_name,
)
from facewright.errors import DatasetError

RGB = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def encode(form: str, image: Image.Image | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    (image or Image.fromarray(RGB)).save(out, form, **options)
    return out.getvalue()


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_lossless_pixels_come_back_in_rgb(form: str) -> None:
    assert np.array_equal(decode_rgb(encode(form)), RGB)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "1", "P"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    grey = np.linspace(0, 255, 80, dtype=np.uint8)[None].repeat(60, 0)
    image = Image.fromarray(grey).convert("RGB").convert(mode)
    decoded = decode_rgb(encode("TIFF" if mode == "CMYK" else "PNG", image))
    assert decoded.shape == (60, 80, 3)
    assert decoded.dtype == np.uint8
    tolerance = {"1": 128, "P": 20}.get(mode, 4)  # dithered, or of few colours
    assert np.abs(decoded[..., 0].astype(int) - grey).mean() < tolerance


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = np.linspace(0, 65535, 80).astype(np.uint16)[None].repeat(60, 0)
    decoded = decode_rgb(cv2.imencode(".png", deep)[1].tobytes())
    assert np.abs(decoded[..., 1].astype(int) - (deep >> 8)).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_image_upright(orientation: int) -> None:
    from PIL import ImageOps

    image = Image.fromarray(np.kron(RGB[:6, :8], np.ones((8, 8, 1), np.uint8)))
    exif = image.getexif()
    exif[0x0112] = orientation
    data = encode("JPEG", image, exif=exif, quality=95)
    with Image.open(io.BytesIO(data)) as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened).convert("RGB")).astype(int)
    decoded = decode_rgb(data)
    assert decoded.shape == upright.shape
    assert np.abs(decoded - upright).mean() < 2
    assert image_size(data) == (64, 48)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"exif": b"Exif\0\0" + b"x" * 40}),
        ("PNG", {}),
        ("WEBP", {}),
        ("BMP", {}),
        ("TIFF", {}),
    ],
)
def test_whole_files_decode_and_cut_ones_are_refused(form: str, options: dict[str, object]) -> None:
    data = encode(form, **options)
    assert image_size(data) == (80, 60)
    assert decode_rgb(data).shape == (60, 80, 3)
    for share in (0.0, 0.02, 0.2, 0.5, 0.9, 0.999):
        with pytest.raises(DatasetError, match="cannot be decoded"):
            decode_rgb(data[: int(len(data) * share)])


def test_what_is_no_image_has_no_size_and_is_refused() -> None:
    junk = np.random.default_rng(1).bytes(500)
    for data in (
        b"",
        b"text",
        junk,
        b"\xff\xd8" + junk,
        b"\xff\xd8\xff\xd9",
        b"%!PS-Adobe-3.0 EPSF",
    ):
        assert image_size(data) == (0, 0)
        with pytest.raises(DatasetError):
            decode_rgb(data)


def test_a_claim_of_too_many_pixels_is_refused_before_decoding() -> None:
    data = bytearray(encode("JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = (60000).to_bytes(2) * 2
    assert image_size(bytes(data)) == (60000, 60000)
    assert MAX_PIXELS < 60000 * 60000
    with pytest.raises(DatasetError):
        decode_rgb(bytes(data))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("size", [(1, 1), (250, 250), (17, 600)])
def test_jpeg_size_equals_pillow(size: tuple[int, int], subsampling: int) -> None:
    data = encode("JPEG", Image.new("RGB", size), subsampling=subsampling, comment=b"\xff\xc0" * 9)
    assert image_size(data) == size


def test_names_of_images() -> None:
    for name in ("A/1.jpg", "A/x y.JPEG", "陳/写真.Png", "a.b.webp"):
        assert is_image_name(name)
    for name in ("A/1.txt", "A/jpg", "A/.jpg", "A/._1.jpg", "__MACOSX/A/1.jpg", "A/1.jpg.part"):
        assert not is_image_name(name)
    for folder in (".thumbnails", "A/.git/x", "@eaDir", "A/@eaDir", "A/__MACOSX"):
        assert not is_image_name(f"{folder}/1.jpg")
        assert is_image_name(f"{folder.replace('.', '_').replace('@', '_')}x/1.jpg")


BANDS = np.zeros((48, 64, 3), np.uint8)  # colours in which a channel taken for another would show
BANDS[:, :16], BANDS[:, 16:32] = (200, 30, 40), (20, 180, 60)
BANDS[:, 32:48], BANDS[:, 48:] = (10, 40, 220), (240, 240, 240)
ADOBE = b"\xff\xee\x00\x0eAdobe"


def assert_like(data: bytes, pixels: np.ndarray, tolerance: int) -> None:
    decoded = decode_rgb(data)
    assert (decoded.shape, decoded.dtype) == (pixels.shape, np.uint8)
    assert np.abs(decoded.astype(int) - pixels).max() <= tolerance


def test_cmyk_jpegs_have_their_colours() -> None:
    # Adobe's programs write the inks inverted, and Pillow does as they do.
    data = encode("JPEG", Image.fromarray(BANDS).convert("CMYK"), quality=98)
    assert ADOBE in data
    assert_like(data, BANDS, 3)


def test_ycck_jpegs_have_their_colours() -> None:
    # Marked as YCCK, the same numbers are other colours: Pillow's reading of them is libjpeg's.
    data = bytearray(encode("JPEG", Image.fromarray(BANDS).convert("CMYK"), quality=98))
    data[data.index(ADOBE) + 15] = 2
    with Image.open(io.BytesIO(data)) as image:
        assert_like(bytes(data), np.asarray(image.convert("RGB")), 3)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_keep_their_colours(suffix: str, channels: int) -> None:
    deep = BANDS[..., ::-1].astype(np.uint16) * 257
    alpha = np.full((48, 64, 1), 65535, np.uint16)
    image = {1: deep[..., 2], 3: deep, 4: np.dstack([deep, alpha])}[channels]
    pixels = BANDS[..., :1].repeat(3, 2) if channels == 1 else BANDS
    assert_like(cv2.imencode(suffix, image)[1].tobytes(), pixels, 1)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_of_moving_pictures_and_pages_the_first_counts(form: str) -> None:
    others = [Image.fromarray(255 - BANDS), Image.fromarray(BANDS // 2)]
    options = {"lossless": True} if form == "WEBP" else {}
    data = encode(
        form, Image.fromarray(BANDS), save_all=True, append_images=others, duration=40, **options
    )
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
    assert image_size(data) == (64, 48)
    assert_like(data, BANDS, 0)


def test_gif_is_refused() -> None:
    data = encode("GIF", Image.fromarray(BANDS))
    assert image_size(data) == (0, 0)
    with pytest.raises(DatasetError, match="cannot be decoded"):
        decode_rgb(data)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_counts_in_every_form(form: str, orientation: int) -> None:
    from PIL import ImageOps

    image = Image.fromarray(BANDS)
    exif = image.getexif()
    exif[0x0112] = orientation
    data = encode(form, image, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    with Image.open(io.BytesIO(data)) as opened:
        assert_like(data, np.asarray(ImageOps.exif_transpose(opened).convert("RGB")), 0)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_the_format_is_told_from_twelve_bytes(form: str) -> None:
    assert image_format(encode(form)[:12]) == form


@pytest.mark.parametrize(
    "start", [b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"GIF89a", b"\x89PNG", b"text"]
)
def test_other_files_have_no_format(start: bytes) -> None:
    assert image_format(start) is None


def test_damaged_tiffs_are_measured_in_silence() -> None:
    data = bytearray(encode("TIFF"))
    count = int.from_bytes(data[4:8], "little")
    data[count + 12 * 9 + 2 + 8 : count + 12 * 9 + 2 + 12] = b"\xff\xff\xff\x7f"
    noisy = 0
    for at in range(count, len(data)):
        changed = data[:at] + b"\x7f" + data[at + 1 :]
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                with Image.open(io.BytesIO(changed)) as image:
                    assert image.size
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                pass
            noisy += bool(said)
            said.clear()
            image_size(bytes(changed))
            assert not said
    assert noisy
