"""CLINC-150: what people ask an assistant, 10 domains → 150 intents, CC BY 3.0.

Larson et al. 2019. Texts out of scope are not read, nor is the public validation split: with 100
texts an intent to draw from, studies cut their own.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from train.downloads import member
from train.prefix.labelled import LabelledTexts

FETCH = (
    "fetch data_full.json and domains.json from the folder data of "
    "https://github.com/clinc/oos-eval, packed as clinc150.zip or in a folder clinc150"
)
# Five groups of two domains each, as three-level studies of the set use.
SUPER_DOMAINS = {
    "finance": ("banking", "credit_cards"),
    "home_life": ("home", "kitchen_and_dining"),
    "productivity": ("utility", "work"),
    "social": ("meta", "small_talk"),
    "transport": ("auto_and_commute", "travel"),
}


def read(folder: Path) -> LabelledTexts:
    """Domain and intent of 15,000 texts to train on and 4,500 to test on."""
    full = json.loads(member(folder, "clinc150.zip", "data_full.json", FETCH))
    domains = json.loads(member(folder, "clinc150.zip", "domains.json", FETCH))
    domain_of = {_key(intent): _key(name) for name, inner in domains.items() for intent in inner}
    rows = [*full["train"], *full["test"]]
    intents = [_key(intent) for _, intent in rows]
    test = np.arange(len(rows)) >= len(full["train"])
    levels = ([domain_of[intent] for intent in intents], intents)
    return LabelledTexts.of("clinc", [text for text, _ in rows], levels, test)


def _key(name: str) -> str:
    """Names have blanks in one file and underscores in the other."""
    return name.strip().lower().replace(" ", "_")
