"""Settings files: what is wrong is said where it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, PositiveFloat

from configs import Config, ConfigError, load


class Optim(Config):
    """A group of settings."""

    lr: PositiveFloat = 3e-4
    enable_logq: bool = False


class Small(Config):
    """One branch of a tagged union."""

    kind: Literal["small"] = "small"
    width: int = 8


class Large(Config):
    """The other branch."""

    kind: Literal["large"] = "large"
    num_heads: int = 2


class Run(Config):
    """A whole file."""

    optim: Optim = Optim()
    model: Small | Large = Field(default=Small(), discriminator="kind")
    steps: int = 1


@pytest.fixture
def write(tmp_path: Path):
    """A function that writes a settings file and returns its path."""

    def write(text: str) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return path

    return write


def test_differences_only(write):
    """A file holds only what differs; the rest are the defaults."""
    run = load(write("optim:\n  lr: 0.1\n"), Run)

    assert run == Run(optim=Optim(lr=0.1))


def test_override_wins_and_has_yaml_types(write):
    """An override beats the file and is read as YAML."""
    run = load(write("steps: 2\n"), Run, ["steps=3", "optim.enable_logq=true"])

    assert run == Run(steps=3, optim=Optim(enable_logq=True))


def test_empty_file_is_all_defaults(write):
    """An empty file is a valid run."""
    assert load(write(""), Run) == Run()


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("optim:\n  enable_lgoq: true\n", [], "optim.enable_lgoq: no such setting; did you mean"),
        ("", ["optim.lr=-1"], "optim.lr: Input should be greater than 0, got -1"),
        ("", ["steps"], "expected an override of the form a.b=value"),
        ("steps: 1\n", ["steps.more=2"], "steps is 1, not a group of settings"),
        ("- 1\n", [], "expected a mapping of settings, got list"),
        ("a: [\n", [], "not valid YAML"),
        ("model:\n  kind: large\n  num_haeds: 4\n", [], "did you mean 'num_heads'"),
    ],
)
def test_errors_say_where_and_what(write, text, overrides, message):
    """Each mistake is an error that names the place and what is allowed."""
    with pytest.raises(ConfigError) as caught:
        load(write(text), Run, overrides)

    assert message in str(caught.value)


def test_missing_file():
    """A file that is not there is named."""
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot read"):
        load("nowhere.yaml", Run)


def test_settings_cannot_change():
    """A loaded run is immutable."""
    with pytest.raises(ValueError, match="frozen"):
        Run().steps = 2
