"""`mutations.py` breaks lines that are there, before tests that are there: running it takes minutes, this does not."""

import re

import pytest

from tests.mutations import MUTATIONS, ROOT, misplaced


def test_every_mutation_finds_its_text_exactly_once():
    assert misplaced() == []


@pytest.mark.parametrize("name", sorted({test for mutation in MUTATIONS for test in mutation.tests}))
def test_every_test_that_should_notice_exists(name):
    file, *function = re.sub(r"\[.*\]$", "", name).split("::")
    text = (ROOT / file).read_text(encoding="utf-8")
    assert all(f"def {part}(" in text or f"class {part}" in text for part in function)


def test_names_tell_mutations_apart():
    names = [mutation.name for mutation in MUTATIONS]
    assert len(set(names)) == len(names)
