"""What the documentation shows is true: its examples run, its links lead somewhere, the files it names are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doc_pages import CHECKED, PAGES, TOP, PageError, blocks, run_page


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(TOP)))
def test_every_example_runs(page: Path, tmp_path: Path) -> None:
    did = run_page(page, tmp_path)
    wanted = sum(b.language in CHECKED and "not run" not in b.notes for b in blocks(page))
    assert did >= wanted


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(TOP)))
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith(("https://", "http://")) and not target.startswith(GENERATED):
            assert (page.parent / target).exists(), target
    for name in re.findall(r"`((?:qom|accel|plugins|machines|tests|docs|examples)/[\w./-]*\w\.(?:py|c|h|md|S))`", text):
        assert (TOP / name).exists(), name


GENERATED = ("reference/", "../reference/", "pictures/", "../pictures/")
"""Made when the site is built; its own test follows links to them."""


# The runner itself: what is wrong on a page is found, and found at its line.


def page_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "page.md"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("# x\n\n```python\na = 1\nassert a == 2\n```\n", "page.md:4: AssertionError: "),
        ("```toml\n[machine]\ntype = 5\n", None),  # never closed: no block
        ("```toml\nmemroy = 5\n```\n", "block-2.toml"),
        ("```json\n{\n```\n", "page.md:2: JSONDecodeError"),
        ("```sh\nrm -rf x\n```\n", "page.md:2: cannot run 'rm -rf x': expected a command line of qom"),
        ("```sh\nqom tere\n```\n", "unknown command 'tere'; did you mean 'tree' or 'mtree'?"),
        ("```bash\nqom version\n```\n", "page.md:2: language 'bash': expected 'sh'"),
        ("<!-- outputs -->\n```text\nx\n```\n", "page.md:1: no note 'outputs' is known; did you mean 'output'?"),
        ("```sh\nqom run no.toml\n```\n", "no such file: write it above with <!-- file: no.toml -->"),
        ("<!-- not run: -->\n```sh\nls\n```\n", "page.md:3: not run: expected a reason"),
        ("<!-- continues: b -->\n```python\n1\n```\n", "page.md:3: continues: no example 'b' so far"),
        ("```sh\nqom version\n```\n<!-- output -->\n```text\nqom 7\n```\n", "page.md:6: the output has no such line"),
    ],
)
def test_what_is_wrong_is_found(text: str, error: str | None, tmp_path: Path) -> None:
    page = page_of(tmp_path, text)
    if error is None:
        assert run_page(page, tmp_path / "run") == 0
        return
    with pytest.raises(PageError) as caught:
        run_page(page, tmp_path / "run")
    assert error in str(caught.value)


def test_a_page_is_one_session_and_examples_are_their_own(tmp_path: Path) -> None:
    page = page_of(
        tmp_path,
        """
```python
a = 1
```

<!-- file: mine.py -->
```python
value = 42
```

```python
import mine
print("value", mine.value + a)
```

<!-- output -->
```text
value ...3
```

<!-- example: other -->
```python
assert "a" not in globals()
b = 2
```

<!-- continues: -->
```python
assert a == 1 and "b" not in globals()
```

<!-- continues: other -->
```python
assert b == 2
```

  ```sh
  $ qom version > out.txt  # indented, with a prompt
  ```

```python
from pathlib import Path
assert Path("out.txt").read_text().startswith("qom ")
```

<!-- status: 1 -->
```sh
qom types no-such-type
```

<!-- output -->
```text
qom: no type 'no-such-type'...
```

<!-- not run: it is only an idea -->
```sh
rm -rf idea
```
""",
    )
    assert run_page(page, tmp_path / "run") == 11
