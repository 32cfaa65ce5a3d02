"""The report in a real browser, headless Chromium: nothing cut off, nothing blank, no request."""

import json
import re
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from facewright.evaluation.report import write_report

from ..generated_answers import CARDS, crop, generated

pytestmark = pytest.mark.browser

PHONE, DESKTOP = 390, 1280  # px
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--virtual-time-budget=10000",
    "--proxy-server=http://127.0.0.1:9",  # nobody: the browser itself does not call home either
)
OWN = re.compile(
    r"[/ .](google|googleapis|gstatic|gvt1)\.com[:/]"
)  # what a browser asks for unasked
DARK = "--blink-settings=preferredColorScheme=0"
# A window is never narrower than 500 px, so a phone is a frame. What is asked of the page in it:
MEASURE = """
const frame = document.querySelector("iframe"), told = document.querySelector("pre");
frame.onload = () => {
  const page = frame.contentDocument, all = [...page.querySelectorAll("body *")];
  const box = (node) => node.getBoundingClientRect();
  const scrolled = (node) => node.closest(".wide, .patterns, details:not([open])");
  const name = (node) => `${node.tagName} ${node.textContent.slice(0, 40)}`;
  const outside = (node) => box(node).right > edge + 0.5 || box(node).left < -0.5;
  const cut = (node) => {
    const outer = box(node.closest("svg")), inner = box(node);
    return inner.left < outer.left - 1 || inner.right > outer.right + 1
      || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1;
  };
  told.textContent = JSON.stringify({
    width: page.documentElement.clientWidth,
    scrollWidth: page.documentElement.scrollWidth,
    height: page.documentElement.scrollHeight,
    outside: all.filter((node) => !scrolled(node) && outside(node)).map(name),
    cut: [...page.querySelectorAll("svg text")].filter(cut).map(name),
    smallest: Math.min(...[...page.querySelectorAll("svg text")].map((node) => box(node).height)),
    sections: [...page.querySelectorAll("section")].map((node) => ({
      id: node.id, top: box(node).top, width: box(node).width, height: box(node).height,
    })),
    resources: frame.contentWindow.performance.getEntriesByType("resource").map((e) => e.name),
  });
};
"""


@pytest.fixture(scope="module")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium here: `make test-browser` installs Debian's")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    answers, thresholds, parity = generated()
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(
        path,
        title="Verification report",
        notice="These figures come from made-up people.",
        answers=answers,
        thresholds=thresholds,
        parity=parity,
        quantized=[{"against PyTorch": "student", "cosine_mean": 0.99999}],
        engines=[{"engine": "student-sm86", "run here": "there is no GPU of that kind"}],
        data=CARDS,
        faces=crop,
    )
    return path


def browse(chromium: str, page: Path, *flags: str) -> str:
    """What the browser prints."""
    profile = page.with_name("profile")
    shutil.rmtree(profile, ignore_errors=True)
    command = [chromium, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def framed(page: Path, *, width: int, height: int) -> Path:
    """A page that holds the page in a frame of that size, and asks about it."""
    path = page.with_name(f"frame-{width}.html")
    content = json.dumps(page.read_text(encoding="utf-8")).replace("</", "<\\/")
    path.write_text(
        '<!doctype html><meta charset="utf-8"><body style="margin:0"><pre hidden></pre>'
        f'<iframe style="width:{width}px;height:{height}px;border:0"></iframe>'
        f"<script>const edge = {width};{MEASURE}; frame.srcdoc = {content};</script>",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="module", params=[PHONE, DESKTOP], ids=["phone", "desktop"])
def measured(request: pytest.FixtureRequest, chromium: str, page: Path) -> dict[str, Any]:
    frame = framed(page, width=request.param, height=900)
    dom = browse(chromium, frame, "--window-size=1400,1000", "--dump-dom")
    found = re.search(r"<pre hidden[^>]*>(\{.*?\})</pre>", dom, flags=re.DOTALL)
    assert found, dom[-500:]
    return {"asked": request.param, **json.loads(unescape(found[1]))}


def screenshot(
    chromium: str, page: Path, *flags: str, width: int, height: int
) -> npt.NDArray[np.uint8]:
    """`(height, width, 3) uint8`"""
    out = page.with_name("shot.png")
    browse(chromium, page, f"--screenshot={out}", f"--window-size={width},{height}", *flags)
    image = cv2.imread(str(out))
    assert image is not None
    return image


def test_nothing_goes_over_the_edge(measured: dict[str, Any]) -> None:
    assert measured["width"] == measured["asked"]
    assert measured["scrollWidth"] <= measured["asked"]
    assert measured["outside"] == []


def test_no_word_of_a_plot_is_cut_off_or_too_small(measured: dict[str, Any]) -> None:
    assert measured["cut"] == []
    assert measured["smallest"] >= 9  # px of a line


def test_all_sections_are_there_one_below_the_other(measured: dict[str, Any]) -> None:
    sections = measured["sections"]
    assert len(sections) == 13
    end = 0.0
    for section in sections:
        assert section["top"] >= end, section
        assert section["width"] > 0.8 * min(measured["asked"], 1024)
        assert section["height"] > 60
        end = section["top"] + section["height"]
    assert end <= measured["height"] + 1


def test_the_page_asks_for_nothing(measured: dict[str, Any]) -> None:
    assert [name for name in measured["resources"] if not name.startswith("data:")] == []


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_is_blank(chromium: str, page: Path, width: int, dark: bool) -> None:
    height = 15_000 if width == PHONE else 9_000
    shown = page if width == DESKTOP else framed(page, width=width, height=height)
    image = screenshot(chromium, shown, *[DARK] * dark, width=width, height=height)[:, :width]
    grey = image.mean(axis=2)
    assert np.median(grey) < 60 if dark else np.median(grey) > 240
    # No screenful is empty down to the end of the page, and colours tell recognizers apart.
    rows = np.flatnonzero(grey.std(axis=1) > 1)
    assert rows[-1] > 0.6 * height
    assert np.diff(rows).max() < 150
    spread = image.max(axis=2).astype(int) - image.min(axis=2)
    assert (spread > 60).mean() > 0.004


class _Proxy(socketserver.BaseRequestHandler):
    """Writes down what pages ask for, and refuses."""

    asked: list[str]

    def handle(self) -> None:
        line = self.request.recv(4096).split(b"\r\n")[0].decode(errors="replace")
        if not OWN.search(line):
            self.asked.append(line)
        self.request.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
def proxy() -> Iterator[tuple[int, list[str]]]:
    """Port of a proxy, and the requests that it gets."""
    asked: list[str] = []
    handler = type("Handler", (_Proxy,), {"asked": asked})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1], asked
        server.shutdown()


def test_no_request_leaves_the_browser(
    chromium: str, page: Path, proxy: tuple[int, list[str]]
) -> None:
    port, asked = proxy
    through = f"--proxy-server=http://127.0.0.1:{port}", "--proxy-bypass-list=<-loopback>"
    browse(chromium, page, *through, "--dump-dom")
    assert asked == []
    # The same page with a picture from outside is noticed, once its own policy is taken off.
    text = page.read_text(encoding="utf-8")
    bare = re.sub(r"<meta http-equiv[^>]*>", "", text)
    outside = '<img alt="" src="http://pictures.invalid/face.jpg">'
    other = page.with_name("other.html")
    other.write_text(bare.replace("<main>", f"<main>{outside}"), encoding="utf-8")
    browse(chromium, other, *through, "--dump-dom")
    assert [line for line in asked if "pictures.invalid" in line]
    asked.clear()
    other.write_text(text.replace("<main>", f"<main>{outside}"), encoding="utf-8")
    browse(chromium, other, *through, "--dump-dom")
    assert asked == []
