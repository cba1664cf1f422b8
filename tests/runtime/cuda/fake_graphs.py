"""The CUDA driver's functions for graphs, as C functions on a fake GPU."""

import ctypes
import threading
import types
from ctypes import POINTER, c_char_p, c_int, c_ulonglong, c_void_p
from typing import Any

INVALIDATED, NOT_SUPPORTED = 901, 801


class _Graphs:
    """The driver's functions for graphs; each returns 0 when it succeeds."""

    def __init__(self, gpu):
        self.gpu = gpu

    def begin(self, stream, mode):
        if mode != 1:
            return NOT_SUPPORTED
        stream = self.gpu.stream(stream)
        stream.recorded, stream.is_invalid = [], False
        stream.recorder = threading.get_ident()
        return 0

    def end(self, stream, graph):
        stream = self.gpu.stream(stream)
        recorded, stream.recorded = stream.recorded, None
        if stream.is_invalid or recorded is None or stream.recorder != threading.get_ident():
            graph[0] = None
            return INVALIDATED
        graph[0] = self.gpu.handle()
        self.gpu.graphs[graph[0]] = recorded
        return 0

    def instantiate(self, executable, graph, flags):
        executable[0] = self.gpu.handle()
        self.gpu.executables[executable[0]] = [*self.gpu.graphs[graph]]
        return flags

    def launch(self, executable, stream):
        if executable not in self.gpu.executables:
            self.gpu.misuses.append("launch of a graph that was freed")
            return 1
        self.gpu.launches += 1
        for work in self.gpu.executables[executable]:
            if work[0] != self.gpu.graph_forgets:
                self.gpu.stream(stream).add(work)
        return 0

    def destroy(self, graph):
        del self.gpu.graphs[graph]
        return 0

    def destroy_executable(self, executable):
        del self.gpu.executables[executable]
        return 0

    def error_string(self, status, text):
        text[0] = {INVALIDATED: b"capture invalidated"}.get(status, b"operation not supported")
        return 0

    def guarded(self, name, function):
        def call(*arguments):
            if name in self.gpu.failing:
                return self.gpu.failing[name]
            if name != "cuGetErrorString" and not self.gpu.stack():
                self.gpu.misuses.append(f"{name} without a current context on this thread")
            return function(*arguments)

        return call


def libcuda(gpu):
    """Return the driver's library, with C functions."""
    graphs = _Graphs(gpu)
    signatures: dict[str, tuple[Any, ...]] = {
        "cuStreamBeginCapture_v2": (graphs.begin, c_void_p, c_int),
        "cuStreamEndCapture": (graphs.end, c_void_p, POINTER(c_void_p)),
        "cuGraphInstantiateWithFlags": (
            graphs.instantiate,
            POINTER(c_void_p),
            c_void_p,
            c_ulonglong,
        ),
        "cuGraphLaunch": (graphs.launch, c_void_p, c_void_p),
        "cuGraphDestroy": (graphs.destroy, c_void_p),
        "cuGraphExecDestroy": (graphs.destroy_executable, c_void_p),
        "cuGetErrorString": (graphs.error_string, c_int, POINTER(c_char_p)),
    }
    return types.SimpleNamespace(
        **{
            name: ctypes.CFUNCTYPE(c_int, *arguments)(graphs.guarded(name, function))
            for name, (function, *arguments) in signatures.items()
        }
    )
