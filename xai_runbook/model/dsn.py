"""Connection strings as people write them, without the secrets in them: URIs, `key=value` lines, JDBC addresses."""

from __future__ import annotations

import re

from xai_runbook.model.secret import MASK

_KEY = (
    r"(?P<head>(?<![A-Za-z0-9_])"
    r"(?:(?:ssl)?pass(?:word|wd|phrase)?|pwd|secret|token|scram_(?:client|server)_key|oauth_client_secret)\s*=\s*)"
)
# user:password@ of a URI. A password that nobody encoded may hold @, / and : itself, so the last @ ends it: rather too
# much is masked than a piece of it shown.
_AUTHORITY = re.compile(r"(?P<head>^\s*[A-Za-z][A-Za-z0-9+.:-]*://[^/?#\s:@]*:).*(?=@)", re.DOTALL)
_PARAMETER = re.compile(_KEY + r"[^&\s#]+", re.IGNORECASE)
_KEYWORD = re.compile(_KEY + r"(?:'(?:''|\\.|[^'\\])*(?:'|\\?$)|(?:\\.|[^\s'\\])(?:\\.|[^\s\\])*)", re.I | re.DOTALL)


def redact_dsn(dsn: str) -> str:
    """The connection string with every password in it masked; what tells where it leads stays.

    >>> redact_dsn("postgresql://xaiadmin:password@xai-db.internal:5432/xai_blockchain")
    'postgresql://xaiadmin:********@xai-db.internal:5432/xai_blockchain'
    >>> redact_dsn("host=xai-db.internal user=xaiadmin password='a b'")
    'host=xai-db.internal user=xaiadmin password=********'
    """
    if re.match(r"\s*[A-Za-z][A-Za-z0-9+.:-]*://", dsn):
        return _PARAMETER.sub(_masked, _AUTHORITY.sub(_masked, dsn))
    return _KEYWORD.sub(_masked, dsn)


def _masked(match: re.Match[str]) -> str:
    return match["head"] + MASK
