"""As much of S3 as a broker needs to keep its log in: objects in memory that outlive the broker."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

_DATE = "Thu, 01 Jan 1970 00:00:00 GMT"


class ObjectStore:
    """One bucket on loopback: put (also only if unchanged), get, head, delete and list.

    Attributes:
        url: where it listens.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"store": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing: a broker that is killed hangs up."""


class _Handler(BaseHTTPRequestHandler):
    store: ObjectStore
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_PUT(self) -> None:
        """Write an object, unless `If-Match` or `If-None-Match` forbids it."""
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        with self.store.lock:
            there = self.store.objects.get(self._key)
            same = self.headers["If-Match"]
            if (self.headers["If-None-Match"] == "*" and there is not None) or (
                same and (there is None or _etag(there) != same)
            ):
                return self._answer(412)
            self.store.objects[self._key] = body
        return self._answer(200, etag=_etag(body))

    def do_GET(self) -> None:
        """Read an object or a part of it, or list the bucket."""
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "list-type" in query:
            return self._answer(200, self._listed(query))
        with self.store.lock:
            body = self.store.objects.get(self._key)
        if body is None:
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        if self.headers["If-None-Match"] == _etag(body):
            return self._answer(304, etag=_etag(body))
        if self.headers["If-Match"] not in (None, _etag(body)):
            return self._answer(412)
        wanted = self.headers["Range"]
        if not wanted:
            return self._answer(200, body, _etag(body))
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(len(body) - int(last), 0)
        stop = min(int(last) + 1, len(body)) if first and last else len(body)
        span = f"bytes {start}-{stop - 1}/{len(body)}"
        return self._answer(206, body[start:stop], _etag(body), span)

    do_HEAD = do_GET  # noqa: N815

    def do_DELETE(self) -> None:
        """Forget an object."""
        with self.store.lock:
            self.store.objects.pop(self._key, None)
        self._answer(204)

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]

    def _listed(self, query: dict[str, list[str]]) -> bytes:
        prefix = query.get("prefix", [""])[0]
        delimiter = query.get("delimiter", [""])[0]
        after = query.get("start-after", [""])[0]
        folders, parts = set(), []
        with self.store.lock:
            found = sorted(self.store.objects.items())
        for key, body in found:
            if not key.startswith(prefix) or key <= after:
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest[: rest.index(delimiter) + 1])
                continue
            parts.append(
                f"<Contents><Key>{escape(key)}</Key><Size>{len(body)}</Size>"
                f"<ETag>{escape(_etag(body))}</ETag>"
                "<LastModified>1970-01-01T00:00:00.000Z</LastModified></Contents>"
            )
        parts += [
            f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>"
            for f in sorted(folders)
        ]
        inside = "".join(parts) + "<IsTruncated>false</IsTruncated>"
        return f"<ListBucketResult>{inside}</ListBucketResult>".encode()

    def _answer(
        self, status: int, body: bytes = b"", etag: str | None = None, span: str | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", _DATE)
        if etag:
            self.send_header("ETag", etag)
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
