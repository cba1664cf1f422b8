from edgedetr.distill.detectors import rt_detr_v2
from edgedetr.distill.networks.rt_detr_presets import PRESETS


def test_a_preset_builds_its_shape(make_model):
    network = make_model("rt_detr_v2", "edge-tiny").network
    assert type(network).__name__ == "RTDetrV2ForObjectDetection"
    shape = PRESETS["edge-tiny"]
    assert network.config.num_labels == 3
    assert network.config.num_queries == shape.queries
    assert len(network.model.decoder.layers) == shape.layers
    assert rt_detr_v2.width(network) == rt_detr_v2.embedding_width(network) == shape.width
