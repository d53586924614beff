"""Reading the answers of executed notebooks, which are untrusted."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.written import cell, question
from xai_runbook.model.findings import MIME_TYPE, Finding, Status
from xai_runbook.reports.notebooks.results import METADATA_KEY, faults, ran_to_end, read

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 20).decode()


def _result(finding: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"output_type": "execute_result", "data": {MIME_TYPE: finding, **more}, "metadata": {}, "execution_count": 1}


def _ok(name: str = "pool") -> dict[str, Any]:
    return Finding(name=name, status=Status.OK, summary="fine").to_json()


def _with_outputs(*outputs: object, name: str = "pool", **metadata: Any) -> dict[str, Any]:
    question_cell: dict[str, Any] = {**question(name), "outputs": list(outputs), "execution_count": 3}
    question_cell["metadata"] = {**question_cell["metadata"], **metadata}
    return {"cells": [question_cell]}


def _error(*lines: str, ename: str = "E", evalue: str = "v") -> dict[str, Any]:
    return {"output_type": "error", "ename": ename, "evalue": evalue, "traceback": list(lines)}


def test_an_answer_has_its_section_and_its_charts() -> None:
    chart = {"output_type": "display_data", "data": {"image/png": PNG}, "metadata": {"image/png": {"alt": "heights"}}}
    notebook = _with_outputs(chart, _result(_ok()), xai_runbook={"section": "03_database"})
    [answer] = read(notebook, "health_report")
    assert answer.finding is not None
    assert (answer.name, answer.section, answer.finding.section) == ("pool", "03_database", "03_database")
    assert answer.finding.status is Status.OK
    assert [(shown.alt, shown.png[:4]) for shown in answer.charts] == [("heights", b"\x89PNG")]
    assert faults(notebook) == []
    assert read(_with_outputs(_result(_ok())), "here")[0].section == "here"


@pytest.mark.parametrize(
    "change",
    [
        {"status": "fine"},
        {"status": None},
        {"severity": "mild"},
        {"summary": ["x"]},
        {"targets": "node-1" * 0 or [1]},
        {"observed_at": "2026-01-01T00:00:00"},
        {"observed_at": 5},
        {"observed_at": "soon"},
        {"name": "other"},
        {"name": {"a": 1}},
    ],
)
def test_a_malformed_finding_or_one_of_another_name_is_unknown(change: dict[str, Any]) -> None:
    notebook = _with_outputs(_result({**_ok(), **change}))
    [answer] = read(notebook)
    assert answer.finding is not None
    assert answer.finding.status is Status.UNKNOWN
    assert len(faults(notebook)) == 1


def test_a_cell_cannot_acknowledge_its_own_finding() -> None:
    alert = Finding(name="pool", status=Status.ALERT, summary="full", acknowledged={"until": "ever", "why": "x"})
    [answer] = read(_with_outputs(_result(alert.to_json())))
    assert answer.finding is not None
    assert answer.finding.acknowledged is None


def test_errors_of_the_package_are_distinguished_from_other_errors() -> None:
    marker = "xai_runbook.errors."
    cases = {
        f"{marker}TimedOut: no answer (db). Try: look": ("unknown", "unknown, because no answer (db)", 0),
        f"{marker}NotConfigured: cache is not configured in environment x (cache). Try: a table [cache]": (
            None,
            "cache",
            0,
        ),
        f"{marker}NotConfigured: no reference node (nodes.reference). Try: name one": (None, "nodes.reference", 0),
        f"{marker}InputError: no": ("unknown", "InputError: no", 1),
        f"{marker}CannotAskHarder: no": ("unknown", "E: v", 1),
        f"{marker}MARKER: no": ("unknown", "E: v", 1),
        f"{marker}annotations: no": ("unknown", "E: v", 1),
        "ValueError: xai_runbook.errors.NotConfigured: x (cache)": ("unknown", "E: v", 1),
    }
    for line, (status, text, fault_count) in cases.items():
        notebook = _with_outputs(_error(line))
        [answer] = read(notebook)
        if status is None:
            assert (answer.finding, answer.not_configured) == (None, text)
        else:
            assert answer.finding is not None
            assert answer.finding.status is Status.UNKNOWN
            assert text in answer.finding.summary
        assert len(faults(notebook)) == fault_count


def test_a_finding_and_an_error_in_one_cell_are_unknown() -> None:
    [answer] = read(_with_outputs(_result(_ok()), _error("ValueError: x")))
    assert answer.finding is not None
    assert answer.finding.status is Status.UNKNOWN


def test_a_cell_that_was_not_run_says_so() -> None:
    notebook = {"cells": [question("pool")]}
    [answer] = read(notebook)
    assert answer.finding is not None
    assert answer.finding.summary == "unknown, because the cell was not run"
    assert not ran_to_end(notebook)


def test_a_notebook_ran_to_its_end_if_the_engine_recorded_every_cell() -> None:
    notebook = {**_with_outputs(_result(_ok())), "metadata": {METADATA_KEY: {"ran": ["pool"], "faults": []}}}
    assert ran_to_end(notebook)
    notebook["cells"].append(question("later"))
    assert not ran_to_end(notebook)
    assert not ran_to_end({**notebook, "metadata": {METADATA_KEY: {"ran": True}}})


def test_a_set_up_cell_is_never_a_question() -> None:
    assert read({"cells": [cell("env", "connect()", "setup", "raises-exception")]}) == ()


def test_pictures_are_checked() -> None:
    shown = [{"output_type": "display_data", "data": {"image/png": data}} for data in
             ("PHNjcmlwdD4=", "no base64!", 5, None, [PNG[:10], PNG[10:]], PNG)]  # fmt: skip
    [answer] = read(_with_outputs(*shown, _result(_ok())))
    assert [chart.alt for chart in answer.charts] == ["Chart of pool"] * 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("raises-exception") | st.just(MIME_TYPE),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["cells", "cell_type", "metadata", "tags", "outputs", "output_type", "data", "source", "id", MIME_TYPE,
             METADATA_KEY, "fault", "section", "traceback", "image/png", "execution_count", "ran"]
        ) | st.text(max_size=4),
        inner, max_size=6,
    ),
    max_leaves=30,
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(JSON, JSON, JSON, JSON)
def test_no_json_breaks_the_reader_or_is_ok_without_a_finding(
    outputs: Any, metadata: Any, data: Any, whole: Any
) -> None:
    question_cell = {**question("pool"), "outputs": outputs}
    tagged = {"tags": ["raises-exception"], **(metadata if isinstance(metadata, dict) else {"x": metadata})}
    forged = {**question("forged"), "outputs": [{"output_type": "execute_result", "data": data}], "metadata": tagged}
    for notebook in ({"cells": [question_cell, forged], "metadata": metadata}, {"cells": whole}, whole):
        for answer in read(notebook):
            assert answer.finding is None or answer.finding.status is not Status.OK
            json.dumps(answer.finding.to_json() if answer.finding else answer.not_configured, default=str)
        assert all(isinstance(line, str) for line in faults(notebook))
        ran_to_end(notebook)
