"""Write the measured sections of README.md and pages of docs from benchmarks/results.

python benchmarks/measured_sections.py          # rewrite them
python benchmarks/measured_sections.py --check  # exit status 1 when one is out of date

Stale figures are refused, see `edgedetr.bench.result_file`.
"""

from __future__ import annotations

import argparse
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from demo_section import demo_section
from edgedetr.bench.result_file import age, printable
from edgedetr.runtime.errors import EdgeDetrError
from edgedetr.runtime.files import write_text
from peers.section import peers_section
from study_section import study_section

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
LONGER = "inherit, a fifth longer"
"""The arm of the study that trains for about as long as one with `clock` and a teacher cache."""
SECTION = re.compile(r"(<!-- measured: [^>]*-->\n).*?(<!-- /measured -->)", re.DOTALL)


def main() -> None:
    """Rewrite the sections, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    for name, section in SECTIONS.items():
        before = (ROOT / name).read_text(encoding="utf-8")
        after = SECTION.sub(lambda found, s=section: f"{found[1]}{s()}{found[2]}", before)  # type: ignore[misc]
        if arguments.check and before != after:
            sys.exit(f"{name}: run python benchmarks/measured_sections.py")
        write_text(ROOT / name, after)


@cache
def result(name: str) -> dict[str, Any]:
    """Read one of the results; stop where its figures are stale."""
    try:
        found, is_judged = printable(RESULTS / f"{name}.json")
    except EdgeDetrError as error:
        sys.exit(str(error))
    if not is_judged:
        print(f"{name}.json: without git's history nothing says whether it still holds")
    return found


def of_readme() -> str:
    """Return the README's section: the demo's table, and the figures of single parts."""
    steps, latency, evaluator = map(result, ("method_step", "latency_overhead", "kitti_evaluator"))
    ratios = ", ".join(f"{name} {m['ratio']:.3f}" for name, m in steps["methods"].items())
    difference = evaluator["largest_difference_from_official"]
    return "\n".join(
        [
            *demo_section(result("demo_variations")),
            "",
            f"- A frame of a D-FINE-N at 384x1248 costs{age(latency)} "
            f"{latency['steady']['overhead_ratio']:.3f} times the bare session",
            "  as `edgedetr run` opens it, "
            f"{latency['spinning']['overhead_ratio']:.3f} times where threads spin.",
            f"- A training step, over a student's step and a teacher's forward{age(steps)}:",
            f"  {ratios}.",
            f"- KITTI AP differs from the official tool's by at most {difference:.0e}; 8000 frames",
            f"  with 80,000 detections take {evaluator['seconds']:.1f} s on one core.",
            *_gains(),
            *_gates(),
            *_precisions(),
            *_foreign(),
            "",
            "Each figure's script, command, machine and commit lie in `benchmarks/results/`;",
            "*at COMMIT* marks figures whose code has changed since.",
            "",
        ]
    )


def _gains() -> list[str]:
    """Write what `clock` gains over no teacher."""
    gains = []
    for name, what in (("synth", "rendered scenes"), ("road_objects", "real photos")):
        comparison = result(f"distillation_{name}")
        gains.append(f"{_gain(comparison['gain']['clock'])} on {what}{age(comparison)}")
    plain, heir = result("distillation_synth"), result("distillation_synth_inheriting")
    study = result("study")
    over = study["pairs"]["synth_d_fine"]["gain"]
    taught, longer = (_gain(over[arm]["inherit"]) for arm in ("inherit+clock", LONGER))
    ap = [sum(found["arms"]["none"]["ap"]) / len(found["seeds"]) for found in (plain, heir)]
    return [
        "- From scratch `clock` gains",
        f"  {', '.join(gains)},",
        "  in points of AP over three seeds, with 95 % intervals of Student's t. Inheriting the",
        "  teacher's channels brings a student of rendered scenes from",
        f"  {ap[0]:.1f} to {ap[1]:.1f} with as many steps{age(heir)}. In short runs that start so",
        f"  `clock` adds {taught} over five seeds at equal",
        f"  steps, a fifth more steps without it {longer}{age(study)}.",
    ]


def _gates() -> list[str]:
    """Write how often gates let good models pass and stop broken ones, and which fare otherwise."""
    found = result("gate_power")
    models, wanted = found["models"], found["wanted"]
    good, broken = (
        [m["passed"] for m in models.values() if m["good"] is kind and m["as_wanted"]]
        for kind in (True, False)
    )
    others = [
        f"  `{name}` passes in {m['passed']:.0%}, undecided {m['undecided']:.0%};"
        for name, m in models.items()
        if not m["as_wanted"]
    ]
    return [
        f"- Gates, in {found['draws']} draws of frames: {len(good)} good models in FP16 and INT8",
        f"  pass in at least {min(good):.0%} of them (wanted {wanted['good']:.0%}), "
        f"{len(broken)} broken ones in at most",
        f"  {max(broken):.0%} (wanted {wanted['broken']:.0%});",
        *others,
        "  see decision 0014.",
    ]


def _precisions() -> list[str]:
    """Write what FP16 and INT8 cost in accuracy."""
    int8_file, fp16 = result("int8_student"), result("fp16_parity")
    int8, known = int8_file["fresh_frames"], int8_file["validation_split"]
    half, frames = fp16["models"]["student"], fp16["frames"]
    default, box, score = int8["default"], half["box_error_px"]["max"], half["score_error"]["max"]
    return [
        f"- INT8 of the student: {default['coverage']:.0%} of the MACs; AP lower by",
        f"  {default['ap_drop']:.2f} points on {int8['frames']} fresh frames and by "
        f"{known['default']['ap_drop']:.2f} on {known['frames']} of the validation split"
        f"{age(int8_file)}. FP16"
        f"{age(fp16)}: boxes within",
        f"  {box:.2f} px, {half['beyond_a_limit']} of {half['matched']} scores beyond 0.005 "
        f"(worst {score:.4f}) on {frames} real frames,",
        f"  {half['lost_share']:.2%} of the detections are lost, with "
        f"{half['fp32_share_of_macs']:.1%} of the MACs kept in FP32.",
    ]


def _foreign() -> list[str]:
    """Write what INT8 and FP16 cost a model of others."""
    found = result("foreign_model")
    limits, kinds = found["limits"], found["precisions"]
    ours, fp16, plain = (kinds[k] for k in ("int8_rest_fp16", "fp16", "quantize_static_default"))
    varied = ours["variations"]
    least, drop = _worst(ours)
    half_iou, half_drop = _worst(fp16)
    return [
        "- INT8 of a DETR that others trained, on images that it was not calibrated on: in",
        f"  {ours['within']} of {ours['images']} all boxes keep an IoU of {limits['min_iou']} with"
        f" FP32's and {limits['max_score_drop']} of the score, in",
        f"  {varied['within']} of {varied['images']} light variations of them; at worst IoU is"
        f" {least:.2f} and the score drops by {drop:.2f}. FP16 keeps",
        f"  all ({half_iou:.3f}, {half_drop:.3f}), ONNX Runtime's default quantizer"
        f" {plain['within']} of {plain['images']}.",
    ]


def _worst(kind: dict[str, Any]) -> tuple[float, float]:
    """Return the least IoU and the largest score drop, in the images and their variations."""
    both = kind, kind["variations"]
    return min(k["min_iou"] for k in both), max(k["max_score_drop"] for k in both)


def of_distillation() -> str:
    """Return the section of the distillation page: each comparison, and what a method costs."""
    comparisons = (path.stem for path in sorted(RESULTS.glob("distillation_*.json")))
    lines = [line for name in comparisons for line in _comparison(result(name))]
    steps = result("method_step")
    return "\n".join(
        [
            *study_section(result("study")),
            *lines,
            "## What a method costs",
            "",
            f"Batches of {steps['batch']} at {_by(steps['input_hw'])} on {_machine(steps)}; the",
            "ratio is of a whole step to the same student's step and the teacher's forward, memory",
            "is what the process holds at most beyond the student's own training.",
            "",
            "| method | pair | student's step (ms) | teacher's forward (ms) "
            "| step (ms) | ratio | memory (MiB) |",
            "|---" * 7 + "|",
            *(
                f"| {name} | {m['teacher']} to {m['student']} | {m['student_step_ms']:.0f} "
                f"| {m['teacher_forward_ms']:.0f} | {m['method_step_ms']:.0f} | {m['ratio']:.2f} "
                f"| {m['memory_mib']:.0f} |"
                for name, m in steps["methods"].items()
            ),
            "",
            *_inputs(),
        ]
    )


def _inputs() -> list[str]:
    """Write what the content of queries and fitted adapters are worth before training."""
    found = result("method_inputs")
    ap, losses = found["ap_of_the_teachers_own_boxes"], found["memory_loss_before_the_first_step"]
    return [
        "## What the methods start from",
        "",
        "The teacher of the rendered scenes, decoding its own boxes again, has on "
        f"{found['frames']}",
        f"held-out frames an AP of {ap['chosen']:.3f} with the content that it chose itself, "
        f"{ap['of_place']:.3f} with what",
        "`place_content` makes of each box, as both models get it for points of no class, and",
        f"{ap['mean_of_classes']:.3f} with the mean of its class embeddings.",
        "",
        "`clock`'s memory loss on these frames before the first step, mean of "
        f"{len(found['seeds'])} seeds; fitted",
        f"adapters are the least squares over {found['fitted_on_frames']} training frames:",
        "",
        "| student | random adapters | fitted adapters |",
        "|---|---|---|",
        *(
            f"| {start.replace('_', ' ')} | {loss['random_adapters']:.2f} "
            f"| {loss['fitted_adapters']:.2f} |"
            for start, loss in losses.items()
        ),
        "",
    ]


def _comparison(found: dict[str, Any]) -> list[str]:
    config = found["config"]
    student, seeds = config["student"], len(found["seeds"])
    commit = found["measured_at"]["commit"][:7]
    older = f"Measured at {commit}: {found['older_state']}." if age(found) else ""
    start = ", inheriting from the teacher" if student.get("inherit") else ""
    base = found["arms"][next(iter(found["arms"]))]["ms_per_step"]
    return [
        f"## {config['data']['root'].rstrip('/').rpartition('/')[2]}: {student['family']}{start}",
        "",
        f"`{found['command']}`",
        "",
        f"{student['family']}/{student['preset']} at {_by(student['input_hw'])}, "
        f"{found['steps']} steps of {config['batch_size']}, seeds {_each_whole(found['seeds'])}; "
        f"teacher AP {found['teacher_ap']:.1f}. {_machine(found)}.",
        *([older] if older else []),
        "",
        "| methods | AP (%), each seed | mean | standard deviation | AP50 (%) "
        "| gain, 95 % interval (Student's t) | step (ms) |",
        "|---" * 7 + "|",
        *(
            f"| {name} | {_each(arm['ap'])} | **{arm['mean']:.1f}** | {_spread(arm['std'])} "
            f"| {sum(arm['ap50']) / seeds:.1f} | {_gain(found['gain'].get(name))} "
            f"| {arm['ms_per_step']:.0f} ({arm['ms_per_step'] / base:.2f}) |"
            for name, arm in found["arms"].items()
        ),
        "",
    ]


def _gain(gain: dict[str, float | None] | None) -> str:
    if gain is None:
        return ""
    interval = "one seed" if gain["low"] is None else f"{gain['low']:+.1f} to {gain['high']:+.1f}"
    return f"{gain['mean']:+.1f} ({interval})"


def _spread(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _each_whole(values: list[int]) -> str:
    return ", ".join(map(str, values))


def _each(values: list[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def _by(hw: list[int]) -> str:
    return "x".join(map(str, hw))


def _machine(found: dict[str, Any]) -> str:
    return f"{found['machine']['processor']}, {found['machine']['cores']} cores"


def of_benchmarks() -> str:
    """Return the section of the page about peers."""
    return "\n".join(peers_section(result("peer_ratios")))


def of_security() -> str:
    """Return the section of docs/security.md: a long stream, and runs that were killed."""
    soak, kills = result("soak"), result("training_kills")
    frames, after = soak["frames"] + soak["unreadable"], kills["kills"] - kills["before_an_epoch"]
    wrong = soak["wrong"] + soak["submitted_wrong"] + soak["swaps_wrong"]
    return "\n".join(
        [
            f"- {frames:,} frames of a stream with {soak['swaps']} swaps, "
            f"{soak['refused_swaps']} files that are no model, {soak['unreadable']:,} damaged",
            f"  pictures and clients that trouble the metrics port{age(soak)}: {wrong} wrong",
            f"  results, {soak['failed']} lost frames, memory {soak['grown_mb']:+.1f} MB "
            f"(limit {soak['limit_mb']:.0f}), open files",
            f"  {soak['files_before']:.0f} before and {soak['files_after']:.0f} after.",
            f"- {kills['kills']} kills of a training at random moments{age(kills)}, {after} with",
            f"  a saved state: {kills['equal']} of {kills['runs']} runs end with the bytes",
            "  of the one that nobody killed.",
            "",
        ]
    )


def of_training() -> str:
    """Return the section of docs/training.md: what each option of a step brings."""
    if not (RESULTS / "training_options.json").is_file():
        return "What each option brings: `benchmarks/training_options.py`, still to be run.\n"
    found = result("training_options")
    return "\n".join(
        [
            f"The demo's student and teacher, `strong`, one thread a process, on {_machine(found)}"
            f"{age(found)}:",
            "",
            "| option | steps a second | over the plain run | peak memory |",
            "|---|---|---|---|",
            *(
                f"| {name} | {row['steps_a_second']:.2f} | {row['gain']:.2f} | "
                f"{row['peak_mib']:,.0f} MiB |"
                for name, row in found["options"].items()
            ),
            "",
        ]
    )


SECTIONS = {
    "README.md": of_readme,
    "docs/distillation.md": of_distillation,
    "docs/benchmarks.md": of_benchmarks,
    "docs/security.md": of_security,
    "docs/training.md": of_training,
}
"""The pages that hold a measured section, and what writes it."""


if __name__ == "__main__":
    main()
