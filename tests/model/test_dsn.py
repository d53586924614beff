"""Connection strings: whatever a password is made of, and however it was written, nothing of it is shown."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from xai_runbook.model.dsn import redact_dsn

PASSWORDS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=("Cc",)), min_size=4)
HOST = "xai-db.internal:5432/xai_blockchain"


@given(PASSWORDS)
def test_as_a_uri_encoded_or_not(password: str) -> None:
    for written in (password, quote(password, safe="")):
        redacted = redact_dsn(f"postgresql://xaiadmin:{written}@{HOST}")
        assert redacted == f"postgresql://xaiadmin:********@{HOST}"


@given(st.text(min_size=4).filter(lambda text: "\0" not in text))
def test_as_libpq_keywords(password: str) -> None:
    dsn = make_conninfo("", host="xai-db.internal", password=password, dbname="xai_blockchain")
    around = "host=xai-db.internal password=******** dbname=xai_blockchain"
    assert redact_dsn(dsn) == around


@given(PASSWORDS.map(lambda text: quote(text, safe="")))
def test_as_a_parameter_of_a_uri(password: str) -> None:
    redacted = redact_dsn(f"jdbc:postgresql://{HOST}?user=xaiadmin&password={password}&sslmode=require")
    assert redacted == f"jdbc:postgresql://{HOST}?user=xaiadmin&password=********&sslmode=require"


@given(st.text(max_size=200))
def test_what_was_masked_stays_so(text: str) -> None:
    assert redact_dsn(redact_dsn(text)) == redact_dsn(text)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("postgresql://xaiadmin:password@xai-db.internal:5432/xai_blockchain",
         "postgresql://xaiadmin:********@xai-db.internal:5432/xai_blockchain"),
        ("postgresql://xaiadmin@h/db", "postgresql://xaiadmin@h/db"),
        ("postgresql://h:5432/db", "postgresql://h:5432/db"),
        ("postgres://:pw@h", "postgres://:********@h"),
        ("postgresql://u:p@h1:1,h2:2/db", "postgresql://u:********@h1:1,h2:2/db"),
        ("host=h PASSWORD = 'it''s' user=u", "host=h PASSWORD = ******** user=u"),
        ("sslkey=k sslpassword=hunter2", "sslkey=k sslpassword=********"),
        ("password='never closed", "password=********"),
        ("", ""),
    ],
)  # fmt: skip
def test_what_tells_where_it_leads_stays(written: str, told: str) -> None:
    assert redact_dsn(written) == told
