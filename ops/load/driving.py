"""Drives a schedule open loop with Locust: the process that sends, started by `python -m ops.load`.

    python -m ops.load.driving FOLDER KEY_VARIABLE [WEB_PORT]

Locust replaces Python's blocking functions by gevent's as soon as it is imported, so this is a
process of its own. Its standard output is a line of JSON every two seconds and at its end. SIGINT
or SIGTERM ends the sending, a second one the waiting.
"""

import locust  # isort: skip; before all that must be patched

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import gevent
from gevent.event import Event
from gevent.pool import Pool
from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPParseError, HTTPSocketPoolResponse
from locust.env import Environment
from locust.exception import StopUser

from ops.load import prompts
from ops.load.folder import Run, requests_file
from ops.load.profile import Profile, parse_profile
from ops.load.progress import Progress
from ops.load.records import DROPPED, Record
from ops.load.replies import Said
from ops.load.schedule import Planned, Schedule, plan

_LEAD_S = 0.5  # before the first request
_PROGRESS_S = 2.0
_TOGETHER = 32
_LAST_ANSWERS_S = 10.0  # for which an interrupted run waits
_STOP_S = 2 * _LAST_ANSWERS_S  # for which Locust's page waits
_PATH = "/v1/chat/completions"

logger = logging.getLogger(__name__)


class _Late(gevent.Timeout):  # type: ignore[misc]  # gevent has no types
    """A request took longer than the profile's `timeout_s`."""


class Driver:
    """Sends the requests of a schedule at their times, and writes a record of each.

    Args:
        profile: the profile.
        run: with the server's URL, without "/v1", and the nonce of the prompts.
        key: sent to it, unless empty.
        records: where the records are written.
        events: Locust's, for its statistics.

    Attributes:
        fault: why records could not be written.
    """

    def __init__(self, profile: Profile, run: Run, key: str, records: TextIO, events: Any) -> None:
        self.progress = Progress()
        self.stopping = Event()
        self.fault: OSError | None = None
        self._profile = profile
        self._records = records
        self._events = events
        self._pool = Pool(profile.most_in_flight)
        self._nonce = run.nonce
        parts = urlsplit(run.url)
        self._path = parts.path.rstrip("/") + _PATH
        self._headers = {"content-type": "application/json"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"
        self._client = HTTPClient.from_url(
            f"{parts.scheme}://{parts.netloc}",
            concurrency=profile.most_in_flight,
            connection_timeout=profile.timeout_s,
            network_timeout=profile.timeout_s,
            block_size=2**16,
        )
        self._zero = 0.0

    @property
    def now(self) -> float:
        """Seconds after the beginning."""
        return time.perf_counter() - self._zero

    def run(self, schedule: Schedule) -> None:
        """Returns when the last request has ended and the last stage is over, or after
        `stopping`."""
        self._zero = time.perf_counter() + _LEAD_S
        self.progress.begin(time.time() + _LEAD_S)
        reporting = gevent.spawn(self._report)
        for planned in schedule.requests:
            # Made beforehand, so that the time it takes doesn't make the request late.
            body = self._body(planned)
            due = planned.at - self.now
            # Of late requests several are sent at a time: between two waits, all that has arrived
            # meanwhile is read, which can take longer than a request has.
            if due > 0 or planned.number % _TOGETHER == 0:
                self.stopping.wait(max(0.0, due))
            if self.stopping.is_set():
                break
            if self._pool.full():
                self._drop(planned)
            else:
                self._pool.spawn(self._ask, planned, body)
        self.stopping.wait(max(0.0, schedule.seconds - self.now))
        interrupted = self.stopping.is_set()
        sent_until = min(self.now, schedule.seconds) if interrupted else schedule.seconds
        # A request has a bound of its own.
        while not self.stopping.is_set() and len(self._pool):
            gevent.sleep(0.05)
        self._pool.join(_LAST_ANSWERS_S)
        self._pool.kill()
        reporting.kill()
        self.progress.end(self.now, sent_until, interrupted=self.stopping.is_set())

    def end(self) -> None:
        """The first time ends the sending, the second time the waiting for answers."""
        if self.stopping.is_set():
            self._pool.kill(block=False)
        self.stopping.set()

    def _report(self) -> None:
        parent = os.getppid()
        while True:
            gevent.sleep(_PROGRESS_S)
            if os.getppid() != parent:  # which was killed: nobody else would end this
                self.end()
                self.end()
                return
            self.progress.show(self.now)

    def _drop(self, planned: Planned) -> None:
        record = Record(planned, planned.at, Said(), ended=planned.at, error=DROPPED)
        self.progress.dropped()
        self._ended(record)

    def _body(self, planned: Planned) -> bytes:
        profile = self._profile
        return prompts.body(
            planned, profile.seed, self._nonce, profile.mix.router, profile.ignore_eos
        )

    def _ask(self, planned: Planned, body: bytes) -> None:
        record = Record(planned, self.now, Said())
        self.progress.sent(record)
        try:
            with _Late(self._profile.timeout_s):
                response = self._client.request("POST", self._path, body, self._headers)
                self._read(response, record)
            record.error = record.said.error
        except (_Late, TimeoutError):
            record.error = "timeout"
        except (OSError, HTTPParseError):
            record.error = "broken_stream" if record.status and planned.stream else "connection"
        except gevent.GreenletExit:
            record.error = "interrupted"
        except Exception:  # whatever a server sends, the request has a record
            record.error = "broken_answer"
            logger.exception("a response that can't be read")
        record.ended = self.now
        self._ended(record)

    def _read(self, response: HTTPSocketPoolResponse, record: Record) -> None:
        record.status = response.status_code
        record.said.headers(response.info())
        with response:
            if not str(response.get("content-type")).startswith("text/event-stream"):
                record.said.whole(record.status, response.read())
                return
            while line := response.readline(b"\n"):
                first = record.first is None
                if record.said.event(line, first=first) and first:
                    record.first = self.now
        if not record.said.done and record.said.error is None:
            record.said.error = "broken_stream"

    def _ended(self, record: Record) -> None:
        self.progress.ended(record)
        try:
            self._records.write(json.dumps(record.line()) + "\n")
        except OSError as error:  # the disk is full: a run without records is none
            self.fault = error
            self.end()
        self._events.request.fire(
            request_type="stream" if record.planned.stream else "whole",
            name=f"{record.planned.stage}: {record.planned.kind}",
            response_time=None if record.error == DROPPED else (record.ended - record.sent) * 1000,
            response_length=record.said.completion_tokens or 0,
            exception=record.error,
            context={},
        )


def main() -> None:
    """`python -m ops.load.driving FOLDER KEY_VARIABLE [WEB_PORT]`."""
    try:
        _drive()
    except OSError as error:  # also when closing the file
        sys.exit(f"the requests can't be recorded: {error}")


def _drive() -> None:
    folder, key = Path(sys.argv[1]), os.environ.get(sys.argv[2], "")
    run = Run.read(folder)
    profile = parse_profile(run.profile)
    schedule = plan(profile)
    environment = Environment(host=run.url, stop_timeout=_STOP_S)
    over = Event()
    with requests_file(folder).open("w", buffering=1, encoding="utf-8") as records:
        driver = Driver(profile, run, key, records, environment.events)

        class Callers(locust.User):
            """All callers: one user that sends everything on time."""

            fixed_count = 1

            @locust.task
            def send(self) -> None:
                try:
                    driver.run(schedule)
                finally:
                    over.set()
                raise StopUser  # else Locust would begin again

        environment.user_classes = [Callers]
        stopping: Any = environment.events.test_stopping  # its method has no types
        stopping.add_listener(lambda **_: driver.end())
        for number in (signal.SIGINT, signal.SIGTERM):
            gevent.signal_handler(number, driver.end)
        runner = environment.create_local_runner()
        if sys.argv[3:]:
            environment.create_web_ui("127.0.0.1", int(sys.argv[3]))
        runner.start(1, 1)
        over.wait()
        runner.quit()
        if driver.fault:
            raise driver.fault


if __name__ == "__main__":
    main()
