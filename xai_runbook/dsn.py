"""Connection strings as people write them, without the secrets in them: URIs, `key=value` lines, JDBC addresses."""

from __future__ import annotations

import re

from xai_runbook.secret import MASK

_SECRET_KEYS = r"(?:ssl)?pass(?:word|wd|phrase)?|pwd|secret|token|scram_client_key|scram_server_key|oauth_client_secret"
# user:password@ of a URI. A password that nobody encoded may hold @, / and : itself, so the last @ ends it: rather too
# much is masked than a piece of it shown.
_AUTHORITY = re.compile(r"(?P<head>[A-Za-z][A-Za-z0-9+.:-]*://[^/?#\s:@]*:)(?P<secret>.*)(?=@)", re.DOTALL)
_PAIR = re.compile(
    rf"(?P<head>(?<![A-Za-z0-9_])(?:{_SECRET_KEYS})\s*=\s*)"
    r"(?P<secret>'(?:[^'\\]|\\.)*(?:'|$)|\"(?:[^\"\\]|\\.)*(?:\"|$)|(?:\\.|[^\s&;#'\"])+)",
    re.IGNORECASE | re.DOTALL,
)


def redact_dsn(dsn: str) -> str:
    """The connection string with every password in it masked; what tells where it leads stays.

    >>> redact_dsn("postgresql://xaiadmin:password@xai-db.internal:5432/xai_blockchain")
    'postgresql://xaiadmin:********@xai-db.internal:5432/xai_blockchain'
    >>> redact_dsn("host=xai-db.internal user=xaiadmin password='a b'")
    'host=xai-db.internal user=xaiadmin password=********'
    """
    masked = _AUTHORITY.sub(lambda match: match["head"] + MASK, dsn)
    return _PAIR.sub(lambda match: match["head"] + MASK, masked)
