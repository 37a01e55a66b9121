"""docs/sequence_models.md: every ```python block of the page runs, in order, and what it asserts holds."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs/sequence_models.md"


def test_the_snippets_of_the_page_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = PAGE.read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    sections = len(re.findall("^## ", text, re.MULTILINE))
    assert len(blocks) >= sections  # but for the last, which has no code, and the command line, each has its own
    names: dict[str, object] = {}
    for block in blocks:
        line = text[: block.start()].count("\n") + 1
        exec(compile("\n" * line + block[1], str(PAGE), "exec"), names)  # errors name the line of the page
