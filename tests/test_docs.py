"""The code on the pages of docs/ prints what they say.

Each section runs by itself. A block that ends in an exception prints its last line; ``...`` on a page stands for
anything. A block whose first line names a test file is run by pytest.
"""

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
SECTIONS = [
    pytest.param(page, section, id=f"{page.stem}: {section.splitlines()[0].strip('# ')}")
    for page in PAGES
    for section in re.split(r"^(?=#+ [A-Z])", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if "```python" in section
]
BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\s*^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
FOREIGN = re.compile(r"^(?:import|from) (jax|torch|scipy)\b", re.MULTILINE)


@pytest.mark.parametrize(("page", "section"), SECTIONS)
def test_blocks_print_what_the_page_shows(page, section, tmp_path):
    for package in FOREIGN.findall(section):
        pytest.importorskip(package, reason=f"the cookbook's functions of {package} need it, tinygen does not")
    namespace = {"__name__": "page"}
    for code, shown in BLOCK.findall(section):
        file = re.match(r"# (test_\w+\.py)\n", code)
        printed = _run_file(tmp_path / file[1], code) if file else _run_here(code, namespace)
        matches = doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS)
        assert matches, f"{page.name}:\n{textwrap.indent(code, '    ')}\nprints\n{printed}\nand not\n{shown}"


def _run_here(code: str, namespace: dict) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            exec(compile(code, "page", "exec"), namespace)
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
    return printed.getvalue()


def _run_file(path: Path, code: str) -> str:
    path.write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", path.name]
    run = subprocess.run(
        command, cwd=path.parent, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    return run.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).is_file(), target
