"""`make demo` in a fresh checkout, of which only the virtual environment is this one."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from minion_core import Minion

ROOT = Path(__file__).parent.parent


def test_the_demonstration_does_what_it_says(tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "words.txt").write_text("one two three\n" * 1000)
    for command in ("init -q", "add ."):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    for run in (1, 2):
        answer = subprocess.run(
            [sys.executable, "-m", "examples.demo"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        digest = hashlib.sha256((tmp_path / "words.txt").read_bytes()).hexdigest()
        assert f"3,000 words  {digest[:12]}  words.txt" in answer.stdout
        assert re.search(r"^ +[\d,]+ words in 3 files of [\d,]+ bytes$", answer.stdout, re.MULTILINE)
        assert "published at attempt 3" in answer.stdout
        assert answer.stdout.count("ConnectionError: the other side does not answer") == 2
        assert "The schedule 'tidy' ran as job" in answer.stdout
        with Minion(f"sqlite:///{tmp_path}/demo.db") as minion:
            assert [job.state for job in minion.jobs()] == ["finished"] * 6 * run
            assert list(minion.workers()) == []


def test_make_finds_a_python_or_says_what_to_do(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    answer = subprocess.run(
        ["make", "demo", "PYTHON=/no/such/python"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert "found no Python 3.11 or newer" in answer.stderr
    assert "apt install python3 python3-venv" in answer.stderr
