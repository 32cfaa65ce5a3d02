"""Choice, suppression, decoding and refusals; what needs real faces is marked."""

import tarfile
import xml.etree.ElementTree as ET

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from facewright.detection import Faces, choose_face, load_detector
from facewright.detection.search import suppress
from facewright.errors import DetectorError


def faces_at(*boxes):
    count = len(boxes)
    return Faces(
        boxes=np.array(boxes, np.float32).reshape(count, 4),
        landmarks=np.zeros((count, 5, 2), np.float32),
        scores=np.ones(count, np.float32),
    )


def test_subject_is_large_and_central():
    corner, centre, small = [0, 0, 44, 44], [80, 80, 120, 120], [97, 97, 103, 103]
    assert choose_face(faces_at(corner, centre), width=200, height=200) == 1
    assert choose_face(faces_at(small, centre), width=200, height=200) == 1
    assert choose_face(faces_at(centre, centre), width=200, height=200) == 0
    assert choose_face(faces_at(), width=200, height=200) is None


def test_faces_refuse_parts_that_do_not_belong_together():
    with pytest.raises(ValueError, match="belong together"):
        Faces(
            boxes=np.zeros((2, 4), np.float32),
            landmarks=np.zeros((1, 5, 2), np.float32),
            scores=np.zeros(2, np.float32),
        )


@pytest.mark.parametrize("smaller", [False, True])
def test_suppression_equals_the_textbook_loop(smaller):
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 60, (200, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, 40, (200, 2))], axis=1).astype(np.float32)
    scores = rng.random(200).astype(np.float32)
    kept: list[int] = []
    for index in np.argsort(-scores):
        for other in kept:
            a, b = boxes[index].astype(float), boxes[other].astype(float)
            inner = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
            areas = (a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod()
            if inner / (min(areas) if smaller else sum(areas) - inner) > 0.4:
                break
        else:
            kept.append(index)
    assert suppress(boxes, scores, overlap=0.4, smaller=smaller).tolist() == kept


def network_file(path, outputs):
    """An ONNX file for 64×64 images whose outputs are constants."""
    nodes = [
        helper.make_node(
            "Constant", [], [name], value=helper.make_tensor(name, 1, value.shape, value.ravel())
        )
        for name, value in outputs.items()
    ]
    graph = helper.make_graph(
        nodes,
        "constants",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in outputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


def scrfd_outputs(sizes=(1, 4, 10)):
    return {
        f"{size}_{stride}": np.zeros((2 * (64 // stride) ** 2, size), np.float32)
        for size in sizes
        for stride in (8, 16, 32)
    }


def test_scrfd_decoding(tmp_path):
    outputs = scrfd_outputs()
    # Stride 16, row 2, column 1, second of two anchors: the centre is (16, 32).
    cell = (2 * 4 + 1) * 2 + 1
    outputs["1_16"][cell] = 0.9
    outputs["4_16"][cell] = [0.5, 1.0, 0.75, 0.25]
    outputs["10_16"][cell] = np.arange(10) / 10
    detector = load_detector(
        "scrfd", model=network_file(tmp_path / "n.onnx", outputs), min_face=0.5, threshold=0.5
    )
    found = detector.detect(np.zeros((128, 64, 3), np.uint8))  # is halved to fit into 64×64
    np.testing.assert_allclose(found.boxes, [[15.5, 31.5, 55.5, 71.5]], atol=1e-4)
    marks = [[32 + 3.2 * 2 * k - 0.5, 64 + 3.2 * (2 * k + 1) - 0.5] for k in range(5)]
    np.testing.assert_allclose(found.landmarks[0], marks, atol=1e-4)
    np.testing.assert_allclose(found.scores, [0.9])


def refusal(name, **arguments):
    arguments = {"min_face": 0.2, "threshold": 0.7} | arguments
    with pytest.raises(DetectorError) as caught:
        load_detector(name, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_cannot_be_opened_is_refused_in_one_line(tmp_path):
    assert "mtcnn, yunet, scrfd" in refusal("dlib")
    assert "min_face" in refusal("mtcnn", min_face=20)
    assert "threshold" in refusal("mtcnn", threshold=float("nan"))
    assert "own weights" in refusal("mtcnn", model=tmp_path / "x.onnx")
    text = tmp_path / "text.onnx"
    text.write_text("no network")
    plain = network_file(tmp_path / "plain.onnx", scrfd_outputs(sizes=(1, 4)))
    other = network_file(tmp_path / "other.onnx", {"label": np.zeros((1, 2), np.float32)})
    for name in ("yunet", "scrfd"):
        assert "needs an ONNX file" in refusal(name)
        assert "missing.onnx is missing" in refusal(name, model=tmp_path / "missing.onnx")
        assert "text.onnx cannot be opened" in refusal(name, model=text)
    assert "without landmarks" in refusal("scrfd", model=plain)
    assert "no SCRFD" in refusal("scrfd", model=other)
    assert "no YuNet" in refusal("yunet", model=plain)


@pytest.mark.parametrize("shape", [(1, 1), (9, 40), (64, 64), (300, 20)])
def test_mtcnn_finds_no_face_where_there_is_none(shape):
    detector = load_detector("mtcnn", min_face=0.2, threshold=0.7)
    grey = np.full((*shape, 3), 90, np.uint8)
    noise = np.random.default_rng(4).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert len(detector.detect(grey)) == len(detector.detect(noise)) == 0
    assert detector.detect(grey).landmarks.shape == (0, 5, 2)


def test_an_image_of_another_form_is_refused():
    detector = load_detector("mtcnn", min_face=0.2, threshold=0.7)
    for image in (np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((9, 9, 4), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            detector.detect(image)


def some_lfw(folder, count):
    marks = {}
    for line in (folder / "lfw" / "landmarks5.txt").read_text().splitlines():
        path, *values = line.split("\t")
        marks[path] = np.array(values, float).reshape(5, 2)
    photos = []
    with tarfile.open(folder / "lfw" / "lfw-deepfunneled.tgz") as tar:
        for member in tar:
            path = member.name.partition("/")[2]
            if path in marks:
                data = np.frombuffer(tar.extractfile(member).read(), np.uint8)
                photos.append((cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), marks[path]))
                if len(photos) == count:
                    break
    return photos


DETECTORS = [
    ("mtcnn", None, 0.7, 0.06),
    ("yunet", "face_detection_yunet_2026may.onnx", 0.6, 0.13),
    ("scrfd", "scrfd_500m_bnkps.onnx", 0.5, 0.09),
    ("scrfd", "scrfd_2.5g.onnx", 0.5, 0.07),
]


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "file", "threshold", "error"), DETECTORS)
def test_landmarks_on_photos_mirrored_and_cut(name, file, threshold, error, shared_data):
    model = shared_data / "detectors" / file if file else None
    detector = load_detector(name, model=model, min_face=0.2, threshold=threshold)
    errors, cut_errors, mirrored = [], [], []
    for image, marks in some_lfw(shared_data, 30):
        eyes = np.linalg.norm(marks[1] - marks[0])
        faces = detector.detect(image)
        chosen = faces.landmarks[choose_face(faces, width=250, height=250)]
        errors.append(np.linalg.norm(chosen - marks, axis=1).mean() / eyes)
        flipped = detector.detect(np.ascontiguousarray(image[:, ::-1]))
        back = flipped.landmarks[choose_face(flipped, width=250, height=250)][[1, 0, 2, 4, 3]]
        mirrored.append(np.abs(chosen - (back * [-1, 1] + [249, 0])).mean() / eyes)
        # A frame as wide as the face and its ears: it touches every border.
        x, y = np.rint(marks.mean(axis=0) - 1.05 * eyes).astype(int)
        side = round(2.1 * eyes)
        cut = detector.detect(np.ascontiguousarray(image[y : y + side, x : x + side]))
        best = choose_face(cut, width=side, height=side)
        if best is not None:
            off = cut.landmarks[best] + [x, y] - marks
            cut_errors.append(np.linalg.norm(off, axis=1).mean() / eyes)
    assert np.median(errors) < error
    assert np.median(mirrored) < 0.06
    assert len(cut_errors) >= 29
    assert np.median(cut_errors) < error


@pytest.mark.realdata
def test_mtcnn_finds_small_faces_of_groups(shared_data):
    folder = shared_data / "photos" / "dlib_faces"
    detector = load_detector("mtcnn", min_face=0.08, threshold=0.7)
    seen, true = 0, 0
    for listing in sorted(folder.glob("*.xml")):
        for item in ET.parse(listing).getroot().iter("image"):
            image = cv2.imread(str(folder / item.get("file")), cv2.IMREAD_COLOR_RGB)
            found = detector.detect(image).landmarks.mean(axis=1)
            for box in item.iter("box"):
                left, top, width, height = (
                    float(box.get(key)) for key in ("left", "top", "width", "height")
                )
                inside = (found > [left, top]) & (found < [left + width, top + height])
                true, seen = true + 1, seen + bool(inside.all(axis=1).any())
    assert true == 43
    assert seen >= 41
