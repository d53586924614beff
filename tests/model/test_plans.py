"""Plans are data: canonical JSON, a digest of every field, and a display without control characters."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.written_plans import FIELDS, written
from xai_runbook.errors import InputError, Unreachable
from xai_runbook.model.plans import Call, Command, Condition, Plan, Risk, Sql, change
from xai_runbook.model.scalars import fact, facts

text = st.text(st.characters(codec="utf-8"), max_size=20)
number = st.integers(-(2**70), 2**70)
argument = st.one_of(
    text, number, st.booleans(), st.none(), st.floats(allow_nan=False, allow_infinity=False),
    st.lists(text, max_size=3), st.lists(number, max_size=3),
)  # fmt: skip
arguments = st.dictionaries(text, argument, max_size=3)
row = st.dictionaries(text, st.one_of(st.none(), text), max_size=3)
condition = st.builds(
    Condition, query=text, arguments=arguments, column=text, comparison=st.sampled_from(["==", "<=", ">="]),
    value=text, within=st.just("5s"),
)  # fmt: skip
step = st.one_of(
    st.builds(Sql, name=text, parameters=row, equivalent=text),
    st.builds(Command, argv=st.lists(text, max_size=3).map(tuple), environment=st.dictionaries(text, text, max_size=2),
              seconds=text, equivalent=text),
)  # fmt: skip


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    steps = draw(st.lists(step, max_size=3).map(tuple))
    return written(
        verb=draw(text), scope=draw(text), targets=draw(st.lists(text, max_size=3).map(tuple)),
        observed=draw(st.lists(row, max_size=3).map(tuple)), steps=steps, expected=draw(condition) if steps else None,
        undo=draw(st.one_of(text, st.builds(Call, change=text, arguments=arguments))), risk=draw(st.sampled_from(Risk)),
        note=draw(text), refused=draw(text), guards=draw(st.lists(condition, max_size=2).map(tuple)), change=draw(text),
        arguments=draw(arguments), environment=draw(text), production=draw(st.booleans()),
        identity=draw(st.dictionaries(text, text, max_size=2)), version=draw(text),
        parts=draw(st.dictionaries(text, st.sampled_from(["read", "change", "exclusive"]), max_size=2)),
    )  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(plans())
def test_a_plan_comes_back_as_it_was(plan: Plan) -> None:
    again = Plan.from_json(json.loads(plan.file())["plan"])
    assert again == plan
    assert again.canonical() == plan.canonical()
    assert again.digest == plan.digest == json.loads(plan.file())["digest"]
    for name, value in plan.arguments.items():
        assert type(again.arguments[name]) is type(value)


@settings(deadline=None, max_examples=50)
@given(plans())
def test_a_plan_shows_itself_on_a_terminal_and_as_a_page(plan: Plan) -> None:
    assert str(plan).isprintable() or "\n" in str(plan)
    assert "<script" not in plan._repr_html_()


OTHER: dict[str, Any] = {
    "verb": "cancel", "scope": "other", "targets": ("session 18",), "observed": ({"pid": "18"},),
    "steps": (Sql(name="terminate_session", parameters={"pid": "18"}, equivalent="psql"),),
    "expected": replace(FIELDS["expected"], value="1"), "undo": Call(change="x", arguments={}), "risk": Risk.CHANGE,
    "note": "another", "refused": "no", "guards": (FIELDS["expected"],),
    "change": "database.x",
    "arguments": {"pids": [18]}, "environment": "production", "production": True, "identity": {"database.x": "1"},
    "created_at": "2026-01-01T00:00:00.000001+00:00", "expires_at": "2026-01-01T00:10:00.000000+00:00",
    "boot": "b 1.000", "version": "1", "parts": {"database 2@here:5432/5": "exclusive"},
}  # fmt: skip


@pytest.mark.parametrize("name", [field.name for field in fields(Plan)])
def test_the_digest_covers_every_field(name: str) -> None:
    plan = written()
    assert replace(plan, **{name: OTHER[name]}).digest != plan.digest


def deep(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from deep(value, (*path, key))


def test_a_wrong_value_anywhere_is_refused() -> None:
    data = written(guards=(FIELDS["expected"],), undo=Call(change="x", arguments={"a": 1})).to_json()
    plain = json.loads(json.dumps(data))
    paths = [path for path in deep(plain) if path]
    assert len(paths) > 40
    for path in paths:
        data = json.loads(json.dumps(plain))
        inside = data
        for key in path[:-1]:
            inside = inside[key]
        inside[path[-1]] = {"what": ["is", {"this": 1.5}]}  # nowhere in a plan
        with pytest.raises(InputError, match="not a plan"):
            Plan.from_json(data)


@pytest.mark.parametrize(
    "data",
    [None, [], "text", {}, {"schema": "xai-runbook/plan/2"}, {"schema": "xai-runbook/plan/1"}],
    ids=str,
)
def test_data_that_is_not_a_plan_is_refused(data: object) -> None:
    with pytest.raises(InputError, match="this is not a plan"):
        Plan.from_json(data)


@pytest.mark.parametrize(
    "change_",
    [
        {"surplus": 1}, {"created_at": "2026-01-01T00:00:00"}, {"expires_at": "tomorrow"}, {"boot": "no boot"},
        {"production": 0}, {"risk": "harmless"}, {"note": "\ud800"},
    ],
    ids=str,
)  # fmt: skip
def test_a_field_that_no_plan_has_is_refused(change_: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="this is not a plan"):
        Plan.from_json({**written().to_json(), **change_})


def test_a_plan_that_is_too_deep_is_refused() -> None:
    data: Any = []
    for _ in range(100_000):
        data = [data]
    with pytest.raises(InputError, match="this is not a plan"):
        Plan.from_json({**written().to_json(), "arguments": {"a": data}})


def test_s3_a_plan_without_parts_is_read_unchanged() -> None:
    data = json.loads(json.dumps(written().to_json()))
    del data["parts"]
    assert Plan.from_json(data).to_json() == written(**{**vars(Plan.from_json(data))}).to_json()
    assert Plan.from_json(data).parts == {}


def test_a_plan_with_steps_has_an_expected_condition() -> None:
    with pytest.raises(InputError, match="needs an expected condition if it has steps, and only then"):
        written(expected=None)
    with pytest.raises(InputError, match="needs an expected condition if it has steps, and only then"):
        written(steps=())


def test_comparable_plans_leave_out_times() -> None:
    assert (
        written(**{key: OTHER[key] for key in ("created_at", "expires_at", "boot")}).comparable == written().comparable
    )
    for name in {field.name for field in fields(Plan)} - {"created_at", "expires_at", "boot"}:
        assert replace(written(), **{name: OTHER[name]}).comparable != written().comparable, name


def test_the_confirmation_names_verb_count_scope_and_digest() -> None:
    plan = written(targets=("a", "b"))
    assert plan.confirmation == f"terminate 2 xai_blockchain {plan.digest[:4]}"


HOSTILE = "\x1b]0;owned\x07<script>alert(1)</script>\u202eevil\r\nPLAN ok\x9b2J"


def test_hostile_names_are_shown_and_not_obeyed() -> None:
    plan = written(
        verb=HOSTILE, scope=HOSTILE, targets=(HOSTILE,), observed=({HOSTILE: HOSTILE},), note=HOSTILE, undo=HOSTILE,
        environment=HOSTILE, identity={HOSTILE: HOSTILE}, expires_at=HOSTILE,
        guards=(replace(FIELDS["expected"], column=HOSTILE),),
        steps=(
            Sql(name=HOSTILE, parameters={HOSTILE: HOSTILE}, equivalent=HOSTILE),
            Command(argv=(HOSTILE,), environment={}, seconds="1s", equivalent=HOSTILE),
        ),
        expected=replace(FIELDS["expected"], value=HOSTILE),
    )  # fmt: skip
    for shown in (str(plan), plan._repr_html_(), str(replace(plan, steps=(), expected=None, refused=HOSTILE))):
        assert not [c for c in shown if c in "\x1b\x07\u202e\r\x9b"]
    assert "\nPLAN ok" not in str(plan)
    assert "<script>" not in plan._repr_html_() and "&lt;script&gt;" in plan._repr_html_()


def test_production_stands_first() -> None:
    plan = written(production=True)
    assert str(plan).startswith("PRODUCTION PLAN terminate") and "PRODUCTION" in plan._repr_html_()
    assert "PRODUCTION" not in str(written()) + written()._repr_html_()


def test_a_plan_without_steps_shows_no_confirmation() -> None:
    nothing = written(steps=(), expected=None, note="no session was named")
    for shown in (str(nothing), nothing._repr_html_()):
        assert "there is nothing to do" in shown and nothing.confirmation not in shown
    refused = written(steps=(), expected=None, refused="not in production")
    assert "REFUSED" in str(refused) and "not in production" in str(refused)


def test_a_command_and_an_undo_are_shown() -> None:
    command = Command(argv=("python", "-m", "x"), environment={}, seconds="1s", equivalent="stress")
    shown = str(
        written(
            steps=(command,),
            undo=Call(change="monitoring.end_load", arguments={}),
        )
    )
    assert "python -m x" in shown and "stress" in shown and "monitoring.end_load (xai-runbook undo)" in shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None), ("text", "text"), (True, "true"), (False, "false"), (2**53 + 1, "9007199254740993"),
        (-(2**80), str(-(2**80))), (Decimal("0.10"), "0.10"), (0.1, "0.1"),
        (numpy.int64(2**53 + 1), "9007199254740993"),
        (numpy.float64(0.5), "0.5"), (numpy.bool_(True), "true"), (numpy.str_("n"), "n"),
        (datetime(2026, 1, 1, 1, 0, 0, 1, tzinfo=UTC), "2026-01-01T01:00:00.000001+00:00"),
        (datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), "2026-01-01T00:00:00.000000+00:00"),
    ],
    ids=str,
)  # fmt: skip
def test_a_fact_is_exact(value: object, text: str | None) -> None:
    assert fact(value) == text
    assert facts({"a": value}) == {"a": text}


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, numpy.nan, b"bytes", [1], {"a": 1}, object(), datetime(2026, 1, 1), timedelta(1), pandas.NA,
     pandas.NaT, "\udcff", 1j],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_fact_that_cannot_be_held_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="a plan cannot hold"):
        fact(value)


class Server:
    def __init__(self, environment: str = "sandbox", production: bool = False) -> None:
        self.environment, self.production = environment, production

    def identity(self) -> dict[str, str]:
        return {"url": "here"}


def sample(database: Any, *, pids: Any = (), how: Any = "soft") -> Plan:
    if how == "lost":
        raise Unreachable("the connection was refused", on="here")
    return Plan(verb="v", scope="s", targets=(), observed=(), steps=(), expected=None, undo="", risk=Risk.CHANGE)


def of_two(database: Any, prometheus: Any) -> Plan:
    return sample(database)


sample.__module__ = of_two.__module__ = "xai_runbook.operations.database.sessions"


def test_a_change_says_how_it_was_called_and_where() -> None:
    plan = change(sample)(Server(production=True), pids=(1, 2))  # type: ignore[arg-type]
    assert plan.change == "database.sample"
    assert plan.arguments == {"pids": [1, 2], "how": "soft"}
    assert (plan.environment, plan.production, plan.identity) == ("sandbox", True, {"database.url": "here"})
    assert Plan.from_json(plan.to_json()) == plan
    created, expires = datetime.fromisoformat(plan.created_at), datetime.fromisoformat(plan.expires_at)
    assert expires - created == timedelta(minutes=10)
    assert abs(datetime.now(UTC) - created) < timedelta(seconds=5)


def test_a_change_that_cannot_be_planned_is_a_refused_plan() -> None:
    plan = change(sample)(Server(), how="lost")
    assert not plan.steps and "the connection was refused" in plan.refused


def test_a_change_takes_the_handles_of_one_environment() -> None:
    with pytest.raises(InputError, match="handles of one environment"):
        change(of_two)(Server(), Server("production"))


@pytest.mark.parametrize(
    "value", [math.nan, object(), [1, "a"], [1.5], [True], {"a": 1}, "\udcff", ["\udcff"], pandas.Series([1])],
    ids=lambda value: f"{type(value).__name__}",
)  # fmt: skip
def test_an_argument_that_a_plan_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(InputError, match=r"cannot (be|hold)"):
        change(sample)(Server(), how=value)


@pytest.mark.parametrize("value", [None, True, 7, 0.5, "x", ["a"], [1], []], ids=str)
def test_an_argument_is_kept_as_it_is(value: Any) -> None:
    kept = change(sample)(Server(), how=value).arguments["how"]
    assert kept == value and type(kept) is type(value)
