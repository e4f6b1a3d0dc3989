"""What the README shows must work as shown."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def python_example() -> str:
    """Return the README's Python example."""
    found = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found.group(1)


def test_python_example_runs_and_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(python_example(), "README.md", "exec"), {})
    shown = re.search(r"(\d+\.\d)% top-1, (\d+) cycles, (\d+\.\d+) µJ", capsys.readouterr().out)
    assert shown is not None
    assert float(shown.group(1)) > 90
    assert int(shown.group(2)) > 0


def test_python_example_is_short() -> None:
    assert len(python_example().strip().splitlines()) <= 18


def test_every_file_the_readme_names_exists() -> None:
    text = README.read_text(encoding="utf-8")
    for name in re.findall(r"\]\(([^)#:]+)\)|`((?:accelsim|quant|workloads|reports)/[\w./]+)`", text):
        path = README.parent / next(part for part in name if part)
        assert path.exists(), path
