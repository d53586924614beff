"""An interpreter that imports modules from given folders. Unlike with PYTHONPATH, its children's children do too."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def private_python(folder: Path, modules: Sequence[Path], base: str = "") -> str:
    """Create a virtual environment in `folder` that imports from `modules` first; return its interpreter.

    This interpreter's own packages follow. `base` is the interpreter to run, by default this one.
    """
    real = Path(base or getattr(sys, "_base_executable", sys.executable))
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "pyvenv.cfg").write_text(f"home = {real.parent}\n", encoding="utf-8")
    python = folder / "bin" / "python"
    python.symlink_to(real)
    ours = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    lines = [*map(str, modules), *(f"import site; site.addsitedir({path!r})" for path in ours)]
    (packages / "first.pth").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(python)
