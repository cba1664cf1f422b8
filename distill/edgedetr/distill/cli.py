"""Commands of the distillation stage: data, distill, evaluate, import, runs."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgedetr.distill.commands.cache import cache, cache_option, with_cache
from edgedetr.distill.commands.evaluate import evaluate
from edgedetr.distill.commands.runs import runs
from edgedetr.distill.commands.shards import shards
from edgedetr.distill.commands.tune import tune
from edgedetr.runtime.commands.options import (
    PATH,
    command_line,
    format_option,
    json_option,
    require_apart,
)
from edgedetr.runtime.commands.output import echo, write_figures
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.files import write_text
from edgedetr.runtime.printable import printable

if TYPE_CHECKING:
    from edgedetr.distill.dataset_survey import Survey
    from edgedetr.distill.networks.fake_quantization import Quantization
    from edgedetr.distill.training.qat import Calibrate

_SET = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting of CONFIG."
)
MOST_SHOWN = 10
"""Problems of one kind that `edgedetr data check` shows."""


@click.group()
def data() -> None:
    """Render, check, view and convert data sets."""


@data.command()
@click.argument("out", type=PATH)
@click.option(
    "--frames",
    type=click.IntRange(2, 999_999),
    default=1000,
    show_default=True,
    help="Frames to render; the last 20 % are the validation split.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Seed of the scenes.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=2,
    show_default=True,
    help="Processes that render.",
)
def synth(out: Path, frames: int, seed: int, workers: int) -> None:
    """Render a data set of road scenes, in KITTI's format, into the new folder OUT."""
    from edgedetr.distill.synth.writer import write_synth

    rendered = write_synth(out, frames, seed, workers)
    state = "rendered" if rendered else "up to date:"
    echo(printable(f"{out}: {state} {frames} frames, seed {seed}"))


@data.command()
@click.argument("root", type=PATH)
@format_option
@click.option("--decode", is_flag=True, help="Read every image whole, not only its header.")
@click.option("--json", "out", type=PATH, help="Write counts and all problems to this file.")
def check(root: Path, kind: str | None, decode: bool, out: Path | None) -> int:
    """Count the objects of the data set ROOT, and list bad labels and images.

    The most frequent kind of problem comes first; the first ten of each kind are shown.
    """
    from edgedetr.distill.dataset_survey import DIFFICULTIES, survey

    require_apart([out], [])
    found = survey(root, kind, decode=decode)
    if out:
        write_text(out, json.dumps(found.as_dict(), indent=2) + "\n")
    _show_problems(found)
    for name, count in sorted(found.classes.items()):
        echo(f"{printable(name):16}{count:8}")
    for name in DIFFICULTIES:
        if found.difficulty:
            echo(f"{name:16}{found.difficulty[name]:8}")
    echo(printable(f"{root}: {found.summary()}"))
    return 1 if found.problems else 0


def _show_problems(found: Survey) -> None:
    """Print the first problems of each kind, and the notes."""
    for what, problems in found.problems_by_kind():
        for line in problems[:MOST_SHOWN]:
            echo(printable(line), err=True)
        if len(problems) > MOST_SHOWN:
            more = f"and {len(problems) - MOST_SHOWN} more like it: {what}"
            echo(printable(more), err=True)
    for line in found.notes:
        echo(printable(line), err=True)


@data.command()
@click.argument("root", type=PATH)
@click.argument("out", type=PATH)
@click.option("--to", required=True, metavar="NAME", help="Format to write.")
@format_option
@json_option
def convert(root: Path, out: Path, to: str, kind: str | None, figures: Path | None) -> None:
    """Write the data set ROOT in another format into the new folder OUT, and list what is lost.

    Boxes stay where they are to a ten-thousandth of a pixel. Images are hard links, or copies where
    the file system has none.
    """
    from edgedetr.distill.dataset_conversion import convert as run

    require_apart([figures], [])
    found = run(root, out, to, kind)
    write_figures(figures, {"to": to, **vars(found)})
    for line in found.lines():
        echo(printable(line), err=True)
    splits = ", ".join(f"{split} {count}" for split, count in found.frames.items())
    echo(printable(f"{out}: {to}, frames: {splits}; {found.objects} objects"))


@data.command()
@click.argument("root", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The page, an HTML file.")
@format_option
@click.option(
    "--frames",
    type=click.IntRange(1, 500),
    default=24,
    show_default=True,
    help="How many frames to draw, evenly spread.",
)
def view(root: Path, output: Path, kind: str | None, frames: int) -> None:
    """Write a page with frames of the data set ROOT, its boxes, counts, sizes and problems."""
    from edgedetr.distill.dataset_page import write_page

    require_apart([output], [])
    found = write_page(root, output, kind, frames)
    echo(printable(f"{output}: {found.summary()}"))


def _calibrate(*arguments: object) -> Quantization:
    from edgedetr.distill.training.qat import uncalibrated

    return uncalibrated(*arguments)


@click.group(context_settings={"obj": _calibrate})  # the export stage gives its own
def distill() -> None:
    """Train a student, with or without a teacher, and compare methods."""


@distill.command()
@click.argument("config", type=PATH)
@_SET
@cache_option
@click.option("-o", "--out", type=PATH, help="Folder of the run.", show_default="runs/CONFIG")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Do not train; draw 16 augmented samples to OUT/samples.png, or to OUT if it is a .png.",
)
@click.option(
    "--profile",
    is_flag=True,
    help="Write a trace of 5 steps, OUT/trace.json, for chrome://tracing or ui.perfetto.dev.",
)
@click.pass_obj
def train(  # noqa: PLR0913 - one argument per option
    calibrate: Calibrate,
    config: Path,
    overrides: tuple[str, ...],
    folder: Path | None,
    out: Path | None,
    *,
    dry_run: bool,
    profile: bool,
) -> None:
    """Train the student that CONFIG, a TOML file or the name of a recipe, describes.

    An interrupted run resumes at its last state.
    """
    from edgedetr.distill.config import load_config
    from edgedetr.distill.recipe import draw
    from edgedetr.distill.recipe import train as run
    from edgedetr.distill.recipes import recipe_path
    from edgedetr.distill.training.step_trace import StepTrace

    config, overrides = recipe_path(config), with_cache(overrides, folder)
    out = out or Path("runs") / config.stem
    if dry_run:
        if out.suffix.lower() in {".jpg", ".jpeg", ".webp", ".bmp"}:
            raise UsageError(f"{out}: wanted a folder, or a name that ends in .png")
        path = out if out.suffix.lower() == ".png" else out / "samples.png"
        draw(load_config(config, overrides), path)
        echo(f"{path}: what the run trains on first; nothing was trained")
        return
    watchers = (StepTrace(out),) if profile else ()
    command = command_line()
    metrics = run(load_config(config, overrides), out, command, calibrate, watchers)
    if os.environ.get("RANK", "0") != "0":
        return  # the first process of the run speaks
    found = (
        f"AP {metrics['ap']:.3f}, AP50 {metrics['ap50']:.3f} on the validation split, trained in "
        f"{metrics['seconds']:.0f} s"
    )
    echo(printable(f"{out / 'student.safetensors'}: {found}"))


@distill.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the recipes that train takes by name; with NAME, print that one."""
    from edgedetr.distill.recipes import recipe_path, recipe_text, recipes, summary

    if name:
        echo(recipe_text(recipe_path(Path(name))), nl=False)
        return
    for found, path in recipes().items():
        echo(f"{found:24}{summary(path)}")


@distill.command()
@click.argument("config", type=PATH)
@click.option(
    "--methods",
    "arms",
    required=True,
    metavar="ARM,ARM,...",
    help="What to compare, the reference first, such as none,clock,clock+fgd.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    default=3,
    show_default=True,
    help="Runs of each arm, each with another seed.",
)
@_SET
@click.option(
    "--out", type=PATH, help="Folder of the runs and the page.", show_default="runs/compare-CONFIG"
)
@click.option(
    "--json",
    "json_path",
    type=PATH,
    help="File of the figures.",
    show_default="OUT/comparison.json",
)
@click.pass_obj
def compare(  # noqa: PLR0913, PLR0917 - one argument per option
    calibrate: Calibrate,
    config: Path,
    arms: str,
    seeds: int,
    overrides: tuple[str, ...],
    out: Path | None,
    json_path: Path | None,
) -> None:
    """Train CONFIG's student with each arm and seed, and compare them. Resumes when interrupted."""
    from edgedetr.distill.comparison.page import as_text
    from edgedetr.distill.comparison.runs import Plan
    from edgedetr.distill.comparison.runs import compare as run
    from edgedetr.distill.config import load_config
    from edgedetr.distill.recipes import recipe_path

    config = recipe_path(config)
    out = out or Path("runs") / f"compare-{config.stem}"
    names = tuple(name.strip() for name in arms.split(","))
    plan = Plan(load_config(config, overrides), names, seeds, out)
    command = command_line()
    found = run(plan, json_path or out / "comparison.json", command, echo, calibrate)
    echo(as_text(found))
    echo(printable(f"Open {out / 'comparison.html'}"))


@click.command("import")
@click.argument("source")
@click.option(
    "-o",
    "--output",
    required=True,
    type=PATH,
    metavar="MODEL.safetensors",
    help="The checkpoint to write.",
)
@click.option("--query-fade", is_flag=True, help="Let weak queries fade; changes the outputs.")
@click.option(
    "--input-hw",
    nargs=2,
    type=click.IntRange(32, 1 << 14),
    metavar="HEIGHT WIDTH",
    help="Size of the input in pixels.",
    show_default="the preprocessor's",
)
@json_option
def import_(
    source: str,
    output: Path,
    query_fade: bool,
    input_hw: tuple[int, int] | None,
    figures: Path | None,
) -> None:
    """Import the detector or backbone SOURCE, with the outputs that it has in its own library.

    SOURCE is a name of the Hugging Face hub, a detector of torchvision by its name
    (torchvision:fcos_resnet50_fpn), a folder with config.json, preprocessor_config.json and
    model.safetensors, or a safetensors file of RT-DETRv4 or torchvision. The checkpoint works in
    every command: as a teacher, as a start, to export, to verify and to detect. A backbone
    (resnet50, torchvision:resnet50, a name or folder of timm) is for student.backbone_weights.
    """
    from edgedetr.distill.weights.importing import import_model
    from edgedetr.distill.weights.source_backbone import import_backbone, is_backbone
    from edgedetr.distill.weights.source_place import source_place

    place = source_place(source)
    read = [*place.glob("*config.json"), *place.glob("model*.safetensors")]
    require_apart([output, figures], read if place.is_dir() else [place])
    if is_backbone(place):
        if query_fade or input_hw:
            raise UsageError(f"{source} is a backbone; leave out --query-fade and --input-hw")
        kind = import_backbone(place, output, name=source)
        write_figures(figures, {"checkpoint": str(output), "backbone": kind})
        echo(f"{output}: backbone {kind}; name it in student.backbone_weights")
        return
    model = import_model(
        place,
        output,
        query_fade=query_fade,
        input_hw=input_hw,
        name=source,
        command=command_line(),
    )
    parameters = sum(p.numel() for p in model.network.parameters())
    millions, (height, width) = parameters / 1e6, model.spec.input_hw
    known = {"family": model.family, "parameters": parameters, "spec": asdict(model.spec)}
    write_figures(figures, {"checkpoint": str(output), **known})
    echo(
        f"{output}: {model.family}, {millions:.1f} M parameters, {len(model.spec.class_names)} "
        f"classes, input {height} x {width} ({model.spec.resize})"
    )


data.add_command(shards)
distill.add_command(tune)
distill.add_command(cache)

COMMANDS: tuple[click.Command, ...] = (data, distill, evaluate, import_, runs)
