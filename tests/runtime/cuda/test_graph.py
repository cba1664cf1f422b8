"""CUDA graphs: recorded, refused, and wrong ones not used."""

import pytest

from edgedetr.runtime.cuda import graph
from edgedetr.runtime.errors import BackendError

WHITE, BLACK = 4.0, -4.0  # the first logit


@pytest.mark.parametrize(
    "function", ["cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags", "cuGraphLaunch"]
)
def test_without_graphs_each_run_is_enqueued_and_reported(opened, gpu, function, caplog, answer):
    gpu.failing[function] = 801
    session = opened()
    gpu.failing.clear()
    launches = gpu.launches
    assert [answer(session, v) for v in (1, 0)] == [WHITE, BLACK]
    assert gpu.launches == launches
    assert f"without a CUDA graph: {function}: operation not supported (801)" in session.runs_on
    assert "runs without a CUDA graph" in caplog.text


def test_no_library_of_the_driver_is_said(opened, monkeypatch, gpu, answer):
    monkeypatch.setattr(graph, "_load", load_no_library)
    session = opened()
    assert answer(session, 1) == WHITE
    assert "without a CUDA graph: the CUDA driver has no graphs" in session.runs_on
    assert gpu.launches == 0


def load_no_library():
    raise graph.GraphError("the CUDA driver has no graphs: no such file")


def test_an_engine_that_allocates_in_each_run_is_not_recorded(opened, answer):
    session = opened(faults={"allocates": True})
    assert "without a CUDA graph" in session.runs_on
    assert [answer(session, v) for v in (1, 0)] == [WHITE, BLACK]


@pytest.mark.parametrize("forgotten", ["run", "out"])
def test_a_graph_that_answers_otherwise_is_not_used(opened, gpu, forgotten, answer):
    gpu.graph_forgets = forgotten
    session = opened()
    assert "its outputs differ from those of the calls that it recorded" in session.runs_on
    assert [answer(session, v) for v in (1, 0)] == [WHITE, BLACK]


def test_a_graph_that_no_longer_launches_is_an_error_and_no_older_answer(opened, gpu, answer):
    session = opened()
    assert answer(session, 1) == WHITE
    gpu.failing["cuGraphLaunch"] = 700
    with pytest.raises(BackendError, match="the GPU failed: cuGraphLaunch"):
        session.infer()


def test_a_machine_without_the_drivers_library_has_no_graphs(monkeypatch):
    monkeypatch.setattr(graph, "LIBRARY", "libcuda_of_no_machine.so")
    with pytest.raises(graph.GraphError, match="the CUDA driver has no graphs: "):
        graph.record(0, lambda: None)
