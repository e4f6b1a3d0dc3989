"""A sweep of ResNet-20 on a Dask cluster of one-thread workers: two of them against one.

Seconds run from the first unit of work to the last row in the store; the workers have imported everything before, and
the network is there. Needs its weights and images (``ACCELSIM_DATA``) and Dask; without them there is nothing to see.
"""

import os
import tempfile
import time
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from reports.sweep.study import Study, build_study
from reports.sweep.sweep import How, run_sweep
from reports.task import TaskOptions

STUDY: dict[str, Any] = {
    "name": "two workers",
    "networks": [{"name": "cifar10-resnet20", "images": 500, "calib": 128}],
    "recipes": [{"weight_bits": [2, 3, 4, 5, 6, 7, 8], "ocs": [None, 0.02, 0.05], "per_channel": True}],
    "accelerators": [
        {"base": "edge-32x32", "array.dataflow": ["ws", "os"], "array.rows, array.cols": [[16, 16], [32, 32]]}
    ],
    "technologies": ["nangate45"],
}


def run() -> list[dict[str, Any]]:
    """Return points per second with one worker and with two."""
    data = os.environ.get("ACCELSIM_DATA")
    try:
        import distributed  # noqa: F401
    except ImportError:
        return []
    if data is None:
        return []
    study = build_study(STUDY, TaskOptions(network="", data=Path(data)))
    rates = {workers: len(study.points) / _seconds(study, workers) for workers in (1, 2)}
    return [
        {
            "name": f"sweep of {len(study.points)} points, two Dask workers of one thread",
            "value": rates[2],
            "unit": "points/s",
            "baseline_name": "one worker",
            "baseline": rates[1],
            "ratio": rates[2] / rates[1],
        }
    ]


def _seconds(study: Study, workers: int) -> float:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
        tempfile.TemporaryDirectory() as folder,
    ):
        client.run(_warm, study.points[0].task)
        executor: Executor = client.get_executor(pure=False)
        start = time.perf_counter()
        summary = run_sweep(study, Path(folder) / "s.db", How(workers=workers, executor=executor, threads=1))
        seconds = time.perf_counter() - start
    if summary.failures or summary.measured != len(study.points):
        raise RuntimeError(f"the sweep failed: {summary.failures}")
    return seconds


def _warm(task: TaskOptions) -> None:
    """Import and compile what a worker needs: one point with another seed, which is not asked for later."""
    from dataclasses import replace

    plain = STUDY | {"recipes": [{"weight_bits": 4, "ocs": 0.02, "per_channel": True}], "accelerators": ["edge-32x32"]}
    other = replace(task, network="", images=8, calib=8, seed=1)
    study = build_study(plain | {"networks": [{"name": task.network, "images": 8, "calib": 8, "seed": 1}]}, other)
    with tempfile.TemporaryDirectory() as folder:
        run_sweep(study, Path(folder) / "s.db", How(workers=1))
