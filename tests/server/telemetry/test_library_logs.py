"""Lines of other packages, warnings and uncaught exceptions: in the one form, without what users wrote."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest

from stars_guard.server.telemetry.library_logs import line_message
from tests.support.observed import MARKER


def message(name, text, *args, error=None):
    """What is written of a line that the logger ``name`` is given.

    Args:
        name: of the logger.
        text: with places for the arguments.
        args: what goes there.
        error: exception that is logged with it.
    """
    info = (type(error), error, None) if error else None
    return line_message(logging.LogRecord(name, logging.WARNING, __file__, 1, text, args, info))


@pytest.mark.parametrize(
    ("name", "text", "args", "shown"),
    [
        ("httpx", "HTTP Request: %s %s", ("POST", f"http://e:1/p?key={MARKER}"), "HTTP Request: POST http://e:1/p?***"),
        ("uvicorn.error", f'"GET /a/b?{MARKER}&b=1 HTTP/1.1" bad', (), '"GET /a/b?*** HTTP/1.1" bad'),
        ("transformers.x", "it broke: %s", (ValueError(MARKER),), "it broke: ValueError"),
        ("transformers.x", ValueError(MARKER), (), "ValueError"),
        ("huggingface_hub", f"first\n{MARKER}", (), "first"),
        ("huggingface_hub", "%(a)s of %(b)s", ({"a": 1, "b": 2},), "1 of 2"),
        ("asyncio", f"Exception in callback f('{MARKER}')", (), "Exception in callback f"),
        ("asyncio", f"Task was destroyed\ntask: <Task {MARKER}>", (), "Task was destroyed"),
        ("careless", "%d of %s", ("a",), "%d of %s"),
        ("careless", "", (), ""),
        ("long", "x" * 10_000, (), "x" * 500),
        ("stars_guard.server", "who? %s", ("me?now",), "who? me?now"),
        ("stars_guardian", f"/a?{MARKER}", (), "/a?***"),
    ],
)  # fmt: skip
def test_lines_of_others_are_cut(name, text, args, shown):
    assert message(name, text, *args) == shown


def test_words_of_the_exception_that_is_logged_are_left_out():
    error = ValueError(MARKER)
    assert message("careless", f"failed: {error}", error=error) == "failed: ***"
    assert message("careless", "failed: ", error=ValueError()) == "failed: "


PROGRAM = f"""
import asyncio, gc, logging, sys, threading, warnings
from stars_guard.server.telemetry.library_logs import log_uncaught, take_over
from stars_guard.server.telemetry.logs import write_logs
from stars_guard.server.telemetry.observers import ObservabilitySettings

handler = write_logs(ObservabilitySettings(logs=sys.argv[1]))
log_uncaught()

import huggingface_hub.utils.logging as hub
import transformers.utils.logging as transformers
for library in (transformers, hub):
    library.set_verbosity_warning()
    library.get_logger("x").name
quiet = logging.getLogger("writes.to.a.file")
kept = logging.FileHandler(sys.argv[2])
quiet.addHandler(kept)
logging.getLogger().addHandler(logging.StreamHandler())
take_over(handler)

transformers.get_logger("transformers.models").warning("from transformers /x?{MARKER}")
hub.get_logger("huggingface_hub.x").warning("from the hub")
quiet.warning("from a file")
warnings.simplefilter("always")
warnings.warn("from a warning")

def fails():
    raise ValueError("{MARKER}")

thread = threading.Thread(target=fails)
thread.start()
thread.join()

class Unraisable:
    def __del__(self):
        fails()

Unraisable()
gc.collect()

async def tasks():
    async def failing():
        fails()
    task = asyncio.create_task(failing())
    await asyncio.sleep(0)
    del task
    gc.collect()
    asyncio.get_running_loop().call_soon(lambda text: fails(), "{MARKER}")
    await asyncio.sleep(0)
    await asyncio.sleep(0)

asyncio.run(tasks())

class Unprintable:
    def __str__(self):
        raise OSError("{MARKER}")

logging.getLogger("careless").warning(Unprintable())
logging.getLogger("careless").warning("%s of {MARKER}", Unprintable())
try:
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
finally:
    fails()
"""
EXPECTED = [
    ("transformers.models", "from transformers /x?***"),
    ("huggingface_hub.x", "from the hub"),
    ("writes.to.a.file", "from a file"),
    ("py.warnings", "UserWarning: from a warning"),
    ("stars_guard.server", "uncaught exception"),
    ("stars_guard.server", "uncaught exception"),
    ("asyncio", "Task exception was never retrieved"),
    ("asyncio", "Exception in callback tasks."),
    ("stars_guard.server", "uncaught exception"),
]


def run(form, file):
    """The end of the program and what it wrote to standard error."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHONW")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, form, str(file)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment,
    )


def test_what_others_say_is_in_the_one_form(tmp_path):
    done = run("json", tmp_path / "kept.log")
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    told = [(line["logger"], line["message"]) for line in lines]
    assert len(told) == len(EXPECTED)
    for (name, shown), (logger, part) in zip(told, EXPECTED, strict=True):
        assert name == logger
        assert part in shown
    failed = [line for line in lines if "exception" in line]
    assert {line["exception"] for line in failed} == {"ValueError"}
    assert all(line["at"][-1].startswith("fails:") for line in failed)
    assert MARKER not in done.stderr
    assert "from a file" in (tmp_path / "kept.log").read_text("utf-8")


def test_or_nowhere(tmp_path):
    done = run("off", tmp_path / "kept.log")
    assert (done.returncode, done.stderr) == (1, "")
