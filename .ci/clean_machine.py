"""Run `make TARGET` from a clone of HEAD as an ordinary user of a minimal Debian: .ci/clean_machine.py RELEASE TARGET.

The Debian has only the packages that the README says to install. debootstrap builds it once, from the mirror that apt
uses here, and it is kept in the cache folder. Each run uses a copy of it, in its own mount and PID namespaces, which
end with this process. From this machine it gets the network with proxies and CA bundle, pip's configuration and apt's
transport options, and nothing else. It needs root. If something that it needs is missing, it says so and exits with 0.
"""

from __future__ import annotations

import configparser
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

USER = "stranger"
HOME = f"/home/{USER}"
CHECKOUT = "xai_runbook"
PASSED = re.compile(
    r"(https?|all|no)_proxy|PIP_\w+|UV_\w+|(SSL_CERT|REQUESTS_CA|CURL_CA)_(FILE|DIR|BUNDLE)", flags=re.IGNORECASE
)
"""The variables of this machine that are passed to the clean one."""
APT_OPTIONS = re.compile(r"Acquire::(https?|Retries|ForceIPv[46]|Check-)")
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
BOUND = ["setpriv", "--pdeathsig", "KILL", *NAMESPACES]
"""Runs a command in its own namespaces; when this process is killed, so is everything in them."""
ENTER = f"""
set -eu
cd "$1"; shift
mount --bind . .; cd "$PWD"
mount -t proc proc proc
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t tmpfs -o mode=755,nosuid tmpfs dev
mkdir -m 1777 dev/shm; mkdir dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
while [ "$1" != -- ]; do mkdir -p "./$1"; mount --bind "$1" "./$1"; mount -o remount,bind,ro "./$1"; shift; done
shift
mkdir -p .host; pivot_root . .host
exec chroot . /bin/sh -c '
  umount -l /.host
  cd {HOME}
  setpriv --reuid {USER} --regid {USER} --init-groups --inh-caps=-all --bounding-set=-all "$@"
  exit $?' sh "$@"
"""
# The last shell stays as process 1 and reaps orphaned processes.


class Skipped(Exception):
    """The clean machine cannot be built here."""


def main(release: str, target: str) -> int:
    """Print the target's output and a summary line; return the target's exit code."""
    root = Path(__file__).resolve().parents[1]
    try:
        mirror = _mirror()
        _require_namespaces()
        _require_debootstrap()
    except Skipped as reason:
        print(f"skipped: make clean-machine RELEASE={release}: {reason}", flush=True)
        return 0
    cache = _xdg("XDG_CACHE_HOME", ".cache") / "xai-runbook" / "clean-machine"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # while it is held, a partial build is a leftover and not in use
        for leftover in [*cache.glob("*.partial"), *cache.glob("*.run")]:
            shutil.rmtree(leftover)
        debian = _debian(cache, release, _packages(root / "README.md"), mirror)
        machine = cache / f"{release}.run"
        try:
            _run(["cp", "-a", "--reflink=auto", str(debian), str(machine)])
            return _make(root, machine, release, target)
        finally:
            shutil.rmtree(machine, ignore_errors=True)  # its mounts ended with the namespace


def _mirror() -> str:
    """Return the URL of the Debian mirror that apt uses here."""
    if not shutil.which("apt-get"):
        raise Skipped("apt is not installed")
    for _ in range(2):
        fields = "$(ORIGIN) $(COMPONENT) $(SITE)"
        targets = _output(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"])
        for origin, component, site in (line.split(" ", 2) for line in targets.splitlines()):
            if origin == "Debian" and component == "main" and "security" not in site:
                return site
        _output(["apt-get", "update"], check=False)
    raise Skipped("apt has no package lists of a Debian mirror")


def _require_namespaces() -> None:
    if os.geteuid():
        raise Skipped("it needs root")
    if not shutil.which("unshare") or not shutil.which("setpriv"):
        raise Skipped("it needs unshare and setpriv, of util-linux")
    trial = subprocess.run([*BOUND, "true"], capture_output=True, text=True, check=False)
    if trial.returncode:
        raise Skipped(f"mount and PID namespaces cannot be created: {trial.stderr.strip() or 'unshare failed'}")


def _require_debootstrap() -> None:
    if not shutil.which("debootstrap"):
        print("installing debootstrap", flush=True)
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        _output(["apt-get", "update"], check=False)
        install = ["apt-get", "install", "-y", "--no-install-recommends", "debootstrap", "debian-archive-keyring"]
        _output(install, check=False)
    if not shutil.which("debootstrap"):
        raise Skipped("debootstrap is not installed, and apt-get failed to install it")


def _packages(readme: Path) -> list[str]:
    """Return the packages of the README's first `apt-get install`, and git, which every clone needs."""
    found = re.search(r"apt-get install ([a-z0-9][a-z0-9 .+-]+)", readme.read_text(encoding="utf-8"))
    if found is None:
        raise SystemExit("the README names no packages to install")
    return sorted({"git", *found[1].split()})


def _debian(cache: Path, release: str, packages: list[str], mirror: str) -> Path:
    """Return the folder of the Debian of this release with these packages; build it if it is missing."""
    key = hashlib.sha256(" ".join([*packages, mirror]).encode()).hexdigest()[:12]
    finished = cache / f"{release}-{key}"
    if finished.is_dir():
        return finished
    started, partial = time.monotonic(), cache / f"{release}.partial"
    print(f"building Debian {release} with {', '.join(packages)}", flush=True)
    proxies = {f"{scheme}_proxy": proxy for scheme in ("http", "https") if (proxy := _apt(f"Acquire::{scheme}::Proxy"))}
    _run(
        [*BOUND, "debootstrap", "--variant=minbase", f"--include={','.join(packages)}", release, str(partial), mirror],
        os.environ | proxies,
    )
    _run(["chroot", str(partial), "useradd", "--create-home", "--shell", "/bin/sh", USER])
    partial.rename(finished)
    print(f"built in {time.monotonic() - started:.0f} s", flush=True)
    return finished


def _make(root: Path, machine: Path, release: str, target: str) -> int:
    """Clone HEAD in the machine, make the target there, and print a summary."""
    variables = {name: value for name, value in os.environ.items() if PASSED.fullmatch(name)}
    folders = _pass_in(machine, variables)
    _run(["git", "-C", str(root), "bundle", "create", "--quiet", str(machine / "source.bundle"), "HEAD"])
    python = os.environ.get("PYTHON") or "python3"
    path = "/usr/local/bin:/usr/bin:/bin"
    environment = {"HOME": HOME, "USER": USER, "LOGNAME": USER, "PATH": path, "LANG": "C.UTF-8", **variables}
    commit = _output(["git", "-C", str(root), "describe", "--always", "--dirty=, without uncommitted changes"]).strip()
    print(f"make {target} of {commit} on Debian {release}", flush=True)
    arguments = [f"ARGS={os.environ['ARGS']}"] if os.environ.get("ARGS") else []
    make = shlex.join(["make", target, f"PYTHON={python}", *arguments])
    git = "git -c advice.detachedHead=false -c init.defaultBranch=main"
    commands = f"{git} clone --quiet /source.bundle {CHECKOUT} && cd {CHECKOUT} && {make}"
    argv = ["env", "-i", *(f"{name}={value}" for name, value in environment.items()), "sh", "-c", commands]
    started = time.monotonic()
    process = subprocess.Popen([*BOUND, "/bin/sh", "-c", ENTER, "sh", str(machine), *folders, "--", *argv])
    try:
        code = process.wait()
    finally:
        process.kill()  # and with it everything in its namespaces
        process.wait()
    seconds = time.monotonic() - started
    versions = sorted(file.name.removeprefix("python") for file in machine.glob("usr/bin/python3.*[0-9]"))
    report = machine / HOME.lstrip("/") / CHECKOUT / "outputs/reports/latest/report.json"
    verdict = f", verdict {json.loads(report.read_bytes())['verdict']}" if report.is_file() else ""
    size = _output(["du", "-sm", str(machine / HOME.lstrip("/") / CHECKOUT / ".venv")], check=False).split("\t")[0]
    print(
        f"clean-machine: Debian {release}, Python {', '.join(versions)}: make {target}: exit code {code}{verdict},"
        f" {seconds:.0f} s, .venv {size or '?'} MB",
        flush=True,
    )
    return code


def _pass_in(machine: Path, variables: dict[str, str]) -> list[str]:
    """Copy this machine's configuration into the clean one; return the folders that pip's configuration names."""
    config = _xdg("XDG_CONFIG_HOME", ".config")
    user = HOME.lstrip("/")
    configurations = {
        Path("/etc/pip.conf"): "etc/pip.conf",
        Path("/etc/xdg/pip/pip.conf"): "etc/xdg/pip/pip.conf",
        Path.home() / ".pip/pip.conf": f"{user}/.pip/pip.conf",
        config / "pip/pip.conf": f"{user}/.config/pip/pip.conf",
    }
    paths = [Path("/etc/resolv.conf"), Path("/etc/hosts"), CA_BUNDLE]
    values = [value for variable in variables.values() for value in variable.split()]
    for source, target in configurations.items():
        if source.is_file():
            _copy(source, machine / target)
            values += _configured_values(source)
    options = [line for line in _output(["apt-config", "dump"]).splitlines() if APT_OPTIONS.match(line)]
    (machine / "etc/apt/apt.conf.d/99host").write_text("\n".join(options) + "\n", encoding="utf-8")
    values += [line.partition('"')[2].rstrip('";') for line in options]
    paths += [Path(value.removeprefix("file://")) for value in values if re.match(r"(file://)?/.", value)]
    # the pages of an index in a folder link to files in its parent folder
    paths = [path.parent if path.name == "simple" else path for path in paths]
    for path in paths:
        if path.is_file():
            _copy(path, machine / str(path).lstrip("/"))
    folders = {str(path) for path in paths if path.is_dir() and not (machine / str(path).lstrip("/")).exists()}
    _run(["chroot", str(machine), "chown", "-R", f"{USER}:{USER}", HOME])
    return sorted(folders)


def _xdg(variable: str, default: str) -> Path:
    folder = os.environ.get(variable, "")
    return Path(folder) if folder.startswith("/") else Path.home() / default  # XDG says: ignore relative paths


def _configured_values(configuration: Path) -> Iterator[str]:
    parser = configparser.RawConfigParser(strict=False)
    parser.read(configuration, encoding="utf-8")
    for section in parser.sections():
        for value in dict(parser.items(section)).values():
            yield from (value or "").split()


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o644)


def _apt(option: str) -> str:
    return _output(["apt-config", "shell", "value", option]).partition("=")[2].strip().strip("'")


def _output(argv: list[str], *, check: bool = True) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=check).stdout


def _run(argv: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{(done.stdout + done.stderr)[-3000:]}\n{' '.join(argv)} ended with {done.returncode}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
