import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "training_kills.py"


@pytest.mark.slow
def test_runs_that_are_killed_at_random_end_as_the_one_that_is_not(tmp_path):
    result = tmp_path / "kills.json"
    command = [sys.executable, SCRIPT, "--kills", "3", "--workers", "1", "--json", result]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("3 kills in ")
    found = json.loads(result.read_text(encoding="utf-8"))
    assert (found["kills"], found["equal"]) == (3, found["runs"])
    assert found["workers"] == 1
    assert "--kills 3" in found["command"]
    assert found["machine"]["cores"]
