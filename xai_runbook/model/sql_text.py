"""Statements as they are sent: what cannot be a parameter, such as the names in DDL, is quoted into them by psycopg."""

from __future__ import annotations

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from xai_runbook.model.steps import Sql
from xai_runbook.sql import statement


def compose(step: Sql, server_version: int) -> Composed:
    """The step's statement with its names and texts quoted into it; %(name)s stay for the server."""
    # once parameters are bound, psycopg reads every % as the start of one
    double = "%%" if step.parameters else "%"
    words: dict[str, Composable] = {}
    for name, parts in step.identifiers.items():
        words[name] = Identifier(*(part.replace("%", double) for part in parts))
    for name, each in step.names.items():
        words[name] = SQL(", ").join(Identifier(one.replace("%", double)) for one in each)
    for name, texts in step.literals.items():
        words[name] = SQL(", ").join(Literal(text.replace("%", double)) for text in texts)
    text = SQL(statement(step.name, server_version))
    return text.format(**words) if words else Composed([text])
