"""Sweeps on several workers: the same rows to the bit, whoever dies and whenever."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from sweeps import SMALL, accelsim, contents, study_of

from reports.sweep import sweep as sweep_module
from reports.sweep.measure import Unit
from reports.sweep.store import Store
from reports.sweep.sweep import TRIES, How, run_sweep

ROOT = Path(__file__).parents[3]
MARK = "ACCELSIM_TEST_MARK"
SLOWER = SMALL | {"bit_exact_images": 1, "recipes": [{"weight_bits": [3, 4, 5, 6, 8], "ocs": [None, "fill", 0.05]}]}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(SMALL, sort_keys=False))
    return path


def _listen() -> None:
    """Hear the keyboard's interrupt even where the tests run behind a shell that ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Started:
    """A sweep in processes of its own, all of which bear a mark by which they are found."""

    def __init__(self, *arguments: object) -> None:
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-m", "reports.cli", "sweep", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True,
            env=dict(os.environ) | {MARK: self.mark},
            preexec_fn=_listen,
        )  # fmt: skip

    def alive(self) -> list[int]:
        """Return the processes that bear the mark and are no zombies."""
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and self.mark.encode() in (folder / "environ").read_bytes():
                    found += [int(folder.name)] * ((folder / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z")
            except OSError:  # it ended, or is none of ours
                continue
        return found

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait for something to become true while the sweep runs."""
        while self.process.poll() is None and not ready():
            time.sleep(0.05)

    def gone(self) -> bool:
        """Wait until no process is left; after a minute, end those that are and return False."""
        for _ in range(600):
            if not self.alive():
                return True
            time.sleep(0.1)
        for number in self.alive():
            os.kill(number, signal.SIGKILL)
        return False


def stored(path: Path) -> int:
    try:
        with Store(path) as store:
            return store.count()
    except ValueError:  # not made yet
        return 0


# --- in one process, with executors that fail ------------------------------------------------------------------------


class Dying(Executor):
    """A pool with one worker, which dies of deadly jobs, and with it all that is in line."""

    def __init__(self, deadly: Callable[[Any], bool], submitted: list[Any]) -> None:
        self.deadly, self.submitted, self.broken, self.pool = deadly, submitted, False, ThreadPoolExecutor(1)

    def submit(self, work: Any, /, *args: Any, **_: Any) -> "Future[Any]":
        if self.broken:
            raise BrokenProcessPool("broken")
        self.submitted.append(args[1])
        return self.pool.submit(self._run, work, *args)

    def _run(self, work: Any, *args: Any) -> Any:
        self.broken = self.broken or self.deadly(args[1])
        if self.broken:
            raise BrokenProcessPool("a process died")
        return work(*args)

    def shutdown(self, *_: Any, **__: Any) -> None:
        self.pool.shutdown()


def _pool(monkeypatch: pytest.MonkeyPatch, deadly: Callable[[Any], bool]) -> list[Any]:
    submitted: list[Any] = []

    @contextmanager
    def executor(given: Executor | None, workers: int) -> Iterator[Executor]:
        with Dying(deadly, submitted) as dying:
            yield dying

    monkeypatch.setattr(sweep_module, "executor_of", executor)
    return submitted


def test_a_unit_whose_worker_always_dies_is_given_up_and_no_other(tmp_path, monkeypatch, small_store):
    def deadly(job: Any) -> bool:
        return isinstance(job, Unit) and job.options.weight_bits == 8 and job.options.ocs is None

    path = tmp_path / "s.db"
    with monkeypatch.context() as patch:
        submitted = _pool(patch, deadly)
        summary = run_sweep(study_of(), path, How(workers=2))
    assert summary.measured == 12
    (failure,) = summary.failures
    assert "weight_bits=8" in failure
    assert f"its worker died {TRIES} times" in failure
    assert sum(map(deadly, submitted)) <= TRIES + 1  # once in company, then alone
    assert run_sweep(study_of(), path).measured == 4
    assert contents(path) == contents(small_store)


def test_a_network_whose_worker_always_dies_is_given_up(tmp_path, monkeypatch):
    _pool(monkeypatch, lambda job: not isinstance(job, Unit))
    summary = run_sweep(study_of(), tmp_path / "s.db", How(workers=2))
    assert (summary.points, summary.measured) == (16, 0)
    assert len(summary.failures) == 1


def test_a_users_executor_that_breaks_says_so(tmp_path):
    with Dying(lambda _: True, []) as dying, pytest.raises(ValueError, match=r"workers died.*run the same again"):
        run_sweep(study_of(), tmp_path / "s.db", How(workers=2, executor=dying))


# --- processes -------------------------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_loses_nothing(tmp_path, monkeypatch, small_store):
    path = tmp_path / "s.db"
    add = Store.add
    killed: list[int] = []

    def killing(store: Store, *args: Any, **more: Any) -> None:
        add(store, *args, **more)
        if not killed:
            victim = next(child for child in multiprocessing.active_children() if child.is_alive())
            killed.append(victim.pid or 0)
            victim.kill()

    monkeypatch.setattr(Store, "add", killing)
    summary = run_sweep(study_of(), path, How(workers=2))
    assert killed
    assert (summary.measured, summary.failures) == (16, ())
    assert contents(path) == contents(small_store)
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_killed_sweep_leaves_no_process_and_goes_on(tmp_path, study, small_store):
    path = tmp_path / "s.db"
    sweep = Started(study, "--store", path, "--workers", 2)
    sweep.wait_until(lambda: stored(path) > 0)
    sweep.process.kill()
    sweep.process.communicate()
    assert sweep.gone()
    kept = stored(path)
    summary = run_sweep(study_of(), path)
    assert (summary.kept, summary.measured) == (kept, 16 - kept)
    assert contents(path) == contents(small_store)


@pytest.fixture(scope="module")
def slower_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slower") / "s.db"
    assert run_sweep(study_of(SLOWER), path).failures == ()
    return path


@pytest.mark.slow
def test_ten_kills_at_random_moments(tmp_path, slower_store):
    study, path = tmp_path / "study.yaml", tmp_path / "s.db"
    study.write_text(yaml.safe_dump(SLOWER, sort_keys=False))
    clock = random.Random(20260806)
    start = time.monotonic()
    first = Started(study, "--store", tmp_path / "timed.db", "--workers", 2)
    first.process.communicate()
    took = time.monotonic() - start
    counts = [0]
    for _ in range(10):
        sweep = Started(study, "--store", path, "--workers", 2)
        time.sleep(clock.uniform(0.02, 0.7) * took)
        sweep.process.kill()
        sweep.process.communicate()
        assert sweep.gone()
        counts.append(stored(path))
    assert counts == sorted(counts)
    assert run_sweep(study_of(SLOWER), path).failures == ()
    assert contents(path) == contents(slower_store) == contents(tmp_path / "timed.db")


@pytest.mark.slow
def test_the_keyboard_ends_a_sweep_and_all_its_processes(tmp_path, study, small_store):
    path = tmp_path / "s.db"
    sweep = Started(study, "--store", path, "--workers", 2)
    sweep.wait_until(lambda: stored(path) > 0)
    os.killpg(sweep.process.pid, signal.SIGINT)
    out, err = sweep.process.communicate(timeout=120)
    assert (sweep.process.returncode, out, err) == (130, "", "accelsim: interrupted\n")
    assert sweep.gone()
    assert accelsim("sweep", study, "--store", path, "--workers", 1).returncode == 0
    assert contents(path) == contents(small_store)


@pytest.mark.slow
def test_two_sweeps_on_one_store(tmp_path, study, small_store):
    path = tmp_path / "s.db"
    sweeps = [Started(study, "--store", path, "--workers", 1) for _ in range(2)]
    for sweep in sweeps:
        out, err = sweep.process.communicate(timeout=600)
        assert (sweep.process.returncode, err) == (0, "")
        assert "16 points" in out
    assert contents(path) == contents(small_store)


@pytest.mark.slow
def test_dask_gives_the_same_rows(tmp_path, study, small_store):
    pytest.importorskip("distributed", reason="a cluster needs Dask (accelsim[dist])")
    run = subprocess.run(
        [sys.executable, "-c", CLUSTER, str(study), str(tmp_path / "s.db")],
        capture_output=True, text=True, timeout=600, check=False, cwd=ROOT,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "16 points, 16 measured now" in run.stdout
    assert contents(tmp_path / "s.db") == contents(small_store)


CLUSTER = """
import sys
from distributed import LocalCluster
from reports import cli
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        sys.exit(cli.main(["sweep", sys.argv[1], "--store", sys.argv[2], "--scheduler", cluster.scheduler_address]))
"""


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer(tmp_path, study):
    pytest.importorskip("distributed", reason="a cluster needs Dask (accelsim[dist])")
    run = accelsim("sweep", study, "--store", tmp_path / "s.db", "--scheduler", "tcp://127.0.0.1:9")
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith("accelsim: no Dask scheduler answers at tcp://127.0.0.1:9")


@pytest.mark.slow
def test_the_minutes_study(tmp_path):
    path = tmp_path / "quick.db"
    run = accelsim("sweep", ROOT / "reports" / "studies" / "quick.yaml", "--store", path)
    assert (run.returncode, run.stderr) == (0, "")
    assert "failed" not in run.stdout
    points = contents(path)["points"]
    assert len(points) > 200
    again = accelsim("sweep", ROOT / "reports" / "studies" / "quick.yaml", "--store", path)
    assert f"{len(points)} points, 0 measured now, {len(points)} from" in again.stdout
