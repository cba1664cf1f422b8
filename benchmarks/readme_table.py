"""Write the README's measured section from the results in benchmarks/results.

python benchmarks/readme_table.py          # rewrite README.md
python benchmarks/readme_table.py --check  # exit status 1 when it is out of date
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from edgedetr.runtime.files import write_text

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
COLUMNS = (
    "model",
    "parameters (M)",
    "GFLOPs",
    "file (MiB)",
    "AP",
    "AP50",
    "KITTI AP40 moderate, Car (%)",
    "p50 (ms)",
    "p99 (ms)",
    "agreement with teacher",
)
SECTION = re.compile(r"(<!-- measured: [^>]*-->\n).*?(<!-- /measured -->)", re.DOTALL)


def main() -> None:
    """Rewrite the section, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    before = README.read_text(encoding="utf-8")
    after = readme_with(before, measured())
    if arguments.check:
        sys.exit(0 if before == after else "README.md: run python benchmarks/readme_table.py")
    write_text(README, after)


def readme_with(text: str, section: str) -> str:
    """Put a section between the README's two markers."""
    return SECTION.sub(lambda found: f"{found[1]}{section}{found[2]}", text)


def measured() -> str:
    """Return the section: the demo's table, and the figures of single parts."""
    demo, steps, latency, evaluator = (
        json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("demo", "method_step", "latency_overhead", "kitti_evaluator")
    )
    machine = f"{demo['machine']['processor']}, {demo['machine']['cores']} cores"
    ratios = ", ".join(f"{name} {m['ratio']:.3f}" for name, m in steps["methods"].items())
    difference = evaluator["largest_difference_from_official"]
    return "\n".join(
        [
            f"`make demo` on {machine}, no GPU: {demo['seconds']:.0f} s after the install,",
            f"{demo['training_seconds']:.0f} s of them training. AP on held-out rendered frames;",
            "latency end to end in ONNX Runtime on the CPU, which only simulates INT8;",
            "TensorRT has not been measured yet.",
            "",
            f"| {' | '.join(COLUMNS)} |",
            "|---" * len(COLUMNS) + "|",
            *(f"| {' | '.join(_row(model))} |" for model in demo["models"]),
            "",
            f"- A frame costs {latency['overhead_ratio']:.3f} times the bare session, D-FINE-N at",
            "  384x1248.",
            "- A training step, over a student's step and a teacher's forward:",
            f"  {ratios}.",
            f"- KITTI AP differs from the official tool's by at most {difference:.0e}; 8000 frames",
            f"  with 80,000 detections take {evaluator['seconds']:.1f} s on one core.",
            "",
            "Each figure's script, command and machine lie in `benchmarks/results/`.",
            "",
        ]
    )


def _row(model: dict[str, Any]) -> list[str]:
    latency = model["latency_ms"]
    return [
        f"{model['name']} {model['precision']}",
        f"{model['params_m']:.2f}",
        f"{model['gflops']:.2f}",
        f"{model['file_mib']:.1f}",
        f"{model['ap']:.3f}",
        f"{model['ap50']:.3f}",
        f"{model['kitti_ap40_moderate']['Car']:.1f}",
        f"{latency['p50']:.1f}",
        f"{latency['p99']:.1f}",
        f"{model['agreement_with_teacher']:.3f}",
    ]


if __name__ == "__main__":
    main()
