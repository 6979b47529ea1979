"""gRPC listens where HTTP does, or not at all; without a cluster."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import ray
from ray.serve._private import default_impl

from configs import ConfigError
from pipelines.runtime import ENVIRONMENT
from serve.rpc import ingress


class Server:
    """Notes what it is told to listen on and to answer."""

    def __init__(self) -> None:
        self.listens: list[str] = []
        self.services: list[str] = []

    def add_insecure_port(self, address: str) -> None:
        self.listens.append(address)

    def add_generic_rpc_handlers(self, handlers: tuple) -> None:
        self.services += [handler.service_name() for handler in handlers]

    def add_registered_method_handlers(self, *_: object) -> None:
        pass


@pytest.fixture
def serve_binds(monkeypatch):
    """Serve's own binding is put back afterwards."""
    monkeypatch.setattr(default_impl, "add_grpc_address", default_impl.add_grpc_address)


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1:9000"), ("0.0.0.0", "0.0.0.0:9000"), ("::1", "[::1]:9000")],
)
def test_grpc_listens_at_the_host_of_http(monkeypatch, serve_binds, host, address):
    """Whatever address Serve has in mind, its port is opened at http_options.host."""
    options = SimpleNamespace(host=host)
    controller = SimpleNamespace(get_http_config=SimpleNamespace(remote=lambda: options))
    monkeypatch.setattr(ray, "get_actor", lambda *_, **__: controller)
    monkeypatch.setattr(ray, "get", lambda value: value)
    assert ingress.bind_like_http() is None
    server = Server()
    default_impl.add_grpc_address(server, "[::]:9000")
    assert server.listens == [address]


def test_a_server_open_to_the_network_gets_no_service(serve_binds):
    """Without the binding start-up stops and says what to set; with it the service is there."""
    server = Server()
    with pytest.raises(ConfigError, match=r"every address: start Ray with what configs/ray\.env"):
        ingress.add_scored_posts(None, server)
    assert server.services == []
    ingress.bind_like_http()
    ingress.add_scored_posts(SimpleNamespace(GetScoredPosts=None), server)
    assert server.services == ["rayfeed.v1.ScoredPostsService"]


def test_serve_is_told_to_call_it():
    """The name in configs/ray.env is that of the function."""
    name = f"{ingress.bind_like_http.__module__}:{ingress.bind_like_http.__name__}"
    line = f"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH={name}"
    assert line in ENVIRONMENT.read_text().splitlines()
