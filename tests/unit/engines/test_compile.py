"""TensorRT engines: built for real where TensorRT-RTX is installed, which needs no GPU."""

from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest

from facewright.engines import compile as compiling
from facewright.engines import engine_status, load_recognizer, tensorrt_backend
from facewright.engines.compile import build_engines
from facewright.engines.onnxruntime_backend import unsigned_activations
from facewright.errors import EngineError
from facewright.models.recognizer import RecognizerCard, read_card, write_card

rtx = pytest.mark.skipif(
    tensorrt_backend.import_builder("tensorrt-rtx") is None,
    reason="TensorRT-RTX is not installed: pip install -e '.[tensorrt-rtx]'",
)
ENGINE = {
    "onnx_sha256": "0" * 64,
    "builder": "tensorrt-rtx",
    "builder_version": "1.0",
    "target": "sm89",
    "precision": "fp32",
    "max_batch": 8,
}


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A folder with the card of an engine, and no engine in it."""
    (tmp_path / "model.engine").write_bytes(b"no engine")
    write_card(
        tmp_path,
        name="student-sm89",
        format="engine",
        network="by_hand",
        embedding_size=16,
        precision="fp32",
        data_digest="",
        code_digest="",
        engine=ENGINE,
    )
    return tmp_path


@rtx
def test_fp32_and_int8_files_build(fp32: Path, int8: Path, tmp_path: Path) -> None:
    cards: list[RecognizerCard] = []
    for source in (fp32, int8):
        cards += build_engines(
            source, tmp_path, builder="tensorrt-rtx", targets=["sm89"], max_batch=4
        )
    assert [card.name for card in cards] == ["student-sm89", "student-int8-sm89"]
    for card, source in zip(cards, (fp32, int8), strict=True):
        assert read_card(tmp_path / card.name) == card
        assert card.format == "engine"
        assert card.precision == card.engine["precision"] == read_card(source).precision
        assert card.engine["onnx_sha256"] == read_card(source).weights_sha256
        assert card.engine["builder"] == "tensorrt-rtx"
        assert card.engine["builder_version"]
        assert card.engine["target"] == "sm89"
        assert card.engine["max_batch"] == 4


@rtx
def test_a_refused_network_is_one_line_with_the_reason(int8: Path, tmp_path: Path) -> None:
    """TensorRT reads no unsigned activations; that is why they are not stored so."""
    folder = tmp_path / "unsigned"
    folder.mkdir()
    onnx.save(unsigned_activations(onnx.load(int8 / "model.onnx")), folder / "model.onnx")
    write_card(
        folder,
        name="unsigned",
        format="onnx",
        network="by_hand",
        embedding_size=16,
        precision="int8",
        data_digest="",
        code_digest="",
    )
    with pytest.raises(EngineError, match=r"cannot read unsigned: .*zero point"):
        build_engines(folder, tmp_path, builder="tensorrt-rtx", targets=["sm89"], max_batch=4)
    assert not (tmp_path / "unsigned-sm89").exists()


@rtx
def test_an_unknown_target_is_refused_with_the_known_ones(fp32: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"sm53: choose from sm75, sm80, sm86, sm89"):
        build_engines(fp32, tmp_path, builder="auto", targets=["sm89", "sm53"], max_batch=4)
    assert not list(tmp_path.iterdir())


@rtx
def test_only_onnx_is_built(engine: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="engine form, not ONNX"):
        build_engines(engine, tmp_path, builder="tensorrt-rtx", targets=["sm89"], max_batch=4)


def test_off_builds_nothing(fp32: Path, tmp_path: Path) -> None:
    assert build_engines(fp32, tmp_path, builder="off", targets=["sm89"], max_batch=4) == []
    assert not list(tmp_path.iterdir())


def test_without_a_builder_the_extra_is_named(
    fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "import_builder", lambda builder: None)
    for builder in ("auto", "tensorrt-rtx"):
        with pytest.raises(EngineError, match=r"pip install -e '\.\[tensorrt-rtx\]'"):
            build_engines(fp32, tmp_path, builder=builder, targets=["sm89"], max_batch=4)
    with pytest.raises(EngineError, match=r"pip install -e '\.\[tensorrt\]'"):
        build_engines(fp32, tmp_path, builder="tensorrt", targets=["sm89"], max_batch=4)


def test_tensorrt_without_a_gpu_is_refused(
    fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "import_builder", lambda builder: SimpleNamespace())
    monkeypatch.setattr(compiling, "gpu_target", lambda: None)
    with pytest.raises(EngineError, match=r"set compile\.builder to tensorrt-rtx"):
        build_engines(fp32, tmp_path, builder="tensorrt", targets=["sm89"], max_batch=4)


@pytest.mark.parametrize(
    ("gpu", "installed", "chosen"),
    [
        ("sm90", {"tensorrt", "tensorrt-rtx"}, "tensorrt"),
        (None, {"tensorrt", "tensorrt-rtx"}, "tensorrt-rtx"),
        ("sm90", {"tensorrt-rtx"}, "tensorrt-rtx"),
    ],
)
def test_auto_takes_tensorrt_where_a_gpu_is(
    monkeypatch: pytest.MonkeyPatch, gpu: str | None, installed: set[str], chosen: str
) -> None:
    monkeypatch.setattr(compiling, "gpu_target", lambda: gpu)
    monkeypatch.setattr(
        compiling, "import_builder", lambda builder: builder if builder in installed else None
    )
    assert compiling._choose("auto") == (chosen, chosen)


def test_an_unknown_builder_is_refused(fp32: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="choose one of auto, tensorrt, tensorrt-rtx, off"):
        build_engines(fp32, tmp_path, builder="trt", targets=["sm89"], max_batch=4)


@pytest.mark.parametrize(
    ("version", "gpu", "reason"),
    [
        (None, "sm89", r"pip install -e '\.\[tensorrt-rtx\]'"),
        ("2.0", "sm89", "built with tensorrt-rtx 1.0, installed is 2.0"),
        ("1.0", None, "no CUDA GPU"),
        ("1.0", "sm86", "built for sm89, the GPU here is sm86"),
    ],
)
def test_status_tells_why_an_engine_cannot_run(
    engine: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str | None,
    gpu: str | None,
    reason: str,
) -> None:
    module = None if version is None else SimpleNamespace(__version__=version)
    monkeypatch.setattr(tensorrt_backend, "import_builder", lambda builder: module)
    monkeypatch.setattr(tensorrt_backend, "gpu_target", lambda: gpu)
    status = engine_status(engine)
    assert status is not None
    with pytest.raises(EngineError, match=reason):
        raise EngineError(status)
    with pytest.raises(EngineError, match=reason):
        load_recognizer(engine)


def test_status_is_none_where_everything_fits(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = SimpleNamespace(__version__="1.0")
    monkeypatch.setattr(tensorrt_backend, "import_builder", lambda builder: module)
    monkeypatch.setattr(tensorrt_backend, "gpu_target", lambda: "sm89")
    assert engine_status(engine) is None


def test_status_of_what_is_no_engine_is_refused(fp32: Path) -> None:
    with pytest.raises(EngineError, match="not an engine"):
        engine_status(fp32)
