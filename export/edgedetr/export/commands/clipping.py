"""``edgedetr export clipping``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgedetr.runtime.commands.options import PATH, beside, require_apart
from edgedetr.runtime.commands.output import echo
from edgedetr.runtime.printable import printable

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, help="Default: MODEL with the suffix .clipping.onnx.")
def clipping(model: Path, output: Path | None) -> None:
    """Write the graph that measures the share of MODEL's INT8 activations that a frame clips."""
    import onnx

    from edgedetr.export.transforms.clipping import clipping_graph
    from edgedetr.graph.model_file import check_onnx_name, embedded_spec, load_onnx
    from edgedetr.runtime.files import atomic_path

    output = output or beside(model, ".clipping.onnx")
    check_onnx_name(output)
    require_apart([output], [model])
    quantized = load_onnx(model)
    embedded_spec(quantized, model)
    graph = clipping_graph(quantized)
    with atomic_path(output) as temporary:
        onnx.save(graph, temporary)
    echo(printable(f"{output}: {len(graph.graph.node)} nodes of {len(quantized.graph.node)}"))
