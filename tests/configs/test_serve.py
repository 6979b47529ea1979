"""The two Serve config files say the same of the feed."""

from __future__ import annotations

from pathlib import Path

import yaml

CONFIGS = Path(__file__).parents[2] / "configs"


def test_topologies_differ_in_nothing_but_the_topology():
    """Whoever goes from one file to the other keeps the same posts, clock and bundle."""
    dag, fused = (
        yaml.safe_load((CONFIGS / name).read_text())["applications"][0]["args"]
        for name in ("serve.yaml", "serve_fused.yaml")
    )
    assert fused.pop("topology") == "fused"
    assert fused == dag
