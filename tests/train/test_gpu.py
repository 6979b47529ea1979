"""Training on a GPU is training: the same losses as on a CPU; and what it takes, printed.

The same checks run in the default tests with the CPU in the GPU's place. Nothing here needs Ray:
`python -m pytest -m gpu -s tests/train/test_gpu.py` works wherever torch and the readers do.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bench.throughput import matmul_flops_per_s, seconds_per_step, step_flops
from tests.train.small_run import config, start, tables
from train.loop import TrainConfig, Trainer, batches

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]
KINDS = ["ranker", "retrieval"]
EVERYTHING = {"table_optimizer": "rowwise_adagrad", "matrix_optimizer": "muon", "ema_decay": 0.9}


def placed(settings: TrainConfig, data: Path, device: str) -> Trainer:
    """A trainer on `device` whose first weights depend on the settings alone."""
    trainer = start(settings, data)
    trainer.place(trainer.learner.model.to(device), torch.device(device))
    return trainer


def losses(settings: TrainConfig, data: Path, device: str) -> list[float]:
    """Of each of twenty steps."""
    trainer = placed(settings, data, device)
    stream = batches(trainer.learner, tables(data, settings.batch_size), (0,))
    return [trainer.step(batch, step)["loss"] for step, batch in enumerate(stream)]


def with_model(kind: str, optim: dict | None = None, packed: bool = False, **settings: object):
    """The small run's settings, its model packed or not."""
    run = config(kind, optim, **settings)
    model = run.learning.model.model_copy(update={"packed": packed})
    return run.model_copy(update={"learning": run.learning.model_copy(update={"model": model})})


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("kind", "optim"), [("ranker", {}), ("retrieval", EVERYTHING)])
def test_packed_on_a_device_learns_as_padded_on_the_cpu(device, kind, optim, prepared):
    """Twenty losses in float32 on the device are those of padded batches on the CPU."""
    expected = losses(with_model(kind, optim), prepared, "cpu")
    ours = losses(with_model(kind, optim, packed=True), prepared, device)

    assert len(ours) == 20
    assert ours == pytest.approx(expected, rel=2e-3)
    assert expected[-1] < expected[0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_stays_finite_and_near(device, kind, prepared):
    """Twenty steps in bfloat16 stay within 5 % of float32's losses, and are not the same."""
    expected = losses(with_model(kind), prepared, device)
    ours = losses(with_model(kind, precision="bfloat16"), prepared, device)

    assert np.isfinite(ours).all()
    assert ours == pytest.approx(expected, rel=0.05)
    assert ours != expected


def test_counted_operations_are_those_of_the_formula(prepared):
    """A linear map's forward and backward pass take 2 and 4 operations a weight and token."""
    trainer = start(config("ranker"), prepared)
    batch = next(batches(trainer.learner, tables(prepared, 16), (0,)))
    x = torch.randn(7, 16)
    linear = trainer.learner.model.unembed
    trainer.learner.loss = lambda _model, moved: {"loss": linear(moved["x"]).sum()}
    forward = 2 * 7 * linear.weight.numel()

    assert step_flops(trainer, batch | {"x": x}) == 2 * forward  # data need no gradient
    x.requires_grad_()
    assert step_flops(trainer, batch | {"x": x}) == 3 * forward


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_throughput_is_reported(device, precision, prepared):
    """Examples and operations per second of steps are measured and printed, never judged."""
    trainer = placed(with_model("ranker", packed=True, precision=precision), prepared, device)
    stream = list(batches(trainer.learner, tables(prepared, 16)[:8], (0,)))
    flops = step_flops(trainer, stream[0])
    step_s = statistics.median(seconds_per_step(trainer, stream))
    size = 8192 if device == "cuda" else 256
    peak = matmul_flops_per_s(trainer.device, getattr(torch, precision), size, num=5)
    print(
        f"{device} {precision}: {16 / step_s:,.0f} examples/s, {flops / step_s:.3g} FLOP/s, "
        f"{flops / step_s / peak:.2%} of {peak:.3g} of a product of {size}"
    )

    assert min(flops, step_s, peak) > 0


WITHOUT_RAY = """
import sys
sys.modules["ray"] = None  # import ray fails from here on
from pathlib import Path
import tests.conftest
from tests.train.test_gpu import losses, with_model
print(len(losses(with_model("ranker"), Path(sys.argv[1]), "cpu")))
"""


def test_training_steps_need_no_ray(prepared):
    """Where Ray cannot be imported, these tests can, and twenty steps are made."""
    command = [sys.executable, "-c", WITHOUT_RAY, str(prepared)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.stdout == "20\n", done.stderr
