"""The parameters that a notebook declares, and the conversion of given values."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given as generated
from hypothesis import settings
from hypothesis import strategies as st

from tests.support.written import cell
from xai_runbook.errors import InputError
from xai_runbook.reports.notebooks.parameters import convert, declared, parse_pairs, refuse_unknown


def _notebook(*sources: str) -> dict[str, Any]:
    return {"cells": [cell(f"p{n}", source, "parameters") for n, source in enumerate(sources)]}


def test_the_parameters_are_the_literals_of_the_tagged_cell() -> None:
    source = '"""Words."""\nwindow = "24h"  # how far back\nlimit: float = -0.5\nnodes = ["a", "b"]\nnone = None'
    assert declared(_notebook(source), "n") == {"window": "24h", "limit": -0.5, "nodes": ["a", "b"], "none": None}
    assert declared({"cells": [cell("x", "y = 1")]}, "n") == {}
    as_lines = {"cells": [{**cell("p", "", "parameters"), "source": ["a = 1\n", "b = 2\n"]}]}
    assert declared(as_lines, "n") == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "source",
    [
        "window = open('/etc/passwd').read()",
        "import os",
        "a = b = 1",
        "a, b = 1, 2",
        "a.b = 1",
        "a += 1",
        "if True:\n    a = 1",
        "def (",
        "a = f'{1}'",
        "!touch planted",
        "a: int",
        "x = " + "(" * 500 + ")" * 500,
        "a = '\0'",
    ],
)
def test_anything_but_literals_is_refused_and_not_run(source: str) -> None:
    with pytest.raises(InputError, match="n"):
        declared(_notebook(source), "n")


def test_two_parameter_cells_are_refused() -> None:
    with pytest.raises(InputError, match="2 cells are tagged"):
        declared(_notebook("a = 1", "b = 2"), "n")


def test_command_line_texts_are_parsed_as_parameters() -> None:
    assert parse_pairs(["window=6h", "query=a=b", "empty="]) == {"window": "6h", "query": "a=b", "empty": ""}
    for wrong in ("window", "=6h", "a b=1", "import os; x=1", "x.y=1", "x[0]=1"):
        with pytest.raises(InputError, match="invalid parameter"):
            parse_pairs([wrong])
    with pytest.raises(InputError, match="given twice"):
        parse_pairs(["a=1", "a=2"])


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    refuse_unknown(["window"], ["window", "limit"])
    with pytest.raises(InputError, match=r"'windw'. Try: window$"):
        refuse_unknown(["windw"], ["window", "limit"])
    with pytest.raises(InputError, match="declare no parameters"):
        refuse_unknown(["window"], [])


@pytest.mark.parametrize(
    ("default", "value", "expected"),
    [
        ("24h", "6h", "6h"),
        ("24h", "5", "5"),
        (1, "5", 5),
        (1, 5, 5),
        (0.5, "1", 1.0),
        (0.5, 2, 2.0),
        (0.5, "1e-3", 0.001),
        (False, "true", True),
        (True, "False", False),
        (["a"], "['b']", ["b"]),
        (None, "x", "x"),
        (None, 3, 3),
    ],
)
def test_a_value_takes_its_defaults_type(default: object, value: object, expected: object) -> None:
    [(name, fit)] = convert({"p": default}, {"p": value, "other": 1}).items()
    assert (name, fit, type(fit)) == ("p", expected, type(expected))


@pytest.mark.parametrize(
    ("default", "value"),
    [
        (1, "x"),
        (1, "1.5"),
        (1, True),
        (1, "True"),
        (0.5, "nan"),
        (0.5, math.inf),
        (0.5, "1e999"),
        (0.5, "__import__('os')"),
        (False, "1"),
        (False, 1),
        (False, "yes"),
        ("a", 5),
        ("a", None),
        ("a", "x" * 20_000),
        (["a"], "('b',)"),
        (None, ["x"]),
    ],
)
def test_a_value_that_does_not_fit_is_refused(default: object, value: object) -> None:
    with pytest.raises(InputError, match="parameter p cannot be"):
        convert({"p": default}, {"p": value})


@settings(max_examples=300, deadline=None)
@generated(
    st.dictionaries(st.sampled_from(["a", "b"]), st.text() | st.integers() | st.booleans() | st.floats(-1e9, 1e9))
)
def test_papermill_writes_each_value_as_a_literal_equal_to_it(values: dict[str, object]) -> None:
    import ast
    import sys

    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    from papermill.translators import translate_parameters

    converted = convert(values, values)
    tree = ast.parse(translate_parameters("python3", "python", converted, "Parameters"))
    read = {}
    for statement in tree.body:
        assert isinstance(statement, ast.Assign)
        assert isinstance(statement.targets[0], ast.Name)
        read[statement.targets[0].id] = ast.literal_eval(statement.value)
    assert read == converted
