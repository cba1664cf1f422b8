import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "training_kills.py"


@pytest.mark.slow
def test_runs_that_are_killed_at_random_end_as_the_one_that_is_not():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--kills", "2"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("2 kills in ")
