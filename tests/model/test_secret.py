"""A secret is a reference: no representation shows its value."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest

from xai_runbook.errors import Refused, SettingsError
from xai_runbook.model.secret import MASK, Secret, WriteSecret, read_only, write_access

VALUE = "hunter2-Tr0ub4dor"


def test_revealed_from_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", VALUE)
    assert Secret("env:MY_SECRET").reveal() == VALUE


def test_revealed_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text(f"{VALUE}\r\n")
    assert Secret(f"file:{tmp_path}/secret").reveal() == VALUE
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Secret("file:~/secret").reveal() == VALUE


def test_a_secret_is_read_at_each_use(tmp_path: Path) -> None:
    secret = Secret(f"file:{tmp_path}/secret")
    for value in ("one", "two"):
        (tmp_path / "secret").write_text(value)
        assert secret.reveal() == value


def test_no_representation_shows_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", VALUE)
    secret = Secret("env:MY_SECRET")
    secret.reveal()
    shown = [str(secret), repr(secret), f"{secret}", f"{secret:>20}", f"{secret!r}", "%s" % secret, repr([secret])]  # noqa: UP031
    shown += [pickle.dumps(secret).decode("latin-1"), json.dumps({"secret": str(secret)}), repr(vars(type(secret)))]
    assert not [text for text in shown if VALUE in text]
    assert str(secret) == MASK
    for again in (pickle.loads(pickle.dumps(secret)), copy.deepcopy(secret)):
        assert again == secret
        assert hash(again) == hash(secret)
        assert again.reveal() == VALUE
    assert secret != Secret("env:OTHER")
    assert secret != "env:MY_SECRET"


@pytest.mark.parametrize(
    "value",
    [VALUE, "", "env:", "env:1X", "env:A B", "file:", "file:relative", "vault:x", "env:A\n", None, 5, ["env:A"]],
)
def test_a_value_is_not_a_reference(value: object) -> None:
    with pytest.raises(SettingsError) as caught:
        Secret(value)  # type: ignore[arg-type]
    assert VALUE not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe\x00"])
def test_an_unreadable_secret(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        Secret(f"file:{path}").reveal()
    assert caught.value.on == f"file:{path}"


def test_a_variable_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_SECRET", raising=False)
    with pytest.raises(SettingsError, match="env:MY_SECRET"):
        Secret("env:MY_SECRET").reveal()


def test_a_write_secret_needs_write_access(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", VALUE)
    secret = pickle.loads(pickle.dumps(WriteSecret("env:MY_SECRET")))
    assert secret == Secret("env:MY_SECRET") and VALUE not in f"{secret!r}"
    for _ in range(2):
        with pytest.raises(Refused, match=r"only while a plan is applied \(env:MY_SECRET\)"):
            secret.reveal()
        with write_access(), write_access():
            assert secret.reveal() == VALUE
    with read_only(), pytest.raises(Refused, match="reports and checks may not use a credential"), write_access():
        pass
    with write_access():
        assert secret.reveal() == VALUE
