"""Runs a load test: the process that drives it, the samples beside it, the progress."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from ops.load.folder import Run, samples_file
from ops.load.samples import Sampler
from ops.local.serving import ending_signals

_LATE_S = 0.05
_STOP_S = 30.0

Json = dict[str, Any]


def drive(run: Run, folder: Path, key_variable: str, web_port: int | None = None) -> None:
    """Sends what the profile says, and writes the folder's files.

    Ctrl-C, SIGTERM and SIGHUP end the sending and then, in ten seconds, the waiting for answers; a
    second one ends both at once. Before the first request they raise KeyboardInterrupt. Call it in
    the main thread only.

    Args:
        run: the run; what was unknown of it is filled in.
        folder: where the files are written.
        key_variable: the environment variable that holds the service's key.
        web_port: where Locust's page is shown meanwhile, on this machine only.

    Raises:
        RuntimeError: the driver failed, such as on a full disk; it has printed why.
    """
    run.write(folder)
    figures: Json = {}
    with ExitStack() as stack:
        driver = stack.enter_context(_driver(folder, key_variable, web_port))
        sampler: Sampler | None = None
        assert driver.stdout is not None
        for line in driver.stdout:
            said = json.loads(line)
            if "began" in said:
                # Until now the driver had no handlers of its own: there was nothing to wait for.
                stack.enter_context(_signals_for(driver))
                run.began = said["began"]
                run.write(folder)  # should this process be killed
                key = os.environ.get(key_variable, "")
                sampler = Sampler(run.url, key, samples_file(folder), run.began)
                stack.enter_context(sampler)
            elif "ended" in said:
                figures = said
            else:
                say(_line(said, sampler.last if sampler else {}))
    if not figures or driver.returncode:
        raise RuntimeError("the load test's driver failed; it has printed why")
    run.ended, run.interrupted = figures["ended"], figures["interrupted"]
    run.sent_until, run.late_p99_s = figures["sent_until"], figures["late_p99_s"]
    run.write(folder)
    if run.late_p99_s > _LATE_S:
        say(
            f"warning: 1 % of the requests were sent over {run.late_p99_s * 1000:.0f} ms late: "
            "this machine is too busy for the profile"
        )


def say(*lines: str) -> None:
    """Prints lines; that the terminal is gone is no reason to stop."""
    with suppress(OSError):
        print(*lines, sep="\n", flush=True)


@contextmanager
def _driver(
    folder: Path, key_variable: str, web_port: int | None
) -> Iterator["subprocess.Popen[str]"]:
    """The driving process. Of its own session: signals of the terminal come here alone, and are
    passed on."""
    web = [] if web_port is None else [str(web_port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "ops.load.driving", str(folder), key_variable, *web],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
        process.wait(_STOP_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
def _signals_for(process: "subprocess.Popen[str]") -> Iterator[None]:
    numbers = ending_signals()
    before = [signal.getsignal(number) for number in numbers]
    for number in numbers:
        signal.signal(number, lambda *_: process.send_signal(signal.SIGINT))
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _line(said: Json, sample: Json) -> str:
    """The progress, as it is printed."""
    ttft = "-" if said["ttft_p50_s"] is None else f"{said['ttft_p50_s']:.2f} s"
    text = (
        f"{said['at']:7.1f} s  offered {said['offered_rps']:.1f}/s, done {said['done_rps']:.1f}/s, "
        f"{said['in_flight']} in flight, {said['errors']} errors, TTFT p50 {ttft}"
    )
    replicas = ", ".join(
        f"{name} {counts['running']}/{counts['wanted']}"
        for name, counts in sample.get("deployments", {}).items()
    )
    return f"{text}; replicas {replicas}" if replicas else text
