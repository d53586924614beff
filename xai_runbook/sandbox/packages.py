"""Debian packages, fetched with apt and unpacked into a folder: no root, nothing is installed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from xai_runbook.errors import SandboxError
from xai_runbook.sandbox.part import bound

_OPTIONS = ("-q", "-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=15")
_INSTALLED_ANEW = re.compile(r"^Inst ([a-z0-9][a-z0-9+.-]*) \(", flags=re.MULTILINE)  # an upgrade has [its version]
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_LACKING = re.compile(r"^\s*(\S+) => not found", flags=re.MULTILINE)


class Fetcher:
    """Fetches packages one by one within one deadline: by the system's package lists, else by lists of its own."""

    def __init__(self, folder: Path, seconds: float) -> None:
        """`folder` takes what is downloaded on the way; whoever made it removes it."""
        self._folder = folder
        self._end = time.monotonic() + seconds
        self._lists: tuple[str, ...] = ()
        self._update_error: str | None = None

    def unpack(self, package: str, programs: Sequence[str], into: Path) -> None:
        """Make the folder `into` out of the package, and of the libraries that its programs need and lack here.

        Errors: SandboxError, also where a program then does not run (another processor, older libraries); OSError.
        """
        tree = self._folder / f"{package}.tree"
        debs = self._extract([package], tree)
        files = [file for name in programs for file in tree.glob(f"usr/*bin/{name}")]
        if lacking := self._lacking(files, tree):
            plan = self._apt("-s", "install", "--no-install-recommends", "--", package)
            # accounts, init scripts and the like are of no use to what is not installed
            offered = {name for name in _INSTALLED_ANEW.findall(plan) if "lib" in name and name != package}
            while lacking:
                depends = " ".join(self._run(["dpkg-deb", "-f", str(deb), "Pre-Depends", "Depends"]) for deb in debs)
                wanted = sorted(offered & set(_NAME.findall(depends)))
                if not wanted:
                    raise SandboxError(
                        f"{package} needs {', '.join(lacking)}, which no package of its dependencies has"
                    )
                debs = self._extract(wanted, tree)
                offered -= set(wanted)
                lacking = self._lacking(files, tree)
        for file in files:
            self._run([str(file), "--version"], library_path(tree))
        try:
            os.rename(tree, into)
        except OSError:
            if not into.is_dir():  # otherwise another process was faster, and its copy is as good
                raise

    def _extract(self, packages: Sequence[str], tree: Path) -> list[Path]:
        """Download the packages and unpack them into the tree; their files."""
        self._apt("download", "--", *packages)
        debs = []
        for package in packages:
            found = sorted(self._folder.glob(f"{package}_*.deb"))
            if not found:
                raise SandboxError("apt-get downloaded no file", on=package)
            self._run(["dpkg-deb", "-x", str(found[0]), str(tree)])
            debs.append(found[0])
        return debs

    def _lacking(self, files: Iterable[Path], tree: Path) -> list[str]:
        """The shared libraries that these programs need and that are neither here nor in the tree."""
        if not shutil.which("ldd"):
            return []
        lacking: set[str] = set()
        for file in files:
            try:
                lacking.update(_LACKING.findall(self._run(["ldd", str(file)], library_path(tree))))
            except SandboxError:  # a script, or for another processor: running it will tell
                continue
        return sorted(lacking)

    def _apt(self, *words: str) -> str:
        """What apt-get prints; where it fails, it is asked again with new package lists, which needs no root either."""
        try:
            return self._run(["apt-get", *_OPTIONS, *self._lists, *words])
        except SandboxError as error:
            if self._lists:
                raise
            if self._update_error is None:
                self._update_error = self._update()
            if self._update_error:
                raise SandboxError(f"{error.what}; {self._update_error}") from None
        return self._run(["apt-get", *_OPTIONS, *self._lists, *words])

    def _update(self) -> str:
        """Fetch package lists of our own; the reason where that fails."""
        for part in ("lists/partial", "cache/archives/partial"):
            (self._folder / "apt" / part).mkdir(parents=True)
        own = ("-o", f"Dir::State::lists={self._folder}/apt/lists", "-o", f"Dir::Cache={self._folder}/apt/cache")
        try:
            self._run(["apt-get", *_OPTIONS, *own, "update"])
        except SandboxError as error:
            return error.what
        self._lists = own
        return ""

    def _run(self, argv: list[str], more: dict[str, str] | None = None) -> str:
        name, folder = Path(argv[0]).name, str(self._folder)
        left = self._end - time.monotonic()
        if left <= 0:
            raise SandboxError(f"no time was left for {name}: what was fetched before took all of it")
        passed = {key: value for key, value in os.environ.items() if key.lower().endswith("_proxy")}
        own = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": folder, "TMPDIR": folder}
        try:
            done = subprocess.run(
                bound(argv, signal.SIGTERM),
                cwd=folder,
                env=own | passed | (more or {}),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=left,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SandboxError(f"{name} did not finish: {type(error).__name__}") from None
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise SandboxError(f"{name} ended with {done.returncode}: {' '.join(last)}")
        return done.stdout


def library_path(tree: Path) -> dict[str, str]:
    """What the environment of a program in the tree needs, to find the libraries that were unpacked with it."""
    folders = sorted([*tree.glob("lib/*-linux-*"), *tree.glob("usr/lib/*-linux-*")])
    return {"LD_LIBRARY_PATH": ":".join(map(str, folders))} if folders else {}
