"""The examples in the docstrings are executed."""

import doctest
import re
from pathlib import Path
from types import ModuleType

import pytest

import millpond
import millpond._align
import millpond._blocks
import millpond._flowgraph

MODULES = [millpond, millpond._blocks, millpond._align, millpond._flowgraph]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_docstring_examples(module: ModuleType) -> None:
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert results.attempted >= 2
    assert results.failed == 0


def test_the_tutorial_works_literally() -> None:
    text = (Path(__file__).parents[3] / "docs" / "python.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    names: dict[str, object] = {"__name__": "tutorial"}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert dict(millpond.ponds()) == {}
