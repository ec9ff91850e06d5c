"""Load: a number of connections that are always busy, or a rate of requests that never waits."""

import asyncio
import time
from dataclasses import dataclass, field

from ops.bench.overhead.client import Connection, request
from ops.bench.overhead.messages import Ask

PATIENCE_S = 10.0  # a request of an open load that takes longer is not answered
_LONGEST_S = 60.0  # a request of a closed load
_PAUSE_S = 0.1  # after a fault, so that there is no storm of new connections


@dataclass(frozen=True)
class Target:
    """Where requests are sent: a server's URL, a caller's key, the model that is asked."""

    url: str
    key: str
    model: str


@dataclass
class Measured:
    """What was seen of a load.

    Attributes:
        seconds: how long it was measured.
        offered: requests that were to be answered.
        latencies: seconds of each right answer.
        faults: what came instead of an answer.
    """

    seconds: float
    offered: int = 0
    latencies: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


async def closed(
    target: Target, ask: Ask, connections: int, seconds: float, *, lead_s: float = 1.0
) -> Measured:
    """Keeps each connection busy, one request after the other.

    Answers that end within `seconds` are counted, after a lead that isn't.
    """
    measured, caller = Measured(seconds), _Caller(target, ask, _LONGEST_S)
    begin = time.perf_counter() + lead_s
    end = begin + seconds

    async def keep_busy() -> None:
        connection = None
        while (began := time.perf_counter()) < end:
            connection, fault = await caller.ask(connection)
            ended = time.perf_counter()
            if fault is not None:
                measured.faults.append(fault)
                await asyncio.sleep(_PAUSE_S)
            elif begin <= ended < end:
                measured.latencies.append(ended - began)
        if connection is not None:
            connection.close()

    await asyncio.gather(*(keep_busy() for _ in range(connections)))
    measured.offered = len(measured.latencies) + len(measured.faults)
    return measured


async def opened(target: Target, ask: Ask, rate: float, seconds: float) -> Measured:
    """Sends `rate` requests a second at even intervals, whether or not others were answered.

    Each takes a connection that is free, or a new one.
    """
    measured, caller = Measured(seconds), _Caller(target, ask, PATIENCE_S)
    free: list[Connection] = []

    async def ask_once() -> None:
        began = time.perf_counter()
        connection, fault = await caller.ask(free.pop() if free else None)
        if connection is not None:
            measured.latencies.append(time.perf_counter() - began)
            free.append(connection)
        else:
            measured.faults.append(str(fault))

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(began + number / rate - time.perf_counter())
            tasks.create_task(ask_once())
            measured.offered += 1
    for connection in free:
        connection.close()
    return measured


async def counted(target: Target, ask: Ask, connections: int, number: int) -> Measured:
    """Sends `number` requests over connections that are always busy."""
    caller, left = _Caller(target, ask, _LONGEST_S), iter(range(number))
    began = time.perf_counter()
    measured = Measured(0.0, number)

    async def keep_busy() -> None:
        connection = None
        for _ in left:
            sent = time.perf_counter()
            connection, fault = await caller.ask(connection)
            if fault is None:
                measured.latencies.append(time.perf_counter() - sent)
            else:
                measured.faults.append(fault)
        if connection is not None:
            connection.close()

    await asyncio.gather(*(keep_busy() for _ in range(connections)))
    measured.seconds = time.perf_counter() - began
    return measured


class _Caller:
    """Asks one server for the same answer again and again."""

    def __init__(self, target: Target, ask: Ask, patience_s: float) -> None:
        self._url = target.url
        self._ask = ask
        self._target = target
        self._same = None if ask.new else self._request()
        self._patience_s = patience_s

    def _request(self) -> bytes:
        return request(self._target.url, self._target.key, self._ask.body(self._target.model))

    async def ask(self, connection: Connection | None) -> tuple[Connection | None, str | None]:
        """Asks once; returns the connection, if it can be used again, or else the fault.

        Args:
            connection: a connection to use; without an open one, a new one is made.
        """
        try:
            async with asyncio.timeout(self._patience_s):
                if connection is None or not connection.is_open:
                    connection = await Connection.open(self._url)
                response = await connection.ask(self._same or self._request())
        except OSError as error:  # TimeoutError, too
            fault = repr(error)
        else:
            if response.status == 200 and self._ask.answered_by(response.body):
                return connection, None
            fault = f"{response.status} {response.body[-500:].decode(errors='replace')}"
        if connection is not None:
            connection.close()
        return None, fault
