"""The folder of a finished run of python -m train, written whole or not at all.

model.safetensors    weights with the lowest validation loss; a ranker's are calibrated
config.json          settings, with nothing left to a default
result.json          each validation, how many steps, and what the run was made from
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.prepared import read_manifest
from pipelines.whole import new_folder, save_json
from train.models.prefix import PrefixConfig

if TYPE_CHECKING:  # serving reads bundles, which are made of runs, and needs no training loop
    from train.loop import TrainConfig

MODEL, CONFIG, RESULT = "model.safetensors", "config.json", "result.json"
# What a run is to be -> learning.kind that will do.
KINDS = {"retrieval": ("retrieval", "next_event"), "ranker": ("ranker",), "prefix": ("prefix",)}


class RunError(ValueError):
    """A run that cannot be used; the text says which and why."""


def resolve(config: TrainConfig, data: Path) -> TrainConfig:
    """The settings with whole paths, and as many actions as the data's reader has.

    Raises:
        FileNotFoundError: `data` is not prepared.
        ValueError: the model would read more events of a viewer than the data keep.
    """
    manifest, spec = read_manifest(data), config.learning.model.features
    kept = manifest["config"]["examples"]["history_len"]
    for name in ("history_len", *(["counted_len"] if spec.rates else [])):
        if getattr(spec, name) > kept:
            raise ValueError(
                f"learning.model.features.{name}: {getattr(spec, name)}, but {data} keeps only "
                f"{kept} events before a visit; prepare it with a longer examples.history_len"
            )
    features = spec.model_copy(update={"num_actions": len(manifest["actions"])})
    model = config.learning.model.model_copy(update={"features": features})
    changed: dict[str, Any] = {"model": model}
    if (prefix := getattr(config.learning, "prefix", None)) is not None:
        head = read_run_for(Path(prefix), "prefix", manifest)["learning"]["model"]
        model = model.model_copy(update={"prefix": PrefixConfig.model_validate(head)})
        changed = {"model": model, "prefix": str(Path(prefix).resolve())}
    learning = config.learning.model_copy(update=changed)
    paths = {"data": str(data), "out": str(Path(config.out).resolve())}
    return config.model_copy(update={"learning": learning, **paths})


@contextmanager
def new_run(config: TrainConfig, story: dict[str, Any]) -> Iterator[Path]:
    """A folder for the weights; what is in `story` at the block's end is written beside them.

    Args:
        config: as `resolve` returns it; its finished folder is `<out>/<name>`.
        story: of the run. `origin` is added.
    """
    with new_folder(Path(config.out) / config.name) as made:
        yield made
        save_json(made / CONFIG, config.model_dump(mode="json"))
        save_json(made / RESULT, story | origin(config))


def origin(config: TrainConfig) -> dict[str, Any]:
    """What a run is made from, beside its settings: the data, and of texts and codes what it reads.

    The data's fingerprint is of the tables; vectors of text and semantic ids are made later.
    """
    manifest, spec = read_manifest(Path(config.data)), config.learning.model.features
    return {
        "data_fingerprint": manifest["fingerprint"],
        "content": manifest["content"]["identity"] if spec.content_size else None,
        "codes": manifest["codes"] if spec.num_code_levels else None,
    }


def read_run(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and story of the finished run in the folder `run`.

    Raises:
        RunError: there is none.
    """
    try:
        settings, story = (json.loads((run / name).read_text()) for name in (CONFIG, RESULT))
    except (OSError, json.JSONDecodeError) as error:
        raise RunError(f"{run}: not a finished run of python -m train") from error
    if not (isinstance(settings, dict) and isinstance(story, dict) and (run / MODEL).exists()):
        raise RunError(f"{run}: not a finished run of python -m train: a file is wrong or missing")
    return settings, story


def read_run_for(run: Path, kind: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """Settings of a finished run that is to serve.

    Args:
        run: its folder.
        kind: "retrieval", "ranker" or "prefix".
        manifest: of the data that it must have been trained on.

    Raises:
        RunError: the run is missing, of the other kind, or was trained on other data.
    """
    settings, story = read_run(run)
    if settings["learning"]["kind"] not in KINDS[kind]:
        raise RunError(f"{run}: a {settings['learning']['kind']} run, expected {kind}")
    theirs, ours = story["data_fingerprint"], manifest["fingerprint"]
    if theirs != ours:
        raise RunError(f"{run}: trained on data {theirs}, not {ours}")
    if kind == "prefix":  # which predicts no actions
        return settings
    num_outputs = settings["learning"]["model"]["features"]["num_actions"]
    if num_outputs != len(manifest["actions"]):
        raise RunError(f"{run}: {num_outputs} actions, the data has {len(manifest['actions'])}")
    return settings
