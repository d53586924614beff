"""A notebook that nobody looks at, and a check, resolve no credential that can change something."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.samples import notebook, question
from xai_runbook.model.secret import write_access
from xai_runbook.reports.check import run_questions
from xai_runbook.reports.runner.result import NotebookResult
from xai_runbook.reports.runner.run import execute
from xai_runbook.settings.loading import load

SECRETS = ("battery staple", "Bearer correct-horse", "scratch as can be")
PLANTED = {
    "operator_password": "env.settings.database.operator.password.reveal()",
    "operator_of_the_handle": "env.database.settings.operator.password.reveal()",
    "grafana_token": "env.settings.grafana.operator.auth_value.reveal()",
    "scratch_password": "env.settings.backups.scratch.password.reveal()",
    "operator_session": "env.operator()",
}
ACTS = "from xai_runbook.model.secret import write_access\nwith write_access():\n    pass\n"
"""What `apply` and `reconcile` do before they act."""


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment whose operators' secrets lie in files that this user may read."""
    for name, secret in zip(("operator", "token", "scratch"), SECRETS, strict=True):
        (tmp_path / name).write_text(secret)
    (tmp_path / "there.toml").write_text(
        """
        [database]
        operator = {user = "o", password = "file:operator"}
        [grafana]
        operator = {auth_value = "file:token"}
        [backups]
        folder = "/nowhere"
        scratch = {host = "scratch", user = "s", password = "file:scratch"}
        """
    )
    monkeypatch.setenv("XAI_RUNBOOK_CONFIG", str(tmp_path))


def planted(folder: Path) -> Path:
    cells = [question(name, f'ok("{name}", {source})') for name, source in PLANTED.items()]
    return notebook(folder / "planted.ipynb", *cells, question("acts", ACTS + 'ok("acts")'))


def refused(result: NotebookResult) -> None:
    """Each planted cell is unknown, because its call was refused."""
    assert [answer.name for answer in result.answers] == [*PLANTED, "acts"]
    for answer in result.answers:
        assert answer.finding and answer.finding.status == "unknown"
        words = (
            "reports and checks may not use a credential"
            if answer.name == "acts"
            else "resolved only while a plan is applied"
        )
        assert words in answer.finding.summary


def test_a_report_resolves_no_write_credential(tmp_path: Path) -> None:
    [result] = execute([planted(tmp_path)], parameters={"environment": "there"}, out=tmp_path / "out")
    assert result.status == "failed"
    refused(result)
    kept = result.path.read_text()
    assert not any(secret in kept for secret in SECRETS)


def test_a_check_resolves_no_write_credential_and_cannot_apply(tmp_path: Path) -> None:
    refused(run_questions("there", notebook=planted(tmp_path)))


def test_write_credentials_are_resolved_while_a_plan_is_applied() -> None:
    settings = load("there")
    assert settings.database and settings.database.operator and settings.grafana and settings.grafana.operator
    assert settings.backups and not isinstance(settings.backups.scratch, str)
    operator, scratch = settings.database.operator.password, settings.backups.scratch.password
    assert operator and scratch
    with write_access():
        assert (operator.reveal(), settings.grafana.operator.auth_value.reveal(), scratch.reveal()) == SECRETS
