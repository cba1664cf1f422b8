"""What a GPU would only punish in the field: the session on a fake of CUDA and TensorRT."""

import threading

import numpy as np
import pytest

from edgedetr.runtime.backends import tensorrt, tensorrt_rtx
from edgedetr.runtime.cuda import engine_session, graph
from edgedetr.runtime.cuda.nvrtc import CompileError
from edgedetr.runtime.errors import ArtifactError, BackendError, UsageError
from edgedetr.runtime.manifest import write_manifest
from edgedetr.runtime.spec import ModelSpec

WHITE, BLACK = 4.0, -4.0  # the first logit


def answer(session, value):
    session.images[...] = value
    logits, _ = session.infer()
    return float(logits[0, 0, 0])


@pytest.mark.parametrize(
    ("library", "version"),
    [("tensorrt", "10.3.0"), ("tensorrt", "11.0.1"), ("tensorrt_rtx", "1.7.1.116")],
)
def test_an_engine_answers_through_a_graph(opened, gpu, library, version):
    session = opened(library=library, version=version)
    before = gpu.launches
    assert [answer(session, v) for v in (1, 0, 1)] == [WHITE, BLACK, WHITE]
    assert gpu.launches == before + 3
    assert session.runs_on == f"{library} {version}, Orin (fake)"
    assert session.spec == ModelSpec((8, 16), ("Car", "Pedestrian"))


def test_closing_frees_everything_and_twice_is_safe(opened, gpu):
    session = opened()
    assert gpu.pinned_bytes > 0
    session.close()
    session.close()
    gpu.check_clean()
    for use in (session.infer, lambda: session.images):
        with pytest.raises(ValueError, match="the session is closed"):
            use()


def test_arrays_outlive_the_session(opened, gpu):
    session = opened()
    images, (logits, boxes) = session.images, session.infer()
    images[...] = 1
    session.close()
    images[...] = 2
    assert logits.shape == (1, 2, 2)
    assert boxes[0, 0, 0] == 0.5
    assert gpu.pinned_bytes == images.nbytes + logits.nbytes + boxes.nbytes


@pytest.mark.parametrize(
    "function", ["cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags", "cuGraphLaunch"]
)
def test_a_driver_without_graphs_is_said_and_each_run_enqueued(opened, gpu, function, caplog):
    gpu.failing[function] = 801
    session = opened()
    gpu.failing.clear()
    launches = gpu.launches
    assert [answer(session, v) for v in (1, 0)] == [WHITE, BLACK]
    assert gpu.launches == launches
    assert f"without a CUDA graph: {function}: not supported (801)" in session.runs_on
    assert "runs without a CUDA graph" in caplog.text


def test_no_library_of_the_driver_is_said(opened, monkeypatch, gpu):
    monkeypatch.setattr(graph, "_load", load_no_library)
    session = opened()
    assert answer(session, 1) == WHITE
    assert "without a CUDA graph: the CUDA driver has no graphs" in session.runs_on
    assert gpu.launches == 0


def load_no_library():
    raise graph.GraphError("the CUDA driver has no graphs: no such file")


def test_an_engine_that_allocates_in_each_run_is_not_recorded(opened):
    session = opened(faults={"allocates": True})
    assert "without a CUDA graph" in session.runs_on
    assert [answer(session, v) for v in (1, 0)] == [WHITE, BLACK]


@pytest.mark.parametrize("forgotten", ["run", "out"])
def test_a_graph_that_answers_otherwise_is_not_used(opened, gpu, forgotten):
    gpu.graph_forgets = forgotten
    session = opened()
    assert "its outputs differ from those of the calls that it recorded" in session.runs_on
    assert [answer(session, v) for v in (1, 0)] == [WHITE, BLACK]


def test_a_refused_enqueue_is_an_error_with_its_reason_and_the_next_frame_is_right(opened, gpu):
    gpu.failing["cuStreamBeginCapture_v2"] = 801
    session = opened(faults={"refuse": {4}})  # after three runs to warm up
    gpu.failing.clear()
    with pytest.raises(BackendError, match=r"tiny.engine was not run: .*illegal memory access"):
        answer(session, 1)
    assert answer(session, 1) == WHITE


def test_a_refused_enqueue_at_the_warm_up_leaves_nothing_behind(opened, gpu):
    with pytest.raises(BackendError, match="was not run"):
        opened(faults={"refuse": {1}})
    gpu.check_clean()


def test_a_refused_address_leaves_nothing_behind(opened, gpu):
    with pytest.raises(BackendError, match="the address of boxes was refused: invalid tensor"):
        opened(faults={"refuse_address": "boxes"})
    gpu.check_clean()


def test_a_lost_device_is_an_error_of_the_frame_and_close_still_works(opened, gpu):
    session = opened()
    gpu.is_lost = True
    with pytest.raises(BackendError, match="the GPU failed: cuStreamSynchronize failed"):
        session.infer()
    session.close()


def test_a_graph_that_no_longer_launches_is_an_error_and_no_older_answer(opened, gpu):
    session = opened()
    assert answer(session, 1) == WHITE
    gpu.failing["cuGraphLaunch"] = 700
    with pytest.raises(BackendError, match="the GPU failed: cuGraphLaunch"):
        session.infer()


@pytest.mark.parametrize("free", [0, 2000, 1537])
def test_too_little_memory_is_named_and_leaves_nothing_behind(opened, gpu, free):
    gpu.free_bytes = free
    with pytest.raises(BackendError, match=r"no memory on the GPU|out of memory"):
        opened(context_bytes=1000)
    gpu.check_clean()


def test_a_damaged_engine_is_named_with_what_the_library_says(opened, gpu):
    with pytest.raises(ArtifactError, match=r"tiny.engine cannot be loaded: .*magicTag mismatch"):
        opened(data=b"hello")
    gpu.check_clean()


def test_tensorrt_rtx_diagnoses_a_damaged_engine(opened):
    with pytest.raises(ArtifactError, match=r"\(invalid: malformed_engine\)"):
        opened(library="tensorrt_rtx", version="1.7.1", data=b"hello")


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (
            {"builder": "tensorrt==10.7.0"},
            "tiny.engine was built with TensorRT 10.7.0 for sm_87; this machine has TensorRT "
            "10.3.0 on sm_87. Rebuild it here: edgedetr export engine student.onnx --backend "
            "tensorrt",
        ),
        ({"targets": ("sm_86",)}, "for sm_86; this machine has TensorRT 10.3.0 on sm_87"),
        ({"targets": ("sm_90+",)}, "for sm_90+; this machine has"),
        ({"targets": ("sm_+", "sm_x+")}, "for sm_+, sm_x+; this machine has"),
        ({"builder": "tensorrt>=11.³"}, "was built with TensorRT 11.³ for"),
        ({"targets": ()}, "for no GPU that its manifest names; this machine has"),
        ({"builder": "tensorrt>=10.4.0"}, "was built with TensorRT 10.4.0"),
        (
            {"builder": "tensorrt_rtx==1.7.1"},
            "was built with TensorRT-RTX 1.7.1 for sm_87; this machine has TensorRT 10.3.0",
        ),
        ({"builder": "torch==2.15"}, "does not say what built it"),
    ],
)
def test_an_engine_for_something_else_is_refused_before_it_is_loaded(opened, gpu, engine, message):
    with pytest.raises(ArtifactError) as error:
        opened(data=b"not even an engine", **engine)
    assert message in str(error.value)
    gpu.check_clean()


@pytest.mark.parametrize("targets", [("sm_80+",), ("sm_86", "sm_87")])
def test_an_engine_for_several_devices_runs(opened, targets):
    assert answer(opened(targets=targets), 1) == WHITE


def test_a_version_compatible_engine_runs_its_host_code_on_later_versions(opened):
    session = opened(version="10.13.3", builder="tensorrt>=10.3.0", host_code=True)
    assert answer(session, 1) == WHITE


def test_host_code_is_not_run_unless_the_manifest_says_so(opened):
    with pytest.raises(ArtifactError, match="engineHostCodeAllowed is not set"):
        opened(host_code=True)


def test_an_onnx_file_called_an_engine_is_refused(install_trt, tiny_engine):
    install_trt()
    path = tiny_engine()
    write_manifest(path, kind="onnx", command="", spec=ModelSpec((8, 16), ("Car",)))
    with pytest.raises(ArtifactError, match=r"tiny.engine is of kind onnx, wanted an engine"):
        tensorrt.open_session(path)


def test_an_engine_without_its_manifest_is_refused(tmp_path):
    (tmp_path / "x.engine").write_bytes(b"ENGINE{}")
    with pytest.raises(ArtifactError, match=r"x.engine.manifest.json is missing"):
        tensorrt.open_session(tmp_path / "x.engine")


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (
            {"inputs": {"images": ["HALF", [1, 3, 8, 16]]}},
            r"takes images half \[1, 3, 8, 16\], its spec says images float32 \[1, 3, 8, 16\]",
        ),
        ({"inputs": {"images": ["FLOAT", [2, 3, 8, 16]]}}, r"takes images float32 \[2, 3, 8, 16\]"),
        (
            {"inputs": {"images": ["FLOAT", [1, 3, 8, 16]], "size": ["INT32", [2]]}},
            r"takes images .*, size int32 \[2\]",
        ),
        ({"inputs": {"pixels": ["FLOAT", [1, 3, 8, 16]]}}, "takes pixels .* its spec says images"),
        (
            {"outputs": {"logits": ["FLOAT", [1, 2, 3]], "boxes": ["FLOAT", [1, 2, 4]]}},
            r"answers float32 \(1, 2, 3\)",
        ),
        ({"outputs": {"logits": ["FLOAT", [1, 2, 2]]}}, "answers logits, its spec wants boxes"),
    ],
)
def test_an_engine_that_is_not_what_its_spec_says_is_refused(opened, gpu, engine, message):
    with pytest.raises(ArtifactError, match=message):
        opened(**engine)
    gpu.check_clean()


def test_a_free_batch_is_fixed_to_one(opened):
    session = opened(
        inputs={"images": ["FLOAT", [-1, 3, 8, 16]]},
        outputs={"logits": ["FLOAT", [-1, 2, 2]], "boxes": ["FLOAT", [-1, 2, 4]]},
    )
    assert answer(session, 1) == WHITE


def test_outputs_that_nobody_asked_for_get_memory(opened):
    outputs = {"logits": ["FLOAT", [1, 2, 2]], "boxes": ["FLOAT", [1, 2, 4]]}
    session = opened(outputs=outputs | {"memory": ["FLOAT", [1, 50, 8]]})
    assert answer(session, 1) == WHITE


def test_a_session_is_opened_run_and_closed_on_different_threads(opened, gpu):
    session = opened()
    answers: list[float] = []

    def work():
        answers.append(answer(session, 1))

    for target in (work, work, session.close):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    assert answers == [WHITE, WHITE]
    gpu.check_clean()


def test_threads_take_turns_in_one_session_and_do_not_in_two(opened, gpu):
    sessions = [opened(), opened()]
    wrong: list[float] = []

    def work(session, value, wanted):
        for _ in range(100):
            with locks[id(session)]:
                found = answer(session, value)
            if found != wanted:
                wrong.append(found)

    locks = {id(s): threading.Lock() for s in sessions}
    jobs = [(s, v, w) for s in sessions for v, w in ((1, WHITE), (0, BLACK))]
    threads = [threading.Thread(target=work, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not gpu.misuses


def test_no_gpu_is_named(install_trt, tiny_engine, gpu):
    install_trt()
    gpu.is_lost = True
    with pytest.raises(BackendError, match="TensorRT needs a GPU, and CUDA finds none: cuInit"):
        tensorrt.open_session(tiny_engine())


@pytest.mark.parametrize(
    ("missing", "message"),
    [("pycuda.driver", "pycuda is needed"), ("tensorrt", "tensorrt is needed .*with JetPack")],
)
def test_a_missing_library_is_named(install_trt, tiny_engine, monkeypatch, missing, message):
    install_trt()
    monkeypatch.setitem(engine_session.INSTALL, "x", "")
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    with pytest.raises(UsageError, match=message):
        tensorrt.open_session(tiny_engine())


def test_without_nvrtc_frames_are_preprocessed_on_the_cpu(opened, monkeypatch):
    def fail(*_):
        raise CompileError("NVRTC is not installed")

    monkeypatch.setattr("edgedetr.runtime.cuda.frame_kernel.compile_cuda", fail)
    session = opened()
    assert session.feed is None
    assert "frames are preprocessed on the CPU: NVRTC is not installed" in session.runs_on
    assert answer(session, 1) == WHITE


def test_rtx_and_tensorrt_share_all_but_the_name():
    assert tensorrt.SUFFIXES == tensorrt_rtx.SUFFIXES == (".engine",)


def test_a_given_spec_replaces_that_of_the_manifest(install_trt, tiny_engine):
    install_trt()
    session = tensorrt.open_session(tiny_engine(), ModelSpec((8, 16), ("bus", "tram")))
    assert session.spec.class_names == ("bus", "tram")
    session.images[...] = np.float32(1)
    session.close()


def test_a_machine_without_the_drivers_library_has_no_graphs(monkeypatch):
    monkeypatch.setattr(graph, "LIBRARY", "libcuda_of_no_machine.so")
    with pytest.raises(graph.GraphError, match="the CUDA driver has no graphs: "):
        graph.record(0, lambda: None)
