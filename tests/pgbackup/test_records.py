"""Every JSON file in a folder of backups is validated in one way, and pydantic is imported only for that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.fresh import imported
from xai_runbook.errors import BadAnswer, Refused
from xai_runbook.pgbackup import catalog, records, restore_into

RECOVERY: dict[str, Any] = {
    "base": "cluster-000001", "target": {"recovery_target_lsn": "0/1"}, "at": "2026-01-31T00:00:00+00:00",
    "reached": {"lsn": "0/1", "last_commit_at": None, "stopped": ""}, "seconds": 1.0, "expected": {},
    "tables": {"xai.public.t": {"rows": "1", "checksum": "5"}}, "differences": [],
}  # fmt: skip


def test_a_recovery_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "recovery-000001" / catalog.RECOVERY
    path.parent.mkdir()
    records.write(path, records.Recovery, RECOVERY)
    assert catalog.recoveries(tmp_path) == [("recovery-000001", {"schema": 1, **RECOVERY}, False)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": 2}, "schema: "),
        ({"at": "2026-01-31T00:00:00"}, "at: a time needs its zone"),
        ({"reached": None}, "reached: "),
        ({"tables": {"xai.public.t": {"rows": "-1", "checksum": "5"}}}, r"tables.xai.public.t.rows: "),
        ({"differences": "none"}, "differences: "),
    ],
)
def test_a_recovery_record_that_is_not_valid_names_the_key(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    path = tmp_path / "recovery-000001" / catalog.RECOVERY
    path.parent.mkdir()
    path.write_text(json.dumps({"schema": 1, **RECOVERY, **change}))
    with pytest.raises(BadAnswer, match=f"its recovery record is not valid: {reason}") as caught:
        catalog.recoveries(tmp_path)
    assert caught.value.on == str(path)


@pytest.mark.parametrize("content", [None, "", "[]", '{"schema": 1, "backup": "b", "database": "d", "oid": "x"}'])
def test_a_swap_needs_a_valid_record_of_the_last_restore(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / restore_into.RESTORED).write_text(content)
    with pytest.raises(Refused, match="not known which database was restored"):
        restore_into.last_restored_oid(tmp_path, "b", "d")
    records.write(tmp_path / restore_into.RESTORED, records.LastRestore, {"backup": "b", "database": "d", "oid": "7"})
    assert restore_into.last_restored_oid(tmp_path, "b", "d") == "7"


def test_nothing_invalid_is_written(tmp_path: Path) -> None:
    path = tmp_path / catalog.VERIFICATION
    with pytest.raises(BadAnswer, match="its verification is not valid: ok: "):
        records.write(path, records.Verification, {"manifest_sha256": "x", "ok": 1, "at": RECOVERY["at"]})
    assert not path.exists()


def test_the_wal_of_a_base_backup_is_read_from_postgresql_s_own_manifest(tmp_path: Path) -> None:
    path = tmp_path / "backup_manifest"
    wal = {"Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000100"}
    path.write_text(json.dumps({"PostgreSQL-Backup-Manifest-Version": 1, "Files": [], "WAL-Ranges": [wal]}))
    assert records.read(path, records.ServerManifest) == {"WAL-Ranges": [wal]}
    path.write_text(json.dumps({"WAL-Ranges": []}))
    with pytest.raises(BadAnswer, match="its backup_manifest is not valid: WAL-Ranges: "):
        records.read(path, records.ServerManifest)


def test_pydantic_is_imported_only_where_a_record_is_read_or_written() -> None:
    names = ("catalog", "dump", "base_backup", "recovery_drill", "restore_into", "verify", "__main__")
    modules = ", ".join(f"xai_runbook.pgbackup.{name}" for name in names)
    assert "pydantic" not in imported(f"import {modules}, xai_runbook.clients.backups")
