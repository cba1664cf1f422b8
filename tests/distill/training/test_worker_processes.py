import os
import select
import signal

import pytest

from edgedetr.distill.training.worker_processes import end_with_parent, leave_sigterm_to

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def run_and_kill_the_parent(start):
    """Fork a process that forks another, which calls ``start``; kill the first.

    Returns:
        The end of a pipe that the last one alone holds open then.
    """
    ours, theirs = os.pipe()
    parent = os.fork()
    if parent == 0:
        middle = os.getpid()
        if os.fork() == 0:
            os.close(ours)
            start(middle)
            os.write(theirs, b"started")
        while True:
            signal.pause()
    os.close(theirs)
    assert os.read(ours, 7) == b"started"
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    return ours


def test_a_worker_ends_with_the_process_that_started_it():
    ours = run_and_kill_the_parent(end_with_parent)
    assert select.select([ours], [], [], 20)[0]
    assert os.read(ours, 1) == b""
    os.close(ours)


def test_a_worker_whose_parent_ended_before_ends_at_once():
    child = os.fork()
    if child == 0:
        end_with_parent(os.getpid())  # no process has itself as parent
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def started_worker(parent):
    """Fork a process that leaves SIGTERM to ``parent``; return its id."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        leave_sigterm_to(parent)
        os.write(theirs, b"started")
        while True:
            signal.pause()
    assert os.read(ours, 7) == b"started"
    os.close(ours)
    os.close(theirs)
    return child


def test_a_worker_ends_at_the_sigterm_of_its_parent():
    child = started_worker(os.getpid())
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_worker_does_not_end_at_the_sigterm_of_another():
    child = started_worker(os.getppid())
    os.kill(child, signal.SIGTERM)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
