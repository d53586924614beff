"""Check the subjects and bodies of the commits after BASE: .ci/commits.py.

A subject is an imperative sentence of at most 72 characters, which starts with a capital letter and has no semicolon
and no final full stop. A body says why. Merges are not checked. Without git, without a repository and in a clone that
does not reach back to BASE, the script says so and exits with 0.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

BASE = "798ac62959b5201f00bc24b39a8aebda092e2c76"
"""Earlier commits were made before there was a rule."""
MOST_CHARACTERS = 72
NOT_IMPERATIVE = re.compile(
    r"(?!(?:Bring|Embed|Exceed|Feed|Focus|Need|Proceed|Seed|Shed|Speed)\b)\w+(?:ed|ing|[^s]s)\b"
)
"""A first word such as "Added", "Adding" or "Adds"."""


def faults(subject: str, body: str) -> list[str]:
    """Return what is wrong with a commit's message."""
    found = []
    if len(subject) > MOST_CHARACTERS:
        found.append(f"the subject has {len(subject)} characters, at most {MOST_CHARACTERS} are allowed")
    if not subject[:1].isupper():
        found.append("the subject must start with a capital letter")
    if ";" in subject:
        found.append("the subject must not contain a semicolon: it may describe two changes")
    if subject.endswith("."):
        found.append("the subject must not end with a full stop")
    if NOT_IMPERATIVE.match(subject):
        found.append(f"the subject must be imperative, not {subject.split()[0]!r}")
    if not body.strip():
        found.append("the body must say why")
    return found


def main() -> int:
    """Print each faulty commit; return 1 if there are any."""
    root = Path(__file__).resolve().parents[1]
    if not shutil.which("git"):
        print("skipped: git is not installed")
        return 0
    git = ["git", "-C", str(root)]
    if subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, check=False).returncode:
        print("skipped: not a git repository")
        return 0
    is_ancestor = [*git, "merge-base", "--is-ancestor", BASE, "HEAD"]
    if subprocess.run(is_ancestor, capture_output=True, check=False).returncode:
        print(f"skipped: this clone does not reach back to {BASE[:7]}")
        return 0
    log = [*git, "log", "--no-merges", "--format=%H%x00%s%x00%b%x01", f"{BASE}..HEAD"]
    output = subprocess.run(log, capture_output=True, text=True, check=True).stdout
    wrong = 0
    for record in output.split("\x01"):
        if record.strip():
            commit, subject, body = record.strip("\n").split("\0")
            for fault in faults(subject, body):
                print(f"{commit[:7]} {subject!r}: {fault}")
                wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
