"""As much of S3 as reading needs, in this process: pages of a list, objects, If-Match, refusals."""

import hashlib
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape

KEY = "reader"  # the access key that may read
BUCKET = "faces"
PAGE = 3  # objects in one answer


@dataclass
class Server:
    objects: dict[str, bytes]
    endpoint: str = ""
    listed: Callable[["Server"], None] = lambda server: None  # called once the last page is listed
    cut: set[str] = field(default_factory=set)  # keys whose next answer breaks off
    ignores_if_match: bool = False
    requests: list[str] = field(default_factory=list)


def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Server

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        bucket, _, key = urllib.parse.unquote(url.path).lstrip("/").partition("/")
        self.state.requests.append(f"{self.command} {key or '?'}")
        if f"Credential={KEY}/" not in self.headers.get("Authorization", ""):
            return self.refuse(403, "InvalidAccessKeyId")
        if bucket != BUCKET:
            return self.refuse(404, "NoSuchBucket")
        if not key:
            return self.list(dict(urllib.parse.parse_qsl(url.query)))
        data = self.state.objects.get(key)
        if data is None:
            return self.refuse(404, "NoSuchKey")
        wanted = self.headers.get("If-Match")
        if wanted and wanted != etag(data) and not self.state.ignores_if_match:
            return self.refuse(412, "PreconditionFailed")
        if key in self.state.cut:
            self.state.cut.remove(key)
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return None
        return self.answer(200, data, ETag=etag(data))

    def list(self, query: dict[str, str]) -> None:
        keys = sorted(k for k in self.state.objects if k.startswith(query.get("prefix", "")))
        start = int(query.get("continuation-token", "0"))
        page, more = keys[start : start + PAGE], start + PAGE < len(keys)
        items = "".join(
            f"<Contents><Key>{escape(urllib.parse.quote(key))}</Key>"
            f"<ETag>{escape(etag(self.state.objects[key]))}</ETag>"
            f"<Size>{len(self.state.objects[key])}</Size></Contents>"
            for key in page
        )
        token = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>" if more else ""
        if not more:  # before the reader can ask for anything that was listed
            self.state.listed(self.state)
        self.answer(
            200,
            "<ListBucketResult><EncodingType>url</EncodingType>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{items}</ListBucketResult>".encode(),
        )


class Quiet(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a reader that hangs up


@contextmanager
def serving(objects: dict[str, bytes]) -> Iterator[Server]:
    """A server of the bucket BUCKET with these objects, on loopback."""
    state = Server(dict(objects))
    server = Quiet(("127.0.0.1", 0), type("Bound", (Handler,), {"state": state}))
    state.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
