"""The content of a folder of backups: states, leftovers of killed runs, and which backups are never removed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from xai_runbook.errors import BadAnswer, Refused
from xai_runbook.pgbackup import catalog
from xai_runbook.pgbackup.__main__ import main
from xai_runbook.pgbackup.prune import prune

TIME = "2026-01-31T00:00:00+00:00"


def write_backup(folder: Path, number: int, **more: Any) -> Path:
    """Write a small verified backup, as a run would."""
    path = folder / f"xai-{number:06d}"
    path.mkdir(parents=True)
    (path / "database.dump").write_bytes(b"rows" * number)
    manifest: dict[str, Any] = {
        "schema": 1, "kind": "dump", "database": "xai", "taken_at": f"2026-01-{number:02d}T00:00:00+00:00",
        "server_version": "15.18", "system_identifier": "71", "encoding": "UTF8", "extensions": [],
        "contents": {"tables": {}, "objects": {}}, "files": catalog.sizes_and_sums(path),
    }  # fmt: skip
    (path / catalog.MANIFEST).write_text(json.dumps(manifest | more))
    catalog.record(path, {"ok": True, "at": TIME, "stamps": catalog.stamps(path, manifest)})
    return path


def test_backups_are_listed_oldest_first(tmp_path: Path) -> None:
    for number in (3, 1, 2):
        write_backup(tmp_path, number)
    assert [(backup.name, backup.state) for backup in catalog.read(tmp_path)] == [
        ("xai-000001", "verified"), ("xai-000002", "verified"), ("xai-000003", "verified"),
    ]  # fmt: skip
    assert catalog.read(tmp_path / "not there") == []


def test_a_backup_modified_after_verification_is_unverified(tmp_path: Path) -> None:
    path = write_backup(tmp_path, 1)
    times = (path / "database.dump").stat()
    (path / "database.dump").write_bytes(b"swor")
    assert catalog.read_one(path).state == "unverified"
    assert catalog.read_one(path).why == "database.dump was written after it was verified"
    os.utime(path / "database.dump", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert catalog.read_one(path).state == "verified", "only reading every byte (backups.verify) finds this"
    (path / "database.dump").write_bytes(b"sword")
    assert catalog.read_one(path).why == "database.dump has 5 bytes instead of 4"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema": 2}', '{"schema": 1}', '{"schema": 1, "files": {"a": 1}}']
)
def test_a_malformed_manifest_is_damaged(tmp_path: Path, content: str) -> None:
    path = write_backup(tmp_path, 1)
    (path / catalog.MANIFEST).write_text(content)
    assert catalog.read_one(path).state == "damaged"
    with pytest.raises(BadAnswer, match="its manifest is not valid"):
        catalog.named(tmp_path, path.name)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("extensions", 7, "extensions: "),
        ("extension_rights", {"hstore": None}, "extension_rights.hstore: "),
        ("server_version", None, "server_version: "),
        ("taken_at", "2026-01-01T00:00:00", "a time needs its zone"),
        ("taken_at", "yesterday", "taken_at: "),
        ("contents", None, "a dump needs contents"),
        ("contents", {"tables": {"public.t": {"rows": "many", "checksum": "1"}}, "objects": {}}, "rows"),
        ("kind", "cluster", "a cluster needs superuser, timeline, start_lsn, stop_lsn, segment_bytes"),
        ("files", {"../database.dump": {"size_bytes": 1, "sha256": "x"}}, "lies within its folder"),
        ("files", {"database.dump": {"size_bytes": -1, "sha256": "x"}}, "size_bytes"),
    ],
)
def test_f20_an_invalid_manifest_is_never_verified(tmp_path: Path, key: str, value: object, why: str) -> None:
    found = catalog.read_one(write_backup(tmp_path, 1, **{key: value}))
    assert found.state == "damaged" and why in found.why


def test_f20_null_extensions_are_an_empty_list(tmp_path: Path) -> None:
    found = catalog.read_one(write_backup(tmp_path, 1, extensions=None))
    assert found.state == "verified" and found.manifest["extensions"] == []


def test_f20_sql_aggregates_never_return_null(checkout: Path) -> None:
    """An aggregate over no rows is NULL: write ARRAY(SELECT ...) or coalesce(...)."""
    aggregate = re.compile(r"(\w+\(|)((?:array|json|jsonb|string|xml)_agg\()")
    found = [
        f"{path.relative_to(checkout)}: {match[2]}"
        for path in sorted((checkout / "xai_runbook").rglob("*.sql"))
        for match in aggregate.finditer(path.read_text(encoding="utf-8"))
        if match[1] != "coalesce("
    ]
    # concat_ws leaves a NULL out, and a foreign key has at least one column
    assert found == [
        "xai_runbook/sql/database/identity.sql: string_agg(",
        "xai_runbook/sql/database/suggested_indexes.sql: string_agg(",
    ]


def test_failed_and_invalid_verifications(tmp_path: Path) -> None:
    path = write_backup(tmp_path, 1)
    catalog.record(path, {"ok": False, "at": TIME, "why": "table a has other content"})
    assert (catalog.read_one(path).state, catalog.read_one(path).why) == ("damaged", "table a has other content")
    (path / catalog.VERIFICATION).write_text("nonsense")
    assert (catalog.read_one(path).state, catalog.read_one(path).why) == ("unverified", "it was never restored")
    catalog.record(path, {"ok": True, "at": TIME})
    assert catalog.read_one(path).state == "unverified", "without stamps it is not known what was modified since"


def test_the_newest_verified_backup_is_never_removed(tmp_path: Path) -> None:
    one, two = write_backup(tmp_path, 1), write_backup(tmp_path, 2)
    sums = {path.name: catalog.sha256(path / catalog.MANIFEST) for path in (one, two)}
    for wanted in (sums, {two.name: sums[two.name]}):
        with pytest.raises(Refused, match="xai-000002 is the newest verified dump of xai"):
            prune(tmp_path, wanted, lambda _: None, server="71")
    assert one.exists() and two.exists(), "nothing is removed then"
    (two / "database.dump").touch()  # it is unverified now
    with pytest.raises(Refused, match="xai-000001 is the newest verified dump of xai"):
        prune(tmp_path, {one.name: sums[one.name]}, lambda _: None, server="71")
    assert prune(tmp_path, {two.name: sums[two.name]}, lambda _: None, server="71") == "removed xai-000002"
    assert [path.name for path in tmp_path.iterdir()] == ["xai-000001"]


def test_f18_backups_of_another_or_an_unknown_server_are_never_removed(tmp_path: Path) -> None:
    servers: tuple[dict[str, Any], ...] = (
        {}, {"system_identifier": "72"}, {"system_identifier": ""}, {"system_identifier": "not readable"},
        {"system_identifier": "not readable", "server": "db:5432"}, {},
    )  # fmt: skip
    names = [write_backup(tmp_path, number, **more).name for number, more in enumerate(servers, 1)]
    sums = {name: catalog.sha256(tmp_path / name / catalog.MANIFEST) for name in names}
    for number, server in ((1, "71"), (2, "72"), (3, "unknown"), (4, "unknown"), (5, "db:5432"), (6, "71")):
        for other in {"71", "72", "unknown", "db:5432"} - {server}:
            with pytest.raises(Refused, match=f"is of server {server}, and not of {other}"):
                prune(tmp_path, {names[number - 1]: sums[names[number - 1]]}, lambda _: None, server=other)
        if server == "unknown":
            with pytest.raises(Refused, match="is of server unknown"):
                prune(tmp_path, {names[number - 1]: sums[names[number - 1]]}, lambda _: None, server=server)
    # the newest backup of another server does not replace ours as the newest
    with pytest.raises(Refused, match="xai-000002 is the newest verified dump"):
        prune(tmp_path, {names[1]: sums[names[1]]}, lambda _: None, server="72")
    assert prune(tmp_path, {names[0]: sums[names[0]]}, lambda _: None, server="71") == "removed xai-000001"


def test_leftovers_are_named_and_removed_by_the_next_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_backup(tmp_path, 1)
    left = ["xai-000002.part", f"{catalog.SCRATCH}abc", f"{catalog.PRUNED}xai-000000"]
    for name in left:
        (tmp_path / name).mkdir()
    assert list(catalog.leftovers(tmp_path)) == sorted(left)
    assert [backup.name for backup in catalog.read(tmp_path)] == ["xai-000001"]
    assert main(["prune", "--server", "71", "--folder", str(tmp_path), "xai-000001=wrong"]) == 4, "it had an effect"
    output = capsys.readouterr().out
    assert f"removed: {', '.join(sorted(left))}" in output
    assert all(f"removing {name}, left by an interrupted run" in output for name in left)
    assert "is not the backup of the plan" in output
    assert not catalog.leftovers(tmp_path)


def test_one_run_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with catalog.locked_folder(tmp_path):
        assert main(["prune", "--server", "71", "--folder", str(tmp_path), "x=y"]) == 1
    assert "another run is using this folder of backups" in capsys.readouterr().out
    file = tmp_path / "file"
    file.write_text("")
    assert main(["prune", "--server", "71", "--folder", str(file), "x=y"]) == 1
    assert "cannot be used" in capsys.readouterr().out


def test_numbers_of_backups_are_not_reused(tmp_path: Path) -> None:
    assert catalog.next_name(tmp_path / "none", "xai") == "xai-000001"
    for name in ("xai-000007", f"{catalog.PRUNED}xai-000009", "other-000042", "xai-000008.part"):
        (tmp_path / name).mkdir()
    assert catalog.next_name(tmp_path, "xai") == "xai-000010"
    assert catalog.slug("../na me") == "___na_me"
    for name in ("../x", ".lock", "xai-000008.part", "xai-000099"):
        with pytest.raises(BadAnswer, match="there is no backup"):
            catalog.named(tmp_path, name)
