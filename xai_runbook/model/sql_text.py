"""Statements as they are sent: psycopg quotes into them what cannot be a parameter, such as the names in DDL."""

from __future__ import annotations

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from xai_runbook.model.steps import Sql
from xai_runbook.sql import statement


def compose(step: Sql, server_version: int) -> Composed:
    """Return the step's statement with its names and texts quoted into it; %(name)s stay as parameters."""
    # psycopg reads % as the start of a parameter if there are any
    percent = "%%" if step.parameters else "%"
    fields: dict[str, Composable] = {}
    for name, parts in step.identifiers.items():
        fields[name] = Identifier(*(part.replace("%", percent) for part in parts))
    for name, parts in step.names.items():
        fields[name] = SQL(", ").join(Identifier(part.replace("%", percent)) for part in parts)
    for name, texts in step.literals.items():
        fields[name] = SQL(", ").join(Literal(text.replace("%", percent)) for text in texts)
    text = SQL(statement(step.name, server_version))
    return text.format(**fields) if fields else Composed([text])
