"""Training on Ray Train: the driver that starts workers, and what each worker does.

Ray Data streams the training split to the workers; every worker steps the same
number of times; rank 0 writes checkpoints. A lost worker costs the steps since
the last checkpoint, never the run.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
import ray.train
import ray.train.torch
import torch
import torch.distributed
from safetensors.torch import load_file, save_file

from pipelines.prepared import read_manifest
from pipelines.runtime import connect, quiet_data
from train import git
from train.calibration import calibrate
from train.learners import Learner, RankingLearner, make_learner
from train.learners.measures import means
from train.loop import Progress, Totals, TrainConfig, Trainer, batches, prefetch, train_epoch
from train.progress import shown
from train.runs import MODEL, new_run, resolve

STATE = "state.pt"  # in a checkpoint, beside the weights
# Ranks a checkpoint of mid-epoch behind every finished epoch; Ray's record cannot hold infinity.
NOT_VALIDATED = sys.float_info.max
_READ_ONCE = 128 << 20  # bytes of Parquet that may stay in Ray's object store, a few times larger


def fit(config: TrainConfig, callbacks: Sequence[Any] = ()) -> Path:
    """Train on Ray and keep the weights with the lowest validation loss.

    Args:
        config: the run.
        callbacks: `ray.train.UserCallback`s, told of every report.

    Returns:
        `<out>/<name>` with model.safetensors, config.json (resolved settings) and
        result.json (scalars of each validation, steps, those that were skipped, fingerprint of
        the data, and of a ranker what its calibration added).

    Raises:
        FileNotFoundError: the prepared data is not there.
        ValueError: fewer training examples than one step needs, none to validate on, no
            posts, or nothing in them that the model could learn from.
    """
    for name in ("data", "out"):
        if "://" in getattr(config, name):
            raise ValueError(
                f"{name}: {getattr(config, name)} is a URL; give a folder all nodes see"
            )
    data = Path(config.data).resolve()
    read_manifest(data)  # or say what to run
    needed = config.num_workers * config.batch_size * config.accumulate
    folders = _folders(config)
    num_examples, num_held_out = (_num_examples(data / folders[split]) for split in folders)
    if num_examples < needed:
        raise ValueError(f"{data}: {num_examples} training examples, one step needs {needed}")
    if num_held_out < config.num_workers:
        raise ValueError(
            f"{data}: {num_held_out} validation examples for {config.num_workers} workers; "
            "give the data job an earlier split.validate_from"
        )
    if not pq.read_metadata(data / "posts.parquet").num_rows:
        raise ValueError(f"{data}: no posts; training and serving need reader.posts")
    config = resolve(config, data)
    learner = make_learner(config.learning, data)  # says, once, what is wrong with the settings
    connect()
    steps = num_examples // needed
    with shown(config.name, config.num_steps(steps)) as board:
        result = _run(config, data, steps, board, callbacks)
    return _export(config, result, learner)


def _run(
    config: TrainConfig, data: Path, steps: int, board: Any, callbacks: Sequence[Any]
) -> ray.train.Result:
    """`steps` an epoch on Ray Train, whatever happens to up to `max_failures` workers."""
    trainer = ray.train.torch.TorchTrainer(
        worker,
        train_loop_config={
            "config": config.model_dump(mode="json"),
            "steps_per_epoch": steps,
            "board": board,
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=config.use_gpu,
            resources_per_worker={"CPU": config.cpus_per_worker, "GPU": int(config.use_gpu)},
            placement_strategy=config.placement,
        ),
        run_config=ray.train.RunConfig(  # type: ignore[call-arg]  # ray.air.config hides V2
            name=_run_name(config, data),
            storage_path=str(Path(config.out) / "ray"),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
            callbacks=list(callbacks),
            failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=2, checkpoint_score_attribute="val_loss", checkpoint_score_order="min"
            ),
        ),
        datasets={split: _read(data / where) for split, where in _folders(config).items()},
        dataset_config=ray.train.DataConfig(execution_options=_in_order()),
    )
    return trainer.fit()


def worker(settings: dict[str, Any]) -> None:
    """What one Ray Train worker does.

    Args:
        settings: "config", a TrainConfig as plain values; "steps_per_epoch", the same on
            every worker; "board", where rank 0 notes its progress.
    """
    config = TrainConfig.model_validate(settings["config"])
    torch.set_num_threads(config.threads_per_worker)
    torch.manual_seed(config.seed)
    rank, steps_per_epoch = ray.train.get_context().get_world_rank(), settings["steps_per_epoch"]

    learner = make_learner(config.learning, Path(config.data))
    num_steps = config.num_steps(steps_per_epoch)
    trainer = Trainer(config, learner, num_steps)
    trainer.place(ray.train.torch.prepare_model(learner.model), ray.train.torch.get_device())
    progress = _restore(trainer)  # after the weights are in place: optimiser state follows them

    def validate() -> None:
        held_out = batches(learner, _examples("validate", config), (config.seed, rank))
        measured = _means_over_workers(trainer.evaluate(prefetch(held_out)), trainer.device)
        epoch = progress.epoch + progress.step / steps_per_epoch
        if not math.isfinite(measured["loss"]):
            raise ValueError(f"epoch {epoch:.4g}: the validation loss is {measured['loss']}")
        progress.history.append({"epoch": epoch if progress.step else progress.epoch, **measured})
        _report(trainer, progress, {"val_loss": measured["loss"], **measured})

    def after_step(parts: dict[str, float]) -> bool:
        if rank == 0:
            settings["board"].note.remote(progress.total_steps, parts["loss"])
        every = config.validate_every_steps
        if progress.step == steps_per_epoch:
            return False  # validated below, when the epoch's data are let go of
        ends = progress.total_steps == num_steps
        if ends or (every and progress.total_steps % every == 0):
            validate()
        elif progress.total_steps % config.checkpoint_every_steps == 0:
            _report(trainer, progress, {"val_loss": NOT_VALIDATED})
        return ends or progress.ran_out(config.patience)

    while progress.total_steps < num_steps and not progress.ran_out(config.patience):
        examples = _examples("train", config, seed=config.seed + progress.epoch)
        seeds = (config.seed, progress.epoch, rank)
        stream = batches(learner, examples, seeds, skip=progress.step * config.accumulate)
        train_epoch(trainer, stream, progress, steps_per_epoch, after_step)
        if progress.step == steps_per_epoch:
            progress.epoch, progress.step = progress.epoch + 1, 0
            validate()


def _run_name(config: TrainConfig, data: Path) -> str:
    """Ray resumes an unfinished run of the same name: so one name, one config and data."""
    story = config.model_dump_json() + _fingerprint(data)
    return f"{config.name}-{hashlib.sha256(story.encode()).hexdigest()[:8]}"


def _fingerprint(data: Path) -> str:
    return read_manifest(data)["fingerprint"]


def _folders(config: TrainConfig) -> dict[str, str]:
    """Where in the prepared data each split of a run lies."""
    return {"train": config.learning.trained_on, "validate": "examples/split=validate"}


def _num_examples(folder: Path) -> int:
    return sum(pq.read_metadata(part).num_rows for part in folder.glob("*"))


def _read(folder: Path) -> ray.data.Dataset:
    """Rows of a folder in its files' order; few are read once, many anew for every pass."""
    quiet_data()
    rows = ray.data.read_parquet(str(folder), partitioning=None)
    rows.context.execution_options.preserve_order = True  # the options of workers come too late
    num_bytes = sum(part.stat().st_size for part in folder.glob("*"))
    return rows.materialize() if num_bytes <= _READ_ONCE else rows


def _in_order() -> ray.data.ExecutionOptions:
    return ray.data.ExecutionOptions(preserve_order=True)  # one seed, one order of examples


def _examples(split: str, config: TrainConfig, seed: int | None = None) -> Iterable[pa.Table]:
    """Batches of the share of a split that falls to this worker; seeded = shuffled, no rest."""
    return tables(ray.train.get_dataset_shard(split), config, seed)


def tables(
    rows: ray.data.DataIterator, config: TrainConfig, seed: int | None
) -> Iterable[pa.Table]:
    """Rows in batches, in their order; seeded = shuffled, without what is left over."""
    return rows.iter_batches(
        batch_size=config.batch_size,
        batch_format="pyarrow",
        prefetch_batches=2,
        drop_last=seed is not None,
        local_shuffle_buffer_size=config.shuffle_rows if seed is not None else None,
        local_shuffle_seed=seed,
    )


def _means_over_workers(totals: Totals, device: torch.device) -> dict[str, Any]:
    """Means over all workers' held-out examples, as `measures.means` nests them."""
    names = sorted(totals)
    pairs = torch.tensor([totals[name] for name in names], dtype=torch.float64, device=device)
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(pairs)
    result = means(
        {n: (total, weight) for n, (total, weight) in zip(names, pairs.tolist(), strict=True)}
    )
    if "loss" not in result:
        raise ValueError("validation split: nothing in it that the loss could learn from")
    return result


def _report(trainer: Trainer, progress: Progress, metrics: dict[str, Any]) -> None:
    """Tell Ray Train where the run stands; rank 0 adds what resuming needs."""
    weights, state = trainer.weights(), trainer.state_dict()  # all workers give their rows
    if ray.train.get_context().get_world_rank() != 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        save_file(weights, os.path.join(folder, MODEL))
        state = {"trainer": state, "progress": asdict(progress)}
        torch.save(state, os.path.join(folder, STATE))
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def _restore(trainer: Trainer) -> Progress:
    """Load the last checkpoint, if a worker was lost before; otherwise start from nothing."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return Progress()
    with checkpoint.as_directory() as folder:
        weights = load_file(os.path.join(folder, MODEL))
        state = torch.load(os.path.join(folder, STATE), map_location="cpu", weights_only=True)
    trainer.load_state_dict(weights, state["trainer"])
    return Progress(**state["progress"])


def _export(config: TrainConfig, result: ray.train.Result, learner: Learner) -> Path:
    """Copy the weights of the best validation and the run's story out of Ray's storage.

    A ranker is calibrated on the way.
    """
    best, last = result.get_best_checkpoint("val_loss", "min"), result.checkpoint
    assert best is not None  # every epoch reports one, and `fit` raised if none finished
    assert last is not None
    with last.as_directory() as checkpoint:
        state = torch.load(os.path.join(checkpoint, STATE), map_location="cpu", weights_only=True)
    progress = state["progress"]
    story = {
        "epochs": progress["history"],
        "total_steps": progress["total_steps"],
        "skipped_steps": state["trainer"]["num_skipped"],
        "git_commit": git.commit(),
    }
    with new_run(config, story) as folder:
        with best.as_directory() as checkpoint:
            shutil.copyfile(os.path.join(checkpoint, MODEL), folder / MODEL)
        if isinstance(learner, RankingLearner):
            story["shift"] = calibrate(folder / MODEL, learner, Path(config.data))
    shutil.rmtree(result.path)
    return Path(config.out) / config.name
