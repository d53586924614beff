"""The names of `import xai_runbook`, which imports nothing heavy."""

from __future__ import annotations

import pytest

import xai_runbook
from tests.support.fresh import HEAVY, imported


def test_names() -> None:
    assert xai_runbook.__all__ == sorted(xai_runbook.__all__)
    assert dir(xai_runbook) == xai_runbook.__all__
    for name in xai_runbook.__all__:
        assert getattr(xai_runbook, name).__name__ == name
        assert getattr(xai_runbook, name).__doc__


def test_no_other_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        xai_runbook.nothing  # noqa: B018


@pytest.mark.parametrize(
    "code",
    ["import xai_runbook", "import xai_runbook.cli.main; xai_runbook.cli.main.parser()",
     "import xai_runbook.model.findings", "import xai_runbook.environment",
     "import xai_runbook.operations.database.sessions", "import xai_runbook.charts"],
)  # fmt: skip
def test_nothing_heavy_at_import(code: str) -> None:
    assert imported(code) & set(HEAVY) == set()
