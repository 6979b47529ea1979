"""The audit's command: exit codes for CI, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import pytest
import yaml

from tests.train.preference.test_alignment import HARMFUL
from train.bundle import load
from train.bundle.versions import with_blend
from train.preference.audit import main


@pytest.fixture
def harmful(tmp_path: Path) -> Path:
    """A file of weights that rewards being blocked."""
    path = tmp_path / "weights.yaml"
    path.write_text(yaml.safe_dump(HARMFUL))
    return path


def test_a_harmful_blend_fails_ci(harmful, capsys):
    """Exit code 1, and the page says who is below."""
    assert main([str(harmful), "--stakeholders", "user", "society"]) == 1
    page = capsys.readouterr().out
    assert "**below**" in page
    assert "platform" not in page


def test_the_bar_can_be_set(harmful):
    """A lower bar lets it pass, a bar that the user misses does not."""
    assert main([str(harmful), "--at-least", "-0.9"]) == 0
    assert main([str(harmful), "--stakeholders", "user", "--at-least", "0.99"]) == 1


def test_presets_pass(capsys):
    """Both published presets serve all three stakeholders to some degree."""
    assert main(["x-algorithm-2026"]) == 0
    assert main(["heavy-ranker-2023"]) == 0


def test_it_writes_json_a_page_and_a_plot(harmful, tmp_path):
    """What is written says the same as the exit code."""
    pytest.importorskip("matplotlib")
    assert main([str(harmful), "--out", str(tmp_path / "out")]) == 1
    found = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert found["below"] == ["society"]
    assert (tmp_path / "out" / "audit.md").read_text().startswith("# Audit of")
    assert (tmp_path / "out" / "audit.png").stat().st_size > 5_000


def test_own_stakeholders_can_be_given(harmful, tmp_path):
    """NAME=FILE is a stakeholder of one's own: the blend serves itself entirely."""
    assert main([str(harmful), "--stakeholders", f"mine={harmful}", "--at-least", "0.999"]) == 0


@pytest.mark.parametrize("again", ["society", "society={file}", "={file}"])
def test_no_stakeholder_hides_another(again, harmful, capsys):
    """A name given twice would leave the first one out of the verdict; it is refused."""
    given = ["--stakeholders", "society", again.format(file=harmful)]
    assert main([str(harmful), *given]) == 2
    assert "--stakeholders" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["x-algoritm-2026"], ["x-algorithm-2026", "--stakeholders", "usr"]],
)
def test_what_cannot_be_read_is_another_exit_code(arguments, capsys):
    """A misspelt preset or stakeholder is exit code 2 with the near miss."""
    assert main(arguments) == 2
    assert "did you mean" in capsys.readouterr().err


def test_a_file_that_is_no_mapping_is_refused(tmp_path, capsys):
    """A list of weights names no actions."""
    path = tmp_path / "weights.yaml"
    path.write_text("[1, 2]")
    assert main([str(path)]) == 2
    assert "expected action: weight, got list" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["blend.json", "blend.yaml"])
def test_small_weights_are_numbers(name, tmp_path):
    """1e-05 is a number in both, as a tuned blend may write it; a word is none."""
    path = tmp_path / name
    path.write_text('{"favorite": 1e-05, "block_author": -1e-05}')
    assert main([str(path)]) == 0
    path.write_text('{"favorite": "much"}')
    assert main([str(path)]) == 2


def test_a_bundle_with_a_readers_own_actions_can_be_audited(bundle_path, tmp_path):
    """What no stakeholder has a view on is left out, as in the card; in a file it is an error."""
    blend = json.loads((bundle_path / "blend.json").read_text()) | {"saved": 3.0}
    for name in ("blend.json", "weights.json"):
        (tmp_path / name).write_text(json.dumps(blend))
    assert main([str(tmp_path)]) in (0, 1)
    assert main([str(tmp_path / "weights.json")]) == 2


def test_a_bundle_and_a_file_may_lie_elsewhere(bundle_path, harmful, capsys):
    """Any fsspec path will do, as for every command that takes a bundle; a wrong one is told."""
    memory = fsspec.filesystem("memory")
    memory.pipe("/audited/blend.json", (bundle_path / "blend.json").read_bytes())
    memory.pipe("/audited/weights.yaml", harmful.read_bytes())
    here = main([str(bundle_path)]), capsys.readouterr().out.replace(str(bundle_path), "")
    there = main(["memory://audited"]), capsys.readouterr().out.replace("memory://audited", "")
    assert there == here
    assert main(["memory://audited/weights.yaml"]) == 1
    assert main(["memory://nothing"]) == 2
    assert main(["nosuchplace://bundle"]) == 2
    assert capsys.readouterr().err.count("bundle") == 2


def test_a_folder_that_cannot_be_written_is_no_verdict(harmful, capsys):
    """CI tells a harmful blend (1) from a page that could not be written (2)."""
    assert main([str(harmful), "--out", str(harmful)]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_bar_that_is_no_cosine_is_refused(harmful):
    """NaN would find every stakeholder below."""
    with pytest.raises(SystemExit, match="2"):
        main([str(harmful), "--at-least", "nan"])


def test_a_bundle_can_be_audited_and_its_card_says_the_same(bundle_path, tmp_path):
    """A bundle's card carries the audit of its blend, anew for a bundle with another blend."""
    assert main([str(bundle_path), "--out", str(tmp_path / "out")]) in (0, 1)
    found = json.loads((tmp_path / "out" / "audit.json").read_text())
    card = load(bundle_path).card["audit"]
    assert card["worst"] == found["worst"]
    for name, of in card["stakeholders"].items():
        assert of["cosine"] == pytest.approx(found["stakeholders"][name]["cosine"])
    harmful = {"block_author": 500.0, "report": 500.0}
    with_blend(bundle_path, tmp_path / "other", weights=harmful)
    assert load(tmp_path / "other").card["audit"]["risk"] == "goodhart"
