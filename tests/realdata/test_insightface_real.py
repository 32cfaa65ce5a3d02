"""A `.bin` file as InsightFace distributes it: crops of real faces in NumPy arrays."""

import io
import itertools
import pickletools
from pathlib import Path

import pytest
from PIL import Image

from facewright.datasets.readers.insightface import read_pickled_pairs

pytestmark = pytest.mark.realdata


def test_small_lfw_is_read_whole(shared_data: Path) -> None:
    """The images equal the byte strings that pickletools lists, without unpickling either."""
    path = shared_data / "formats" / "small_lfw.bin"
    strings = [
        argument
        for opcode, argument, _ in pickletools.genops(path.read_bytes())
        if opcode.name == "BINBYTES"
    ]
    assert len(strings) == 20
    entries, pairs = read_pickled_pairs(path)
    found = {}
    for entry in entries:
        data = entry.read()
        found[entry.name.removesuffix(".jpg")] = data
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert (image.format, image.size) == ("JPEG", (112, 112))
        assert entry.columns == {"aligned": True}
    assert list(found.values()) == list(dict.fromkeys(strings))
    assert len(found) == 17
    assert pairs["fold"].tolist() == list(range(10))
    assert pairs["label"].tolist() == [1] * 10
    ends = itertools.chain.from_iterable(zip(pairs["a"], pairs["b"], strict=True))
    assert [found[id] for id in ends] == strings
    assert (pairs["a"].str[:6] == pairs["b"].str[:6]).all()
