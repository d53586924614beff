"""Running notebooks: side by side, within their deadlines, without leftovers and without secrets in their outputs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from tests.support.pace import stretched
from tests.support.written import cell, question, write
from xai_runbook.errors import InputError, ReportError
from xai_runbook.model.findings import Status
from xai_runbook.reports.runner.redaction import known_secrets
from xai_runbook.reports.runner.result import Event
from xai_runbook.reports.runner.run import execute

CHART = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"


def test_notebooks_run_side_by_side_and_answer(tmp_path: Path) -> None:
    meet = "import time, pathlib\npathlib.Path({0!r}).touch()\nwhile not pathlib.Path({1!r}).exists(): time.sleep(0.05)"
    one, two = str(tmp_path / "one.here"), str(tmp_path / "two.here")
    # each waits until the other runs: one after another they would never end
    paths = [
        write(tmp_path, "one", cell("meet", meet.format(one, two)), question("pool", CHART)),
        write(tmp_path, "two", cell("meet", meet.format(two, one)), question("lag")),
    ]
    events: list[Event] = []
    results = execute(paths, parameters={}, out=tmp_path / "out", jobs=2, progress=events.append, secrets=[])
    assert [(result.name, result.status, result.error) for result in results] == [
        ("one", "completed", ""),
        ("two", "completed", ""),
    ]
    [pool] = results[0].answers
    assert pool.finding is not None
    assert (pool.name, pool.section, pool.finding.status, pool.finding.section) == ("pool", "one", Status.OK, "one")
    assert [chart.png[:4] for chart in pool.charts] == [b"\x89PNG"]
    assert [event.cell for event in events if event.notebook == "one"] == [
        "parameters",
        "set-up",
        "meet",
        "pool",
        "",
    ]
    assert {event.notebook: event.result for event in events if event.result} == {r.name: r for r in results}
    for result in results:
        assert stat.S_IMODE(result.path.stat().st_mode) == 0o600
        executed = nbformat.reads(result.path.read_text(), as_version=4)
        nbformat.validate(executed)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one.ipynb", "two.ipynb"]


def test_parameters_reach_the_notebooks_that_declare_them(tmp_path: Path) -> None:
    source = "import os\nassert (environment, window, limit, deep) == ('sandbox', 'a\"\\n{b}\\\\', 2.0, True)\n"
    source += "assert os.environ['XAI_RUNBOOK_ENV'] == 'sandbox' and os.environ['MINE'] == 'yes'"
    path = write(tmp_path, "declares", question("pool", source))
    bare = tmp_path / "bare.ipynb"
    content = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {},
        "cells": [cell("one", "assert 'limit' not in dir()")],
    }
    bare.write_text(json.dumps(content))
    results = execute(
        [path, bare],
        parameters={"environment": "sandbox", "window": 'a"\n{b}\\', "limit": "2", "deep": "true"},
        out=tmp_path / "out",
        environment={"MINE": "yes"},
        secrets=[],
    )
    assert [(result.status, result.error) for result in results] == [("completed", "")] * 2


def test_what_cannot_be_used_is_refused_before_anything_runs(tmp_path: Path) -> None:
    path = write(tmp_path, "fine", question("pool"))
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"no notebook declares a parameter 'windw'.*Try: window"):
        execute([path], parameters={"windw": "6h"}, out=out, secrets=[])
    with pytest.raises(InputError, match="parameter limit cannot be 'much'"):
        execute([path], parameters={"limit": "much"}, out=out, secrets=[])
    for name in ("s3://bucket/a.ipynb", "http://127.0.0.1/a.ipynb", "-", "absent.ipynb", str(tmp_path)):
        with pytest.raises(InputError, match="not a notebook file"):
            execute([Path(name)], parameters={}, out=out, secrets=[])
    with pytest.raises(InputError, match="no notebook to run"):
        execute([], parameters={}, out=out, secrets=[])
    assert not out.exists()


def test_an_output_folder_that_cannot_be_written_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    path = write(tmp_path, "fine", question("pool"))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ReportError, match="cannot be written"):
        execute([path], parameters={}, out=tmp_path / "file" / "out", secrets=[])


def test_a_broken_notebook_fails_alone(tmp_path: Path) -> None:
    fine = write(tmp_path, "fine", question("pool"))
    broken = {
        "cut": fine.read_text()[:50],
        "old": json.dumps({"nbformat": 3, "worksheets": []}),
        "list": "[]",
        "twins": json.dumps({"nbformat": 4, "cells": [question("a"), question("a")]}),
        "cells": json.dumps({"nbformat": 4, "cells": [{"cell_type": "code", "source": 5, "metadata": {}}]}),
        "computed": json.dumps(
            {
                "nbformat": 4,
                "nbformat_minor": 5,
                "metadata": {},
                "cells": [cell("parameters", "window = open('/etc/passwd')", "parameters"), question("pool")],
            }
        ),
    }
    for name, text in broken.items():
        (tmp_path / f"{name}.ipynb").write_text(text)
    paths = [*(tmp_path / f"{name}.ipynb" for name in broken), fine]
    results = {r.name: r for r in execute(paths, parameters={}, out=tmp_path / "out", secrets=[])}
    assert {name: results[name].status for name in broken} == dict.fromkeys(broken, "failed")
    assert results["fine"].status == "completed"
    assert "is not a literal" in results["computed"].error
    [answer] = results["computed"].answers
    assert answer.finding is not None
    assert answer.finding.status is Status.UNKNOWN


def test_what_an_earlier_run_left_in_a_notebook_is_not_an_answer(tmp_path: Path) -> None:
    [first] = execute([write(tmp_path, "a", question("pool"))], parameters={}, out=tmp_path / "out", secrets=[])
    executed = json.loads(first.path.read_text())
    question_cell = next(one for one in executed["cells"] if one["id"] == "pool")
    question_cell["source"] = "import os; os.kill(os.getppid(), 9)"  # the worker: nothing will be written again
    again = tmp_path / "again.ipynb"
    again.write_text(json.dumps(executed))
    [result] = execute([again], parameters={}, out=tmp_path / "out2", secrets=[])
    assert result.status == "incomplete"
    assert "the worker process died" in result.error
    assert result.answers[0].finding is not None
    assert result.answers[0].finding.status is Status.UNKNOWN


def test_the_deadline_of_the_run_ends_it_and_the_results_until_then_are_kept(tmp_path: Path) -> None:
    slow = write(tmp_path, "slow", question("first"), cell("sleep", "import time; time.sleep(3600)"), question("last"))
    never = write(tmp_path, "never", question("pool"))
    begun, seconds = time.monotonic(), stretched(10)
    spans = {"cell_seconds": 3600.0, "run_seconds": seconds}
    results = execute([slow, never], parameters={}, out=tmp_path / "out", jobs=1, secrets=[], **spans)
    assert time.monotonic() - begun < seconds + stretched(10)
    assert [result.status for result in results] == ["incomplete"] * 2
    assert "the deadline of the run has passed" in results[0].error
    statuses = [answer.finding.status for result in results for answer in result.answers if answer.finding]
    assert statuses == [Status.OK, Status.UNKNOWN, Status.UNKNOWN]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["slow.ipynb"]


def test_a_worker_that_falls_silent_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell_seconds, slack = 4, stretched(6)
    monkeypatch.setattr("xai_runbook.reports.runner.run._SLACK_SECONDS", slack)
    stop = cell("stop", "import os, signal, time\nos.kill(os.getppid(), signal.SIGSTOP)\ntime.sleep(100)")
    path = write(tmp_path, "silent", question("first"), stop, question("last"))
    begun = time.monotonic()
    [result] = execute([path], parameters={}, out=tmp_path / "out", cell_seconds=cell_seconds, secrets=[])
    assert time.monotonic() - begun < cell_seconds + slack + stretched(15)
    assert result.status == "incomplete"
    assert result.error == f"no message from the worker for {cell_seconds + slack:g} s"
    assert [answer.finding.status for answer in result.answers if answer.finding] == [Status.OK, Status.UNKNOWN]


def test_the_reason_is_reported_when_a_kernel_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "ipykernel.py").write_text("raise RuntimeError('no kernel today')")
    path = write(tmp_path, "dead", question("pool"))
    broken = {"PYTHONPATH": str(tmp_path / "broken")}
    [result] = execute([path], parameters={}, out=tmp_path / "out", environment=broken, secrets=[])
    assert result.status == "incomplete"
    assert "the kernel did not start: exit code 1, RuntimeError: no kernel today" in result.error
    assert result.answers[0].finding is not None
    assert result.answers[0].finding.status is Status.UNKNOWN


def test_known_secrets_are_masked_wherever_they_show(tmp_path: Path) -> None:
    secret = 'pa"ss/wörd\\7'
    path = write(
        tmp_path,
        "leaks",
        cell("pieces", f"import sys, time\ns = {secret!r}\nfor c in s:\n    sys.stdout.write(c); sys.stdout.flush()"),
        cell("many", "print('x' * 47_995 + s + 'y' * 200_000 + s)"),
        cell("shown", "display({'a': [s]}); s"),
        cell("raised", "raise ValueError(f'postgresql://u:{s}@h/d')"),
        cell(
            "thread",
            "import threading\ndef f(): raise ValueError(s)\nt = threading.Thread(target=f); t.start(); t.join()",
        ),
        cell("pool", "Finding(name='pool', status=Status.OK, summary=f'as {s}')", "raises-exception"),
    )
    [result] = execute([path], parameters={}, out=tmp_path / "out", secrets=[secret])
    executed = json.loads(result.path.read_text())
    shown = json.dumps([[one["outputs"], one["metadata"]] for one in executed["cells"]], ensure_ascii=False)
    assert shown.count("********") >= 7
    for part in (secret, json.dumps(secret, ensure_ascii=False)[1:-1], json.dumps(secret)[1:-1], "wörd", "pa\\\\"):
        assert part not in shown
    assert secret not in str(result)
    assert result.answers[0].finding is not None
    assert result.answers[0].finding.summary == "as ********"


def test_the_secrets_of_the_environment_are_the_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("correct horse\n")
    (tmp_path / "operator").write_text("battery staple")
    (tmp_path / "there.toml").write_text(
        f"""
        [prometheus]
        auth_value = "env:TOKEN_OF_TEST"
        [[nodes.node]]
        name = "node-1"
        auth_value = "env:TOKEN_THAT_IS_NOT_SET"
        [database]
        password = "file:{tmp_path / "password"}"
        operator = {{user = "o", password = "file:{tmp_path / "operator"}"}}
        """
    )
    monkeypatch.setenv("XAI_RUNBOOK_CONFIG", str(tmp_path))
    monkeypatch.setenv("TOKEN_OF_TEST", "Bearer 12345")
    # the operator's is looked up by nothing that only reads
    assert sorted(known_secrets("there")) == ["Bearer 12345", "correct horse"]
    leak = cell("leak", "import os; print(os.environ['TOKEN_OF_TEST'])")
    path = write(tmp_path, "leaks", leak)
    [result] = execute([path], parameters={"environment": "there"}, out=tmp_path / "out")
    assert "12345" not in result.path.read_text()
    assert "********" in result.path.read_text()
    with pytest.raises(InputError, match="parameter window contains a secret"):
        execute([path], parameters={"environment": "there", "window": "correct horse"}, out=tmp_path / "out2")


def test_a_users_own_start_up_files_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    start_up = home / ".ipython" / "profile_default" / "startup"
    start_up.mkdir(parents=True)
    (start_up / "00.py").write_text("environment = planted = 1")
    (start_up.parent / "ipython_config.py").write_text("c.InteractiveShellApp.exec_lines = ['planted = 1']")
    (home / "start.py").write_text("planted = 1")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("IPYTHONDIR", str(home / ".ipython"))
    monkeypatch.setenv("PYTHONSTARTUP", str(home / "start.py"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    path = write(tmp_path, "mine", question("pool", f"assert 'planted' not in dir()\n{CHART}"))
    [result] = execute([path], parameters={}, out=tmp_path / "out", secrets=[])
    assert (result.status, result.error) == ("completed", "")
    assert len(result.answers[0].charts) == 1
    assert not (start_up.parent / "history.sqlite").exists()


def test_a_kernels_sockets_are_in_a_private_folder(tmp_path: Path) -> None:
    # over TCP any local process could subscribe to what a kernel shows, without its key
    look = (
        "import json, os, stat, sys\n"
        "info = json.load(open(sys.argv[sys.argv.index('-f') + 1]))\n"
        "folder = os.path.dirname(info['ip'])\n"
        "assert info['transport'] == 'ipc' and stat.S_IMODE(os.stat(folder).st_mode) == 0o700\n"
        "assert sum(stat.S_ISSOCK(os.stat(os.path.join(folder, n)).st_mode) for n in os.listdir(folder)) == 5"
    )
    path = write(tmp_path, "look", question("pool", look))
    [result] = execute([path], parameters={}, out=tmp_path / "out", secrets=[])
    assert (result.status, result.error) == ("completed", "")


def test_what_a_notebook_started_ends_with_it(tmp_path: Path) -> None:
    number = tmp_path / "number"
    start = (
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        f"open({str(number)!r}, 'w').write(str(child.pid))"
    )
    path = write(tmp_path, "starts", question("pool", start))
    [result] = execute([path], parameters={}, out=tmp_path / "out", secrets=[])
    assert result.status == "completed"
    assert not _runs(int(number.read_text()))


PROGRAM = """
import sys
from pathlib import Path
from xai_runbook.reports.runner.result import Interrupted
from xai_runbook.reports.runner.run import execute
path, out = map(Path, sys.argv[1:])
try:
    execute([path], parameters={}, out=out, secrets=[])
except Interrupted as stop:
    [result] = stop.results
    print(result.status, [answer.finding.status.value for answer in result.answers], flush=True)
    sys.exit(stop.exit_code)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_everything_and_keeps_what_was_run(number: signal.Signals, tmp_path: Path) -> None:
    note = tmp_path / "numbers"
    start = (
        "import os, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '300'])\n"
        f"open({str(note)!r}, 'w').write(f'{{os.getpid()}} {{os.getppid()}} {{child.pid}}')\n"
        "time.sleep(300)"
    )
    path = write(tmp_path, "long", question("first"), cell("start", start), question("last"))
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, path, out], stdout=subprocess.PIPE, text=True)
    try:
        _until(lambda: note.exists() and len(note.read_text().split()) == 3, 120)
        process.send_signal(number)
        output = process.communicate(timeout=120)[0]
    finally:
        process.kill()
        process.communicate()
    kernel, worker, child = map(int, note.read_text().split())
    _until(lambda: not _runs(kernel) and not _runs(worker), 60)
    if number is signal.SIGKILL:
        if _runs(child):  # no process was left to end the notebook's own child
            os.kill(child, signal.SIGKILL)
    else:
        assert process.returncode == 128 + number
        assert output == "incomplete ['ok', 'unknown']\n"
        assert not _runs(child)
    executed = json.loads((out / "long.ipynb").read_text())
    assert next(one for one in executed["cells"] if one["id"] == "first")["outputs"]


def test_a_kernel_ends_if_its_worker_died_while_it_started(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\n"
        "from xai_runbook.reports.runner.kernel_process import KernelProcess\n"
        "kernel = KernelProcess(Path(sys.argv[1]))\nkernel.start()\n"
        "print(kernel.process.pid, flush=True)\nos._exit(0)"
    )
    started = subprocess.run(
        [sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True, timeout=120, check=True
    )
    kernel = int(started.stdout)
    try:
        _until(lambda: not _runs(kernel), 60)
    finally:
        if _runs(kernel):
            os.kill(kernel, signal.SIGKILL)


def test_plain_papermill_and_jupyter_run_the_same_notebooks_to_their_end(tmp_path: Path) -> None:
    from xai_runbook.reports.notebooks.results import read

    path = write(
        tmp_path,
        "plain",
        cell("refused", "raise Unreachable('refused', on='db')", "raises-exception"),
        question("pool", CHART),
    )
    out = tmp_path / "out.ipynb"
    for command in (
        [sys.executable, "-m", "papermill", "--no-progress-bar", str(path), str(out)],
        [sys.executable, "-m", "jupyter", "execute", "--inplace", str(out)],
    ):
        shutil.copy(path, out)
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        answers = read(json.loads(out.read_text()), "plain")
        assert len(answers) == 2, done.stderr
        refused, pool = answers
        assert refused.finding is not None
        assert refused.finding.summary == "unknown, because refused (db)"
        assert pool.finding is not None
        assert (pool.finding.status, len(pool.charts)) == (Status.OK, 1)


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare to make a small disk")
def test_a_disk_that_fills_up_leaves_no_half_written_copy(tmp_path: Path) -> None:
    big = "from IPython.display import display\ndisplay({'text/plain': 'x' * 3_000_000}, raw=True)"
    path = write(tmp_path, "big", question("first"), cell("big", big), question("last"))
    out = tmp_path / "small"
    out.mkdir()
    shell = f'mount -t tmpfs -o size=1m none "{out}" && "{sys.executable}" -c "$1" "$2" "$3"; cat "{out}/big.ipynb"'
    program = PROGRAM.replace("    execute([path]", "    [r] = execute([path]").replace(
        "except Interrupted", "    print('{', r.status, r.error, '}')\nexcept Interrupted"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", shell, "sh", program, str(path), str(out)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"cannot make a small disk here: {done.stderr.strip()}")
    output, _, copy = done.stdout.partition("}\n")
    assert re.search(r"incomplete .*No space left", output)
    assert json.loads(copy)["nbformat"] == 4


def _runs(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _until(holds: object, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.05)
