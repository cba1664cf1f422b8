import os
import signal
import threading

import pytest

from edgedetr.distill.training.preemption import noted_sigterm
from edgedetr.runtime.commands.signals import handled


class EndedError(Exception):
    """What the handler of a test does."""


def end():
    raise EndedError


def test_a_sigterm_is_noted_and_acts_later_as_it_would_have():
    with handled("SIGTERM", once=False, action=end), noted_sigterm() as preemption:
        os.kill(os.getpid(), signal.SIGTERM)
        assert preemption.came
        with pytest.raises(EndedError):
            preemption.act()
        assert not preemption.came


def test_a_second_one_acts_at_once():
    with handled("SIGTERM", once=False, action=end), noted_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(EndedError):
            os.kill(os.getpid(), signal.SIGTERM)


def test_other_threads_run_without_it():
    seen = []

    def run():
        with noted_sigterm() as preemption:
            seen.append(preemption.came)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False]
