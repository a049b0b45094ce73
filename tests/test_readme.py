"""The example in the README prints what it says."""

import contextlib
import io
import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_example_prints_what_the_readme_shows():
    text = README.read_text(encoding="utf-8")
    (found,) = re.findall(r"```python\n(.*?)```\s*```text\n(.*?)```", text, re.DOTALL)
    code, expected = found
    assert code.count("\n") - code.count("\n\n") <= 15
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, str(README), "exec"), {})
    assert printed.getvalue() == expected


def test_pictures_and_links_exist():
    text = README.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http)(.*?)\)", text):
        assert (README.parent / target).is_file(), target
