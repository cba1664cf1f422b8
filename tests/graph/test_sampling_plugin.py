"""The function beside TensorRT's plugin, and what the parser of TensorRT takes the node for."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedetr.graph.exact import exact_session
from edgedetr.graph.requirements import raise_opset
from edgedetr.graph.sampling_plugin import (
    DOMAIN,
    NAMESPACE,
    PLUGIN,
    VERSION,
    define_plugin,
    is_defined,
    plugin_nodes,
)

THREE_LEVELS = [(12, 40), (6, 20), (3, 10)]


def graph_of(shapes, batch=1, heads=1, depth=1, queries=1, points=1):
    """A graph of one node."""
    cells = [height * width for height, width in shapes]
    by_point = [batch, queries, heads, len(shapes), points]
    inputs = {
        "value": [batch, sum(cells), heads, depth],
        "places": [*by_point, 2],
        "weights": by_point,
    }
    constants = {"shapes": shapes, "starts": [0, *np.cumsum(cells)[:-1]]}
    named = {"plugin_version": VERSION, "plugin_namespace": NAMESPACE}
    reads = ["value", "shapes", "starts", "places", "weights"]
    node = helper.make_node(PLUGIN, reads, ["read"], "attention", domain=DOMAIN, **named)
    answer = helper.make_tensor_value_info("read", TensorProto.FLOAT, [None] * 4)
    graph = helper.make_graph(
        [node],
        "sampling",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [answer],
        [numpy_helper.from_array(np.array(v, np.int32), n) for n, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    define_plugin(model)
    return model


def read(model, value, places, weights):
    feeds = {}
    for given, values in zip(model.graph.input, (value, places, weights), strict=True):
        shape = [side.dim_value for side in given.type.tensor_type.shape.dim]
        feeds[given.name] = np.asarray(values, np.float32).reshape(shape)
    return exact_session(model, "the model").run(None, feeds)[0]


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ((0.375, 0.5), 2.25),  # a quarter right of the left cells, half way down
        ((0.25, 0.25), 1.0),  # on the first cell
        ((0.0, 0.25), 0.5),  # half outside
        ((1.0, 1.0), 1.0),  # three quarters outside
        ((1.25, 0.75), 0.0),  # a cell behind the last
        ((-1e6, 1e6), 0.0),
    ],
)
def test_a_place_among_four_cells_by_hand(place, found):
    """Between 1, 2 / 3, 4."""
    assert read(graph_of([(2, 2)]), [1, 2, 3, 4], place, 1).item() == pytest.approx(found)


def test_levels_points_heads_and_images_are_summed_apart():
    """Two levels of one cell: 10 and 20 for the first head, 1 and 2 for the second."""
    model = graph_of([(1, 1), (1, 1)], batch=2, heads=2)
    value = [[10, 1], [20, 2]], [[30, 3], [40, 4]]  # image, cell, head
    weights = [[1, 0.5], [1, 0]], [[0, 1], [2, 0]]  # image, head, level
    found = read(model, value, np.full((2, 2, 2, 2), 0.5), weights)
    assert found.reshape(2, 2).tolist() == [[20, 1], [40, 6]]


@pytest.mark.parametrize("shapes", [[(7, 9)], [(1, 3), (2, 1)], THREE_LEVELS])
def test_the_function_is_grid_sampling(shapes):
    torch = pytest.importorskip("torch")
    from torch.nn.functional import grid_sample

    generator = torch.Generator().manual_seed(0)
    batch, heads, depth, queries, points = 2, 3, 5, 11, 4
    cells = [height * width for height, width in shapes]
    value = torch.randn(batch, sum(cells), heads, depth, generator=generator)
    by_point = (batch, queries, heads, len(shapes), points)
    places = torch.rand(*by_point, 2, generator=generator) * 2 - 0.5
    weights = torch.randn(*by_point, generator=generator)
    places[0, 0, 0, 0, 0] = torch.tensor([0.0, 1.0])
    places[0, 0, 1, 0, 0] = torch.tensor([1 + 0.5 / shapes[0][1], -0.5 / shapes[0][0]])
    wanted = torch.zeros(batch, queries, heads, depth)
    for index, level in enumerate(value.split(cells, 1)):
        maps = level.permute(0, 2, 3, 1).flatten(0, 1).unflatten(-1, shapes[index])
        grid = (2 * places[:, :, :, index] - 1).transpose(1, 2).flatten(0, 1)
        sampled = grid_sample(maps, grid, "bilinear", "zeros", align_corners=False)
        sampled = sampled.unflatten(0, (batch, heads)).permute(0, 3, 1, 2, 4)
        wanted += (sampled * weights[:, :, :, index].unsqueeze(3)).sum(-1)
    model = graph_of(shapes, batch, heads, depth, queries, points)
    found = read(model, value.numpy(), places.numpy(), weights.numpy())
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)


def test_the_function_has_a_shape_before_it_runs():
    model = graph_of(THREE_LEVELS, batch=2, heads=3, depth=5, queries=11, points=4)
    onnx.checker.check_model(model, full_check=True)
    answer = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type
    assert [d.dim_value for d in answer.shape.dim] == [2, 11, 3, 5]


def test_a_later_opset_keeps_the_function():
    model = graph_of([(2, 2)])
    raised = raise_opset(model, 19)
    assert is_defined(raised)
    assert len(plugin_nodes(raised)) == 1
    assert read(raised, [1, 2, 3, 4], (0.375, 0.5), 1).item() == pytest.approx(2.25)


def test_a_model_without_the_plugin_stays_as_it_is():
    model = graph_of([(2, 2)])
    del model.graph.node[:], model.functions[:]
    before = model.SerializeToString()
    define_plugin(model)
    assert model.SerializeToString() == before
    assert not is_defined(model)


@pytest.fixture
def asked():
    """Names that NVIDIA's parser, as TensorRT for RTX has it, asks a plugin of our name for."""
    trt = pytest.importorskip("tensorrt_rtx")
    names = []

    def start(self):
        trt.IPluginCreatorV3One.__init__(self)
        self.name, self.plugin_version, self.plugin_namespace = PLUGIN, VERSION, NAMESPACE
        self.field_names = trt.PluginFieldCollection([])

    def create(_, name, _fields, _phase):
        names.append(name)

    methods = {"__init__": start, "create_plugin": create}
    creator = type("Creator", (trt.IPluginCreatorV3One,), methods)()
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)

    def parse(model, is_registered):
        names.clear()
        registry = builder.get_plugin_registry()
        if is_registered:
            registry.register_creator(creator, "")
        try:
            network = builder.create_network(0)
            parsed = trt.OnnxParser(network, logger).parse(model.SerializeToString())
        finally:
            if is_registered:
                registry.deregister_creator(creator)
        return parsed, list(names)

    return parse


def test_the_parser_takes_the_plugin_before_the_function(asked):
    model = graph_of([(2, 2)])
    assert asked(model, is_registered=True) == (False, ["attention"])  # it gets none from ours
    assert asked(model, is_registered=False) == (True, [])


def test_without_its_namespace_the_parser_takes_the_function(asked):
    model = graph_of([(2, 2)])
    node = model.graph.node[0]
    node.attribute.remove(next(a for a in node.attribute if a.name == "plugin_namespace"))
    assert asked(model, is_registered=True) == (True, [])
