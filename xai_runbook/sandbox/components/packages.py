"""Debian packages, downloaded with apt and unpacked into a folder: needs no root and installs nothing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from xai_runbook.errors import SandboxError
from xai_runbook.system import child, processes

_OPTIONS = ("-q", "-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=15")
_NEW_PACKAGES = re.compile(r"^Inst ([a-z0-9][a-z0-9+.-]*) \(.*\[(?!all\])\w+\]\)", flags=re.MULTILINE)
"""Packages for this architecture that apt would newly install; an upgrade has its old version before the bracket."""
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_NOT_FOUND = re.compile(r"^\s*(\S+) => not found", flags=re.MULTILINE)


class OutOfTime(SandboxError):
    """Raised when the deadline for all packages was over before this one was tried."""


class Fetcher:
    """Downloads packages one by one within one deadline, with the system's package lists or else with its own."""

    def __init__(self, folder: Path, seconds: float) -> None:
        """Use `folder` for downloads; the caller removes it."""
        self._folder = folder
        self._end = time.monotonic() + seconds
        self._lists: tuple[str, ...] = ()
        self._update_error: str | None = None

    def unpack(self, package: str, programs: Sequence[Sequence[str]], into: Path) -> None:
        """Create the folder `into` from the package and those of its dependencies that its programs need here.

        Each program may have several names. A program that is not in the package is taken from a dependency of that
        name, shared libraries are taken from dependencies that are libraries; other dependencies are ignored.

        Errors: SandboxError, also if a program does not run here (other architecture, older libraries); OSError.
        """
        tree = self._folder / f"{package}.tree"
        debs = self._extract([package], tree)
        installable: set[str] | None = None
        while missing := self._missing_dependencies(programs, tree):
            if installable is None:
                plan = self._apt("-s", "install", "--no-install-recommends", "--", package)
                installable = set(_NEW_PACKAGES.findall(plan)) - {package}
            depends = " ".join(self._run(["dpkg-deb", "-f", str(deb), "Pre-Depends", "Depends"]) for deb in debs)
            depended_on = installable & set(_NAME.findall(depends))
            wanted = sorted(name for name in depended_on if name in missing or "lib" in name)
            if not wanted:
                raise SandboxError(f"{package} needs {', '.join(missing)}, which none of its dependencies contains")
            debs = self._extract(wanted, tree)
            installable -= set(wanted)
        for file in _files(programs, tree):
            self._run([str(file), "--version"], library_path(tree))
        try:
            os.rename(tree, into)
        except OSError:
            if not into.is_dir():  # otherwise another process was faster, and its copy is equivalent
                raise

    def _extract(self, packages: Sequence[str], tree: Path) -> list[Path]:
        """Download the packages and unpack them into the tree; return the .deb files."""
        self._apt("download", "--", *packages)
        debs = []
        for package in packages:
            matches = sorted(self._folder.glob(f"{package}_*.deb"))
            if not matches:
                raise SandboxError("apt-get downloaded no file", on=package)
            self._run(["dpkg-deb", "-x", str(matches[0]), str(tree)])
            debs.append(matches[0])
        return debs

    def _missing_dependencies(self, programs: Sequence[Sequence[str]], tree: Path) -> list[str]:
        """Return the programs and shared libraries that are neither in the tree nor on this machine."""
        missing = {names[0] for names in programs if not _files([names], tree)}
        for file in _files(programs, tree) if shutil.which("ldd") else ():
            try:
                missing.update(_NOT_FOUND.findall(self._run(["ldd", str(file)], library_path(tree))))
            except SandboxError:  # a script, or for another architecture; the program is run below
                continue
        return sorted(missing)

    def _apt(self, *arguments: str) -> str:
        """Return the output of apt-get; if it fails, try once more with new package lists, which need no root."""
        try:
            return self._run(["apt-get", *_OPTIONS, *self._lists, *arguments])
        except SandboxError as error:
            if self._lists:
                raise
            if self._update_error is None:
                self._update_error = self._update()
            if self._update_error:
                raise SandboxError(f"{error.what}; {self._update_error}") from None
        return self._run(["apt-get", *_OPTIONS, *self._lists, *arguments])

    def _update(self) -> str:
        """Download package lists of our own; return the reason if that fails."""
        for part in ("lists/partial", "cache/archives/partial"):
            (self._folder / "apt" / part).mkdir(parents=True)
        options = ("-o", f"Dir::State::lists={self._folder}/apt/lists", "-o", f"Dir::Cache={self._folder}/apt/cache")
        try:
            self._run(["apt-get", *_OPTIONS, *options, "update"])
        except SandboxError as error:
            return error.what
        self._lists = options
        return ""

    def _run(self, argv: list[str], variables: dict[str, str] | None = None) -> str:
        name, folder = Path(argv[0]).name, str(self._folder)
        left = self._end - time.monotonic()
        if left <= 0:
            raise OutOfTime(f"no time left for {name}: earlier downloads used up the deadline")
        proxies = {key: value for key, value in os.environ.items() if key.lower().endswith("_proxy")}
        own = {"PATH": child.search_path(), "LC_ALL": "C", "HOME": folder, "TMPDIR": folder}
        try:
            completed = processes.run(
                argv,
                env=own | proxies | (variables or {}),
                cwd=folder,
                deadline_seconds=left,
                death_signal=signal.SIGTERM,
            )
        except OSError as error:
            raise SandboxError(f"{name} did not finish: {type(error).__name__}") from None
        if completed.returncode:
            last = (completed.stderr or completed.stdout).strip().splitlines()[-1:]
            raise SandboxError(f"{name} exited with {completed.returncode}: {' '.join(last)}")
        return completed.stdout


def _files(programs: Iterable[Sequence[str]], tree: Path) -> list[Path]:
    return [file for names in programs for name in names for file in tree.glob(f"usr/*bin/{name}")]


def library_path(tree: Path) -> dict[str, str]:
    """Return the environment variables that a program in the tree needs to find its unpacked libraries."""
    folders = sorted([*tree.glob("lib/*-linux-*"), *tree.glob("usr/lib/*-linux-*")])
    return {"LD_LIBRARY_PATH": ":".join(map(str, folders))} if folders else {}
