"""`up`, where it needs no Kafka."""

import subprocess
import sys

_HANGING = """
import threading
from consumers.cli import up
up._EXIT_GRACE = 0.1
up._exit_in_any_case(0.1)
threading.Event().wait()
"""


def test_a_process_that_hangs_in_its_drain_ends_in_any_case() -> None:
    ended = subprocess.run([sys.executable, "-c", _HANGING], timeout=30, check=False)
    assert ended.returncode == 1
