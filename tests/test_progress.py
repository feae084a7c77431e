"""Progress reports. Oracle: the losses that the run returns."""

import numpy as np
import pytest

from tpsim import Network, Problem, Training, simulate
from tpsim.progress import Bar

PROBLEM = Problem(np.random.default_rng(0).normal(size=(3, 4)), np.array([1.0, -1.0, 0.5]))
SMALL = dict(particles=256, replicas=3)


def run(workers, progress):
    return simulate(PROBLEM, Network(2), Training(4, 0.1), workers=workers, progress=progress, **SMALL)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_callable_hears_of_every_step_of_every_replica(workers):
    heard = []
    losses = run(workers, lambda *report: heard.append(report)).loss.values
    assert sorted(heard) == sorted((step, r, losses[r, step]) for r in range(3) for step in range(5))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_callable_raises_reaches_the_caller(workers):
    def stop(step, replica, loss):
        raise StopIteration(step)

    with pytest.raises(StopIteration):
        run(workers, stop)


def test_the_bar_shows_the_mean_loss_and_its_error(capsys):
    with Bar(True, 3, 5) as bar:
        for replica, loss in enumerate((1.0, 2.0, 4.0)):
            bar.step(replica, 0, loss)
        assert bar._bar.postfix == "loss 2.333 +- 8.8e-01 at step 0" and bar._bar.n == 3
    assert "0/15" in capsys.readouterr().err


def test_no_bar_is_shown_unasked(capsys):
    for progress in (None, False):  # pytest's stderr is no terminal
        run(1, progress)
        assert capsys.readouterr().err == ""
