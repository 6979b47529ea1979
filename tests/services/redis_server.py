"""A real redis-server on loopback that a test starts, freezes and kills."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

PROGRAM = "redis-server"
_PATIENCE_S = 30.0  # a busy machine is no failure


class RedisServer:
    """One server with its data in a folder and a port of its own, the same after a restart."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder, self._options = folder, options
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where clients find it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start, and return when it answers; what it wrote down before is there again."""
        values = {"bind": "127.0.0.1", "port": self.port, "dir": self._folder}
        values |= {"appendonly": "yes", "appendfsync": "always", "save": '""'}
        settings = [f"{name} {value}" for name, value in values.items()]
        config = self._folder / "redis.conf"
        config.write_text("\n".join([*settings, *self._options, ""]))
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([PROGRAM, str(config)], stdout=log, stderr=log)
        deadline = time.monotonic() + _PATIENCE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no Redis: {(self._folder / 'redis.log').read_text()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once; connections are refused from now on."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Let connections be made, and nobody answer, until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on where `freeze` stopped it."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill it if it runs."""
        if self._process is not None:
            self.kill()

    def _answers(self) -> bool:
        try:
            with closing(socket.create_connection(("127.0.0.1", self.port), 1)) as client:
                client.sendall(b"PING\r\n")
                reply = client.recv(16)
        except OSError:
            return False
        return reply.startswith((b"+PONG", b"-NOAUTH"))

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisServer]:
    """A started server with extra lines of redis.conf, killed at the end."""
    server = RedisServer(folder, *options)
    try:
        server.start()
        yield server
    finally:
        server.close()
