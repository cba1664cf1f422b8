import json

import pytest
import torch

from edgedetr.distill.training.step_trace import FIRST, STEPS, TRACE, StepTrace


@pytest.mark.parametrize(("steps", "is_there"), [(FIRST + STEPS + 2, True), (FIRST - 1, False)])
def test_some_steps_of_a_run_are_traced_once_they_are_taken(tmp_path, steps, is_there):
    trace = StepTrace(tmp_path)
    trace.start([])
    for step in range(steps):
        torch.ones(4, 4) @ torch.ones(4, 4)
        trace.step(step, 0, {"loss": 1.0})
        trace.evaluation(step, 0, {"ap": 0.5})
    trace.close()
    path = tmp_path / TRACE
    assert path.is_file() == is_there
    if is_there:
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
        assert sum(event.get("name") == "aten::matmul" for event in events) == STEPS
