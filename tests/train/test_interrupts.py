"""A Ctrl-C that comes while a checkpoint is written."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from jaxtl.train.interrupts import AtOnceError, held_back


def _press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def _block(done: list[str], presses: int, error: type[Exception] | None = None) -> None:
    with held_back():
        for _ in range(presses):
            _press()
        if error:
            raise error
        done.append("the block")


def test_it_waits_for_the_end_of_the_block() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        _block(done, presses=1)
    assert done == ["the block"]
    with pytest.raises(KeyboardInterrupt):  # as it was before
        _press()


def test_a_second_one_does_not_wait() -> None:
    done: list[str] = []
    with pytest.raises(AtOnceError):
        _block(done, presses=2)
    assert not done
    with pytest.raises(KeyboardInterrupt):  # as it was before
        _press()


def test_an_error_in_the_block_does_not_lose_it() -> None:
    with pytest.raises(KeyboardInterrupt) as found:
        _block([], presses=1, error=OSError)
    assert isinstance(found.value.__context__, OSError)


def test_other_threads_run_as_they_are() -> None:
    before, within = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with held_back():
            within.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert within == [before]


def test_a_checkpoint_that_is_interrupted_is_whole(tmp_path, monkeypatch) -> None:
    import jaxtl
    from jaxtl.finetune.from_recipe import make_optimizer
    from jaxtl.train.checkpoint import Checkpoints

    model = jaxtl.load("cifar_resnet20", weights=None, num_classes=10, until="layer1")
    state = jaxtl.TrainState.create(model, make_optimizer(jaxtl.Recipe(), model, 1, 0))
    record = {"epoch": 1, "val_accuracy": 0.5, "val_loss": 1.0}
    with Checkpoints(tmp_path / "checkpoints", {}) as checkpoints:
        usual = checkpoints._manager.save

        def pressed(*args, **options) -> None:
            _press()
            usual(*args, **options)

        monkeypatch.setattr(checkpoints._manager, "save", pressed)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(1, state, [record])
        assert checkpoints.records(1) == [record]
