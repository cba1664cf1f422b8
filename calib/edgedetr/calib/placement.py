"""Where INT8 can go in a detection transformer, and which tensors need a range for it.

INT8 pays in the convolutions of backbone and hybrid encoder, and in wide linear layers. Linear
layers of decoder and attention are INT8 only where a search finds that they may be. The choice of
queries, reference points, heads and position embeddings never are: that is where detectors lose
their boxes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import onnx

from edgedetr.graph.wiring import LAYERS, Wiring, label, parameters

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgedetr.calib.targets import Target

QUERY_CHOICE = ("TopK", "GridSample")
"""What depends on one of these operators is a part of the decoder."""

DECODER = re.compile(r"(^|[/.])decoder[/.]")
"""Scopes of the decoder itself; heads are what depends on one of its layers."""

FEW_CHANNELS, CHANNEL_STEP = 16, 8
"""TensorRT has no good INT8 kernels for fewer channels than the former that do not fill the latter;
NVIDIA's Model Optimizer leaves such convolutions float, and depthwise ones."""

NEVER_SCOPES = re.compile(
    r"_head|(^|/)(head|rpn)/|class_embed|bbox_embed|enc_output|position|/pos_|query|lqe|integral"
    r"|sampling_offsets|attention_weights|reference|predictor|classifier"
)
"""Scopes of layers that are never quantized: the choice of queries, points and boxes."""

ATTENTION = re.compile(r"attn|attention")
"""Scopes of attention, whose linear layers TensorRT fuses with it only where they are float."""

INPUT_SCOPES = re.compile(r"decoder_input_proj")
"""Scopes of convolutions that bring the encoder's features to the decoder's width: they compute all
that the choice of queries sees, but choose nothing."""

MEMORY_SCOPES = re.compile(r"(^|/)encoder/.*attn|(encoder_attn|cross_attn)/value_proj")
"""Scopes of attention's linear layers that read what the encoder makes, a row for each place of the
image, and not queries."""

GATHERING_SCOPES = re.compile(r"encoder_attn|cross_attn")
"""Scopes of deformable attention, which gathers rows of the image at places that queries choose."""

FLOAT_SCOPES = re.compile(
    r"decoder|attn|attention|_head|(^|/)(head|rpn)/|class_embed|bbox_embed|enc_output|position|/pos_"
)
"""Scopes, as PyTorch's exporter writes them into names, of what is float unless it is searched for
or included."""


@dataclass(frozen=True)
class Point:
    """A node that can run in INT8: its weights are constant and float32.

    Attributes:
        index: Position of the node in the graph.
        scope: Where it comes from, for regular expressions: its label, and for a linear layer the
            names of its weights and its bias, because simplifiers rename linear layers, and labels
            lack the parents of a module that was not called through them.
        kind: ``conv`` or ``linear``.
        tensor: Its activation input.
        weight: Its weight input, by the name under which the node knows it.
        is_first: No other convolution comes before it: it reads the image itself.
        has_kernel: Whether TensorRT has a good INT8 kernel for it.
        is_delicate: It lies in the decoder or before it, or for TensorRT in attention.
    """

    index: int
    scope: str
    kind: Literal["conv", "linear"]
    tensor: str
    weight: str
    is_first: bool = False
    has_kernel: bool = True
    is_delicate: bool = False


def points(wiring: Wiring, target: Target = "tensorrt") -> list[Point]:
    """Find the convolutions and linear layers that can run in INT8, in the order of the graph.

    They have constant float32 weights, depend neither on a `QUERY_CHOICE` operator nor on a layer
    of the `DECODER`, and are in none of the `FLOAT_SCOPES`. Delicate layers count as well: linear
    ones of decoder layers, and for CPUs those of attention, but in the `NEVER_SCOPES`, and the
    convolutions of `INPUT_SCOPES`.
    """
    kinds = {index: _kind(node, wiring) for index, node in enumerate(wiring.nodes)}
    scopes = {index: _scope(index, kind, wiring) for index, kind in kinds.items() if kind}
    inside = (index for index, scope in scopes.items() if DECODER.search(scope))
    of_queries = wiring.downstream(QUERY_CHOICE)
    decoder = of_queries | wiring.behind(inside)
    after_conv = wiring.downstream(["Conv"])
    found = []
    for index, scope in scopes.items():
        node, kind = wiring.nodes[index], kinds[index]
        in_decoder = index in decoder
        is_delicate = in_decoder or FLOAT_SCOPES.search(scope) is not None
        if kind == "linear" and target != "tensorrt" and index not in of_queries:
            is_delicate &= MEMORY_SCOPES.search(scope) is None
        if kind is None or (is_delicate and not _may_be(kind, scope, in_decoder, target)):
            continue
        earlier = wiring.producer.get(node.input[0], -1) in after_conv
        is_first = kind == "conv" and not earlier
        tensor, weight = node.input[0], node.input[1]
        has_kernel = kind == "linear" or _fills_kernel(node, wiring)
        found.append(Point(index, scope, kind, tensor, weight, is_first, has_kernel, is_delicate))
    return found


def default_points(eligible: Iterable[Point], target: Target = "tensorrt") -> list[Point]:
    """Pick what a target has in INT8 unless it is told otherwise.

    For CPUs that includes linear layers, but none that reads queries: what matters there is few
    whose values lie far from all others, which a range of least squared error clips.
    """
    if target == "tensorrt":
        convolutions = (p for p in eligible if p.kind == "conv" and not p.is_delicate)
        return [p for p in convolutions if not p.is_first and p.has_kernel]
    return [p for p in eligible if not (p.is_first or p.is_delicate)]


def concat_inputs(wiring: Wiring, tensor: str) -> tuple[str, ...]:
    """Return the activations that a Concat joins into ``tensor``; empty where another node made it.

    In INT8 they and the joined tensor share one scale, so that nothing is computed to join them. In
    OpenVINO, which is no slower so, only the joined tensor is rounded, and what reads a part alone
    keeps a finer scale.
    """
    node = wiring.nodes[wiring.producer[tensor]] if tensor in wiring.producer else None
    if node is None or node.op_type != "Concat":
        return ()
    return tuple(dict.fromkeys(name for name in node.input if name not in wiring.constants))


def residuals(wiring: Wiring, convolutions: Iterable[Point]) -> dict[int, str]:
    """Find the additions that one of these convolutions can absorb.

    The convolution's result must go into the addition and nowhere else. Where both sides are such
    convolutions, the one with more weights absorbs it.

    Returns:
        Index of the Add node to the name of its other input, the skip.
    """
    owner = {wiring.nodes[p.index].output[0]: p for p in convolutions if p.kind == "conv"}
    found = {}
    for index, node in enumerate(wiring.nodes):
        if node.op_type != "Add" or any(name in wiring.constants for name in node.input):
            continue
        sides = [s for s in node.input if s in owner and wiring.readers[s] == [index]]
        if sides and node.input[0] != node.input[1]:
            main = max(sides, key=lambda s: _size(wiring.constants[owner[s].weight]))
            found[index] = next(s for s in node.input if s != main)
    return found


def fused_results(wiring: Wiring, convolutions: Iterable[Point]) -> list[str]:
    """Name what ONNX Runtime must write rounded, so that it fuses these convolutions.

    That is the result of each, behind its ReLU, and the sum that it goes into.
    """
    found = []
    for point in (p for p in convolutions if p.kind == "conv"):
        result = _behind_relu(wiring, wiring.nodes[point.index].output[0])
        found.append(result)
        readers = wiring.readers.get(result, [])
        if [wiring.nodes[i].op_type for i in readers] == ["Add"]:
            found.append(_behind_relu(wiring, wiring.nodes[readers[0]].output[0]))
    return [name for name in dict.fromkeys(found) if wiring.readers.get(name)]


def gathered_rows(wiring: Wiring, chosen: Iterable[Point] | None = None) -> dict[str, list[int]]:
    """Find the rows of the image's features that deformable attention gathers.

    In uint8 they are a quarter of the bytes, and gathering takes a CPU as long as many
    convolutions: it jumps through memory.

    Args:
        wiring: The graph.
        chosen: The INT8 layers; only rows that these make count. None counts all.

    Returns:
        The tensor of rows to the indices of the Gather nodes that read it.
    """
    of_queries = wiring.downstream(QUERY_CHOICE)
    inside = None if chosen is None else {point.index for point in chosen}
    found: dict[str, list[int]] = {}
    for index, node in enumerate(wiring.nodes):
        if node.op_type != "Gather" or not GATHERING_SCOPES.search(label(node)):
            continue
        rows, places = (wiring.producer.get(name, -1) for name in node.input)
        if rows < 0 or rows in of_queries or places not in of_queries:
            continue
        if inside is None or _layers_behind(wiring, node.input[0]) <= inside:
            found.setdefault(node.input[0], []).append(index)
    return found


def calibration_tensors(model: onnx.ModelProto) -> list[str]:
    """Name the activations whose range INT8 may need for any target, in the order of the graph."""
    wiring = Wiring(model.graph)
    usable = list(dict.fromkeys([*points(wiring), *points(wiring, "openvino")]))
    names = [*fused_results(wiring, usable), *gathered_rows(wiring)]
    for point in usable:
        names += [*concat_inputs(wiring, point.tensor), point.tensor]
    for index in residuals(wiring, usable):
        names += wiring.nodes[index].input
    order = {name: i for i, name in enumerate([*wiring.inputs, *wiring.producer])}
    return sorted(set(names), key=lambda name: order[name])


def _layers_behind(wiring: Wiring, tensor: str) -> set[int]:
    """Return the indices of the layers whose results a tensor is made of; -1 is none of them."""
    found, left, seen = set(), [tensor], {tensor}
    while left:
        index = wiring.producer.get(left.pop(), -1)
        if index < 0 or wiring.nodes[index].op_type in LAYERS:
            found.add(index)
            continue
        new = {n for n in wiring.nodes[index].input if n not in wiring.constants} - seen
        seen |= new
        left += sorted(new)
    return found


def _may_be(kind: str, scope: str, in_decoder: bool, target: Target) -> bool:
    """Tell whether a delicate layer may be INT8 at all.

    What depends on a layer of the decoder and has no scope in it is a head.
    """
    if kind == "conv":
        return not in_decoder and INPUT_SCOPES.search(scope) is not None
    is_head = in_decoder and not DECODER.search(scope)
    if is_head or NEVER_SCOPES.search(scope):
        return False
    return target != "tensorrt" or not ATTENTION.search(scope)


def _scope(index: int, kind: Literal["conv", "linear"], wiring: Wiring) -> str:
    """Return the scope of a `Point`."""
    named = parameters(index, wiring) if kind == "linear" else ()
    return " ".join([label(wiring.nodes[index]), *named])


def _kind(node: onnx.NodeProto, wiring: Wiring) -> Literal["conv", "linear"] | None:
    """Return what a node is, or None where it cannot run in INT8."""
    if node.op_type not in ("Conv", "MatMul", "Gemm") or node.input[0] in wiring.constants:
        return None
    weight = wiring.constants.get(node.input[1])
    if weight is None or weight.data_type != onnx.TensorProto.FLOAT:
        return None
    rank = len(weight.dims)
    if node.op_type == "Conv":
        return "conv" if rank == 4 else None
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return "linear" if rank == 2 and not transposed else None


def _behind_relu(wiring: Wiring, tensor: str) -> str:
    """Return the result of the ReLU that alone reads a tensor, or the tensor itself."""
    readers = [wiring.nodes[i] for i in wiring.readers.get(tensor, ())]
    is_relu = [node.op_type for node in readers] == ["Relu"]
    return str(readers[0].output[0]) if is_relu else tensor


def _fills_kernel(node: onnx.NodeProto, wiring: Wiring) -> bool:
    """Tell whether TensorRT has a good INT8 kernel for a convolution."""
    outputs, inputs, *_ = wiring.constants[node.input[1]].dims
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    if groups > 1 and inputs == 1:
        return False
    return all(c >= FEW_CHANNELS or c % CHANNEL_STEP == 0 for c in (inputs * groups, outputs))


def _size(tensor: onnx.TensorProto) -> int:
    size = 1
    for side in tensor.dims:
        size *= side
    return size
