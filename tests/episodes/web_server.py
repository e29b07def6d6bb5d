"""A web server for tests: answers ranged requests, and misbehaves when it is told to."""

import re
import threading
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


class Served:
    """A folder on the web, and what was asked of it.

    `fault(path, number)` says how request `number` for a path goes wrong: a status code,
    "cut" (half of the body), "stall" (silence), "whole" (no ranges), or None.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, ""
        self.asked: list[tuple[str, str]] = []
        self.sent = 0
        self.stalled = threading.Event()
        self.fault: Callable[[str, int], object] = lambda path, number: None

    def count(self, path: str) -> int:
        return sum(one == path for one, _ in self.asked)


def handler_of(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = unquote(self.path).lstrip("/")
            asked = self.headers.get("Range", "")
            served.asked.append((path, asked))
            fault = served.fault(path, served.count(path))
            file = served.folder / path
            if isinstance(fault, int) or not file.is_file():
                self.send_response(fault if isinstance(fault, int) else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content, status = file.read_bytes(), 200
            tag = f'"{file.stat().st_mtime_ns}-{len(content)}"'
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", asked)
            total = len(content)
            if wanted and fault != "whole":
                content, status = content[int(wanted[1]) : int(wanted[2]) + 1], 206
            self.send_response(status)
            if status == 206:
                self.send_header("Content-Range", f"bytes {asked[6:]}/{total}")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", tag)
            self.end_headers()
            if not body:
                return
            if fault in ("cut", "stall"):
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                if fault == "stall":
                    served.stalled.wait(5)
                self.close_connection = True
                return
            served.sent += len(content)
            self.wfile.write(content)

    return Handler


@contextmanager
def serving(folder: Path):
    served = Served(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(served))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # clients go away in these tests
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield served
    finally:
        served.stalled.set()
        server.shutdown()
        server.server_close()
