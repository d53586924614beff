"""README, CONTRIBUTING and docs/ name commands, make targets and files that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from xai_runbook.cli import change_arguments
from xai_runbook.cli.main import parser

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
SHORT = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


def commands(path: Path) -> list[str]:
    """Return the command lines of the shell blocks, without comments, redirections and what they print."""
    lines = []
    for language, block in re.findall(r"```(sh|console)\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        prompt = "$ " if language == "console" else ""
        lines += [line.removeprefix(prompt) for line in block.splitlines() if line.startswith(prompt)]
    parts = [part for line in lines for part in re.split(r" && | > ", re.sub(r"(^|\s)#.*", "", line))]
    return [part.strip() for part in parts if part.strip()]


def targets(makefile: Path) -> set[str]:
    """Return the targets that `make help` lists."""
    return set(re.findall(r"^([a-z-]+):.*## ", makefile.read_text(encoding="utf-8"), re.MULTILINE))


@each_document
def test_command_lines_parse(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in commands(path):
        program, *words = shlex.split(line)
        if program != "xai-runbook":
            continue
        options = parser().parse_args(words)
        if words[0] == "plan" and words[1] not in ("list", "show"):
            change_arguments.parser(options.change).parse_args(options.arguments)


def test_every_command_of_the_documents_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [shlex.split(line) for path in DOCUMENTS for line in commands(path) if line.startswith("xai-runbook ")]
    used = {tuple(words[1:3] if words[1] == "sandbox" else words[1:2]) for words in lines}
    assert len(used) > 10
    for command in sorted(used):
        with pytest.raises(SystemExit) as left:
            parser().parse_args([*command, "--help"])
        assert left.value.code == 0, command
        assert "example" in capsys.readouterr().out.lower(), f"{' '.join(command)} --help shows no example"


@each_document
def test_make_targets_exist(path: Path) -> None:
    inline = re.findall(r"`(make [^`]+)`", path.read_text(encoding="utf-8"))
    named = {word for line in [*inline, *commands(path)] if line.startswith("make ") for word in shlex.split(line)[1:]}
    assert {word for word in named if "=" not in word} <= targets(ROOT / "Makefile")


def test_contributing_lists_every_make_target() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `make ([a-z-]+)` \|", text, re.MULTILINE)) == targets(ROOT / "Makefile")


@each_document
def test_files_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    created = set(re.findall(r"Create\s+`([^`]+)`:", text))
    linked = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}
    named = {span for span in re.findall(r"`([^`\s]+/[^`\s]*)`", text) if re.fullmatch(r"[a-z.][\w./-]*", span)}
    named = {span for span in named - created if not span.startswith("outputs/")}
    assert [link for link in linked if not (path.parent / link).exists()] == []
    # a folder may be named from where its sentence stands: `supervisor/` of the sandbox
    folders = [ROOT, ROOT / "xai_runbook", *(ROOT / "xai_runbook").iterdir()]
    assert [span for span in named if not any((folder / span).exists() for folder in folders)] == []


def test_the_readme_is_one_page_with_a_picture() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 85
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert (ROOT / picture).stat().st_size < 150_000


def test_safety_numbers_the_promises_as_the_code_does() -> None:
    text = (ROOT / "docs" / "safety.md").read_text(encoding="utf-8")
    rows = {int(number): row for number, row in re.findall(r"^\| P(\d+) \|(.*)$", text, re.MULTILINE)}
    assert list(rows) == list(range(1, len(rows) + 1))
    guarded = {
        int(number)
        for number in re.findall(
            r'^promise = "P(\d+):', (ROOT / "tests/changes/guards.toml").read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    sources = [path for folder in ("xai_runbook", "tests") for path in (ROOT / folder).rglob("*.py")]
    cited = {int(number) for path in sources for number in re.findall(r"\bP(\d+)\b", path.read_text(encoding="utf-8"))}
    assert guarded == {number for number, row in rows.items() if "guards.toml" in row}
    assert guarded | cited <= set(rows)
    for number, row in rows.items():
        assert ("no code" in row) <= (number not in guarded | cited), f"P{number} has code"
        assert "no code" not in row or "**Not yet" in row, f"P{number}"
