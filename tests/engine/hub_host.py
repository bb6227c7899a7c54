"""A hub on this machine, as small and as wicked as a test wants it."""

from __future__ import annotations

import hashlib
import json
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

REPOSITORY = "maker/tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def safetensors(values: int, fill: int = 1) -> bytes:
    """A file of one float32 tensor."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes([fill % 256]) * (4 * values)


def controlnet() -> dict[str, bytes]:
    """A repository of one network."""
    return {
        "config.json": b'{"_class_name": "ControlNetModel"}',
        "sub/vocab.txt": b"a\nb\n",
        "diffusion_pytorch_model.safetensors": safetensors(300_000),
        "diffusion_pytorch_model.bin": b"\x80\x04a pickle.",
        "README.md": b"words",
    }


class Host(ThreadingHTTPServer):
    """Serves `files` at one commit.

    Attributes:
        files: Content by name.
        cut: Bytes after which the next answers for weights end, one entry per answer.
        ranges: Whether it resumes.
        seen: Path, `Range` and `Authorization` of every request.
        onward: Turns a path into a place to send the asker to, empty for none.
        spoil: Changes the listing before it goes out.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.cut: list[int] = []
        self.ranges = True
        self.status: dict[str, int] = {}
        self.seen: list[tuple[str, str, str]] = []
        self.onward: Callable[[str], str] = lambda path: ""
        self.spoil: Callable[[dict[str, Any]], None] = lambda listing: None
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.thread = threading.Thread(target=lambda: self.serve_forever(0.02), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()

    def listing(self) -> bytes:
        rows = []
        for name, data in self.files.items():
            row: dict[str, Any] = {"rfilename": name, "size": len(data)}
            if name.endswith((".safetensors", ".bin")):
                row["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            row["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            rows.append(row)
        listing = {"id": REPOSITORY, "sha": COMMIT, "siblings": rows}
        self.spoil(listing)
        return json.dumps(listing).encode()

    def names(self) -> list[str]:
        """Files that were asked for."""
        return [path.split(f"/resolve/{COMMIT}/")[1] for path, _, _ in self.seen if "/resolve/" in path]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        host = cast("Host", self.server)
        span = self.headers.get("Range", "")
        host.seen.append((self.path, span, self.headers.get("Authorization", "")))
        onward = host.onward(self.path)
        if onward:
            self.send_response(302)
            self.send_header("Location", onward)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        name = self.path.partition(f"/resolve/{COMMIT}/")[2] or self.path.removeprefix("/cdn/")
        if self.path == f"/api/models/{REPOSITORY}/revision/{COMMIT}?blobs=true":
            self.answer(host.listing(), "")
        elif host.status.get(name) or name not in host.files:
            self.send_error(host.status.get(name, 404))
        else:
            cut = host.cut.pop(0) if name.endswith(".safetensors") and host.cut else None
            self.answer(host.files[name], span if host.ranges else "", cut)

    def answer(self, data: bytes, span: str, cut: int | None = None) -> None:
        start = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
        self.send_response(206 if span else 200)
        if span:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:] if cut is None else data[start : start + cut])
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""
