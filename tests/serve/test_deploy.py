"""What `deploy` makes of a port that is taken and of a server that is not its own; without Ray."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from serve import api, api_health, deploy

Answer = Callable[[int, str], str]


@pytest.fixture
def answer() -> Iterator[Answer]:
    """Start a server that answers everything with one status and body; gives its URL."""
    servers = []

    def start(status: int, body: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _health(bundle: str, problem: str | None = None) -> str:
    model = api.Model(bundle=bundle, version="1", as_of_ms=0)
    health = api_health.Health(
        status="ok", model=model, versions={}, in_flight=0, failures={}, problem=problem
    )
    return health.model_dump_json()


@pytest.mark.parametrize("bundle", ["/project/artifacts/bundle", "artifacts/bundle", ""])
def test_a_feed_with_our_bundle_is_ours(answer, bundle):
    """The path as the file gives it, absolute or from the project's root, or left to the code."""
    assert deploy._not_serving(answer(200, _health("/project/artifacts/bundle")), bundle) is None


def test_another_bundle_is_waited_for(answer):
    """A feed with the bundle before is not the one deployed, and says why if it knows."""
    url = answer(200, _health("/project/old", "new: not a bundle"))
    assert deploy._not_serving(url, "new") == (
        f"{url} serves /project/old, not new: new: not a bundle"
    )


@pytest.mark.parametrize(("status", "body"), [(200, "hello"), (200, "{}"), (404, "none")])
def test_another_server_is_not_taken_for_the_feed(answer, status, body):
    """A 200 from anybody is no feed."""
    url = answer(status, body)
    assert deploy._not_serving(url, "") == f"{url} answers {status}, not as a feed does"


def test_nobody_is_no_feed():
    """As long as nothing listens there is a reason, too."""
    assert "does not answer" in str(deploy._not_serving("http://127.0.0.1:1", ""))


def test_the_bundle_is_that_of_user_config_if_there_is_one():
    """`user_config` has the last word about what is loaded, as in Serve."""
    application = {"args": {"bundle": "a"}, "deployments": [{"name": "FeedHandler"}]}
    assert deploy._bundle(application) == "a"
    application["deployments"] = [{"name": "FeedHandler", "user_config": {"bundle": "b"}}]
    assert deploy._bundle(application) == "b"
    assert deploy._bundle({"args": {}}) == ""


def test_a_port_in_use_is_a_deploy_error(tmp_path, monkeypatch):
    """HAProxy's refusal names the address, its own reason and what to do, without a traceback."""
    from ray import serve
    from ray.exceptions import RayTaskError

    def refuse(*_: object) -> None:
        cause = RuntimeError("HAProxy crashed during startup: Address already in use")
        raise RayTaskError("HAProxyManager.ready", "Traceback ...", cause)

    monkeypatch.setattr(serve, "start", refuse)
    config = tmp_path / "serve.yaml"
    config.write_text(
        "http_options: {host: 127.0.0.1, port: 8765}\n"
        "applications: [{name: rayfeed, import_path: serve.app:build}]\n"
    )
    with pytest.raises(deploy.DeployError) as refused:
        deploy.deploy(config)
    text = str(refused.value)
    assert text.startswith("127.0.0.1:8765: Serve's HTTP did not start: HAProxy crashed")
    assert "Address already in use" in text
    assert f"change http_options.port in {config}" in text
    assert "Traceback" not in text
