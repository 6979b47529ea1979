"""The README is true: what it names exists, what it says to run runs.

Blocks fenced as ```bash are run as they stand, one after the other, from the project's root.
Those fenced as ```sh need a cluster, other logs or another machine; what they name must exist all
the same.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from pipelines.schema import EVENTS, FOLLOWS, POSTS, USERS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
FOREVER = "make serve"  # runs until it is stopped: the blocks after it talk to it
TO_WRITE = {"pipelines/feed/filters/duration.py"}  # what the reader is shown how to add
SELF = "make test"  # would run this test again
IN_DEMO = MAKEFILE.split("demo: install", 1)[1].split("\n\n", 1)[0].replace("\\\n", " ").split()


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[str]:
    """Its lines, with continued ones joined and comments left out."""
    lines = block.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


COMPARED = ("model", "user_rate", "post_rate", "user_and_post")
RETRIEVERS = ("model", "popular", "popular_7_days", "transitions", "ease")


def test_there_is_something_to_run():
    """The first block a reader meets is the one command that does it all."""
    assert commands(blocks("bash")[0]) == ["make demo"]


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"(?:`|^)make ([a-z0-9]+)", README, re.MULTILINE)))
)
def test_make_targets_exist(name):
    """Each `make …` that the README speaks of is a target."""
    assert re.search(rf"^{name}:", MAKEFILE, flags=re.MULTILINE)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"python -m ([\w.]+)", README))))
def test_modules_exist(name):
    """Each `python -m …` that the README speaks of can be run."""
    spec = importlib.util.find_spec(name)

    assert spec is not None
    if spec.submodule_search_locations:
        assert importlib.util.find_spec(f"{name}.__main__")


@pytest.mark.parametrize(
    "path",
    sorted(
        set(re.findall(r"\b((?:configs|pipelines|train|serve|tests)/[\w./-]*\w)", README))
        - TO_WRITE
    ),
)
def test_paths_exist(path):
    """Each file or folder of the project that the README names is there."""
    assert (ROOT / path).exists()


@pytest.mark.parametrize("table", [EVENTS, POSTS, USERS, FOLLOWS], ids=lambda t: t.name)
def test_contract_is_documented(table):
    """Every column of the log contract is in the README, with what it holds."""
    section = README.split(f"**`{table.name}`**", 1)[1].split("\n**`", 1)[0]
    for column in table.columns:
        assert f"`{column.name}`" in section
        if column.doc != "whether the viewer did this":
            assert column.doc in section


def test_results_are_those_of_the_report():
    """The README's and the log's result tables show what train/reports/demo.json holds."""
    report = json.loads((ROOT / "train" / "reports" / "demo.json").read_text())
    expected = [
        (action.replace("_", " "), [f"{scores[name]:.3f}" for name in COMPARED])
        for action, scores in report["ranking"]["auc"].items()
    ]
    for text in (README, (ROOT / "train" / "LOG.md").read_text()):
        rows = [
            [cell.strip(" *") for cell in line.strip("|").split("|")]
            for line in text.splitlines()
            if line.startswith("| ")
        ]
        for action, scores in expected:
            assert next(row[2:6] for row in rows if row[0] == action) == scores
        for metric in ("recall@10", "recall@100"):
            found = report["retrieval"][metric]
            scores = [f"{found[name]:.3f}" for name in RETRIEVERS]
            assert next(row[1:] for row in rows if row[0] == metric) == scores


@pytest.fixture(scope="module")
def shell() -> dict[str, str]:
    """The environment a reader has after `. .venv/bin/activate`."""
    path = f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "VIRTUAL_ENV": str(ROOT / ".venv")}


@pytest.mark.readme
def test_commands_run(shell, tmp_path):
    """Every ```bash block runs to its end, in order, with the server up from `make serve` on."""
    server: subprocess.Popen[bytes] | None = None
    try:
        for command in (c for block in blocks("bash") for c in commands(block)):
            if command == SELF or is_in_demo(command):
                continue
            if command == FOREVER:
                server = start_server(shell, tmp_path / "serve.log")
                continue
            started = time.monotonic()
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command],
                cwd=ROOT,
                env=shell,
                capture_output=True,
                text=True,
                timeout=2400,  # `make demo` takes a quarter of an hour of two free cores
            )
            assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            print(f"{time.monotonic() - started:6.0f} s  {command}")
    finally:
        if server is not None:
            os.killpg(server.pid, signal.SIGINT)
            server.wait(timeout=120)


def is_in_demo(command: str) -> bool:
    """Whether `make demo` runs this `python -m …` with the very same arguments."""
    words = command.removeprefix("python -m ").split()
    starts = range(len(IN_DEMO) - len(words) + 1)
    return any([w.rstrip(";") for w in IN_DEMO[at : at + len(words)]] == words for at in starts)


def start_server(shell: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """`make serve` in the background, once it answers."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            ["make", "serve"],
            cwd=ROOT,
            env=shell,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-4000:]
        try:
            if httpx.get("http://127.0.0.1:8000/healthz", timeout=2).status_code == 200:
                return server
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise TimeoutError(log.read_text()[-4000:])
