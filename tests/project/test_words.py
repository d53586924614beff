"""Rule 7: the words that had to be decoded stay out of names, docstrings, messages, notebooks and documents."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

NOT_BUT = {
    r"told": "what it is: answer, message, value, row, status",
    r"said": "what it is: message, answer, output",
    r"(?:the |its )?way back": "undo",
    r"(?:comes?|came|coming) to (?:nothing|the same|what|much)|what (?:\w+ ){1,3}came to": "result",
    r"lets? (?:us|it|them) not": "rejected",
    r"through the door|the door": "apply",
    r"by way of": "by, with",
    r"of ours|of theirs": "whose it is",
    r"more than nothing": "must be positive",
    r"(?:this|that|it) is no (?:time|plan|number|duration|node|backup|name|text|answer)\b": "invalid ...; expected ...",
    r"is none; write": "invalid ...; expected ...",
    r"nobody (?:knows|is there|asked)": "unknown, unattended",
    r"not to be (?:told|had|read|known)": "cannot be determined, not available",
    r"as it lies": "as it is",
}
PATTERN = re.compile("|".join(f"(?P<w{n}>\\b(?:{words})\\b)" for n, words in enumerate(NOT_BUT)), re.IGNORECASE)
SUGGESTIONS = list(NOT_BUT.values())


def complaints(text: str) -> list[str]:
    """What is to be said otherwise in a text."""
    return [f"{found[0]!r}: {SUGGESTIONS[int(str(found.lastgroup)[1:])]}" for found in PATTERN.finditer(text)]


def python_texts(path: Path) -> Iterator[tuple[int, str]]:
    """Each name, string and comment of a module with its line; names with spaces between their words."""
    source = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", token.string).replace("_", " ")
        elif token.type in (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)):
            # a phrase may go over a line's end
            yield token.start[0], re.sub(r"\s+", " ", token.string.replace("_", " "))


def texts(path: Path) -> Iterator[tuple[int, str]]:
    if path.suffix == ".py":
        yield from python_texts(path)
    elif path.suffix == ".ipynb":
        for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            yield number, " ".join("".join(cell["source"]).replace("_", " ").split())
    else:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            yield number, line.replace("_", " ")


def files(checkout: Path) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=checkout, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    found = [checkout / name for name in listed] or [path for path in checkout.rglob("*") if ".venv" not in path.parts]
    return [
        path
        for path in found
        if path.suffix in {".py", ".sql", ".toml", ".ipynb", ".md", ".j2", ".html"}
        and path.is_file()
        and path.relative_to(checkout).parts[0] not in {"tests", "outputs"}
    ]


def test_the_words_are_the_fields_own(checkout: Path) -> None:
    found = [
        f"{path.relative_to(checkout)}:{line}: {complaint}"
        for path in files(checkout)
        for line, text in texts(path)
        for complaint in complaints(text)
    ]
    assert len(files(checkout)) > 250
    assert found == [], "\n".join(found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("as told by the server", True),
        ("was told", True),
        ("what one step came to", True),
        ("the way back from entry 3", True),
        ("the server lets us not in", True),
        ("this is no time", True),
        ("jobs must be more than nothing", True),
        ("the server rejected the login", False),
        ("a household name", False),
        ("it came to an end", False),
    ],
)
def test_each_word_is_found(text: str, found: bool) -> None:
    assert bool(complaints(text)) is found


def test_names_strings_and_comments_are_all_read(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        'x_told = 1\ny = f"it {x_told} said"\n# by\n"""By way\nof"""\nclass WasTold: ...\n', encoding="utf-8"
    )
    assert {line for line, text in texts(path) if complaints(text)} == {1, 2, 4, 6}
