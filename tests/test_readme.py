"""Every example of the README runs, in the order in which it is read, and prints what it says there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sybil import Example
from sybil.document import Document
from sybil.parsers.markdown import CodeBlockParser

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


class Reader:
    """Does what a reader of the README would do, in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "readme"}
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("MINION_")
        }
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{self.environment['PATH']}"
        self.workers: list[subprocess.Popen[bytes]] = []

    def python(self, example: Example) -> str | None:
        code = str(example.parsed)
        named = re.match(r"# (\S+\.py)\n", code)
        if named is None:
            # At its line, so that a failure names the right one.
            exec(compile("\n" * example.line + code, str(README), "exec"), self.names)
        elif named[1].startswith("examples/"):
            assert code[named.end() :] == (ROOT / named[1]).read_text(), (
                f"{named[1]} is not what README shows"
            )
        else:
            (self.folder / named[1]).write_text(code)
        return None

    def console(self, example: Example) -> str | None:
        for block in re.split(r"^\$ ", str(example.parsed), flags=re.MULTILINE)[1:]:
            command, _, expected = block.partition("\n")
            if command.startswith("export "):
                name, _, value = command.removeprefix("export ").partition("=")
                self.environment[name] = value
            elif re.search(r" worker (?!--help)", command):
                self.workers.append(subprocess.Popen(command.split(), cwd=self.folder, env=self.environment))
            else:
                answer = subprocess.run(
                    command,
                    shell=True,
                    cwd=self.folder,
                    env=self.environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=60,
                    check=False,
                )
                if not _alike(answer.stdout, expected):
                    return f"$ {command}\nprinted\n{answer.stdout}\nand not\n{expected}"
        return None


def _alike(printed: str, expected: str) -> bool:
    """Compare word by word; three dots stand for anything."""
    pieces = (r"\s+".join(map(re.escape, piece.split())) for piece in expected.split("..."))
    return re.fullmatch(r"\s*" + r"\s*.*\s*".join(pieces) + r"\s*", printed, re.DOTALL) is not None


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    reader = Reader(tmp_path)
    yield reader
    for worker in reader.workers:
        worker.terminate()
    codes = [worker.wait(30) for worker in reader.workers]
    if "minion" in reader.names:
        reader.names["minion"].close()
    sys.modules.pop("shop", None)
    assert codes == [0] * len(codes)


def test_every_example_runs(reader):
    parsers = [CodeBlockParser("python", reader.python), CodeBlockParser("console", reader.console)]
    examples = list(Document.parse(str(README), *parsers).examples())
    assert len(examples) > 15
    for example in examples:
        example.evaluate()


def test_the_first_heading_says_the_two_commands():
    first = README.read_text().split("\n## ")[1]
    assert re.findall(r"^    (\S.*)$", first, re.MULTILINE) == ["make demo", "make test"]


def test_links_lead_somewhere():
    for page in [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text()
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
        for target in re.findall(r"\]\(([^)]+)\)", text):
            if target.startswith("#"):
                assert target[1:] in anchors, f"{page.name}: {target}"
            elif not target.startswith("https://"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
