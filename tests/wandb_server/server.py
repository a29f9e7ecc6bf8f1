"""The HTTP side: GraphQL, file_stream and file uploads, with switches for what can go wrong."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import re
import socket
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from tests.wandb_server.graphql import answer
from tests.wandb_server.store import Store, StoredRun

KEY = "0123456789abcdef0123456789abcdef01234567"
"""The one API key that the server takes."""


class WandbServer(Store):
    """A server on a free port; ``runs`` and ``views`` hold what arrived.

    Switches: ``status`` answers every GraphQL request with an HTTP error; ``hang`` takes requests and never answers;
    ``failing_streams`` answers so many file_stream requests with 500; ``stop()`` closes the port.
    """

    def __init__(self) -> None:
        super().__init__()
        self.status = 200
        self.hang = threading.Event()
        self.failing_streams = 0
        self.operations: list[str] = []
        self._http: _HTTP | None = None
        self._port = 0
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; after a stop again on the same port."""
        self._http = _HTTP(("127.0.0.1", self._port), _Handler)
        self._http.store = self
        self._port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Close the port and every connection, in the middle of whatever they do."""
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http.cut_connections()
            self._http = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def environment(self, home: Path, key: str = KEY) -> dict[str, str]:
        """Environment variables of a client: this server, a key and a home of its own."""
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": key,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_CONFIG_DIR": str(home / "config"),
            "WANDB_CACHE_DIR": str(home / "cache"),
            "WANDB_DATA_DIR": str(home / "data"),
            "HOME": str(home),
        }

    def only_run(self) -> StoredRun:
        """The one run there is."""
        (run,) = self.runs.values()
        return run


class _HTTP(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    store: WandbServer

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, and remember it."""
        self.connections.add(request)
        super().process_request(request, client_address)

    def cut_connections(self) -> None:
        """End every connection that is still open."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: the client resets idle connections."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HTTP

    def do_POST(self) -> None:
        store, body = self.server.store, json.loads(self._body() or b"{}")
        while store.hang.is_set():
            time.sleep(0.05)
        if not self._has_key():
            self._answer(401, {"errors": [{"message": "invalid API key"}]})
        elif self.path == "/graphql":
            self._graphql(body)
        elif self.path.endswith("/file_stream"):
            self._file_stream(body)
        else:
            self._answer(404, {})

    def do_PUT(self) -> None:
        _, _, run, name = self.path.split("/", 3)
        content = self._body()
        with self.server.store.lock:
            self.server.store.runs[run].files[unquote(name)] = content
        self._answer(200, {})

    def _graphql(self, body: dict[str, Any]) -> None:
        store = self.server.store
        operation = re.split(r"\W+", body.get("query", "").strip(), maxsplit=2)[1]  # query NAME (...
        with store.lock:
            store.operations.append(operation)
            if store.status != 200:
                self._answer(store.status, {"errors": [{"message": "refused"}]})
            else:
                self._answer(200, {"data": answer(store, store.url, operation, body.get("variables") or {})})

    def _file_stream(self, body: dict[str, Any]) -> None:
        store = self.server.store
        with store.lock:
            if store.failing_streams > 0:
                store.failing_streams -= 1
                self._answer(500, {})
                return
            store.runs[self.path.split("/")[-2]].streamed(body)
            self._answer(200, {"exitcode": None, "limits": {}})

    def _has_key(self) -> bool:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        return scheme == "Basic" and base64.b64decode(token).decode().endswith(f":{KEY}")

    def _body(self) -> bytes:
        content = self._chunks() if "chunked" in self.headers.get("Transfer-Encoding", "") else self._whole()
        with self.server.store.lock:
            self.server.store.received += content
        match self.headers.get("Content-Encoding"):
            case "gzip":
                return gzip.decompress(content)
            case "deflate":
                return zlib.decompress(content)
        return content

    def _whole(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""
