"""Promise: backends share connections, and reach servers by the environment's proxies."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import certifi
import pytest
from asking import answer_to, ask
from fake_providers import DONE, SECRET, SOME, STOP, serving, streaming, usage
from starlette.responses import RedirectResponse, Response
from yarl import URL

from deployments.backends.openai_endpoint import connections
from deployments.backends.openai_endpoint.backend import OpenAIBackend
from deployments.backends.openai_endpoint.connections import proxy_of
from deployments.errors import ProviderError, Unreachable

Connect = Callable[..., OpenAIBackend]
ANSWER = streaming(SOME, STOP, usage(), DONE)


async def test_backends_of_one_server_share_its_connections(connect: Connect) -> None:
    with serving(ANSWER) as fake:
        for number in range(3):
            await answer_to(connect(fake.url, name=f"m{number}", model=f"m{number}"), ask())
    assert [request["model"] for request in fake.requests] == ["m0", "m1", "m2"]
    assert len(fake.connections) == 1


async def test_closing_a_backend_leaves_the_answers_of_others_alone(connect: Connect) -> None:
    with serving(streaming(SOME, 0.2, SOME, STOP, usage(), DONE)) as fake:
        one, other = connect(fake.url), connect(fake.url)
        async with aclosing(one.chat(ask(stream=True))) as chunks:
            await anext(chunks)
            await answer_to(other, ask())
            await other.aclose()
            assert "".join([chunk.text async for chunk in chunks]) == "some"
        await one.aclose()
        await one.aclose()  # twice is no harm
    assert asyncio.get_running_loop() not in connections._sessions


async def test_a_backend_opens_nothing_before_its_first_request(connect: Connect) -> None:
    for number in range(1000):
        connect(f"https://server-{number}.example")
    assert asyncio.get_running_loop() not in connections._sessions


async def test_a_connection_is_closed_with_the_answer_that_is_left(connect: Connect) -> None:
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        writer.write(head + b"connection: keep-alive\r\n\r\n" + SOME.encode())
        while await reader.read(1000):
            pass
        closed.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, asyncio.timeout(10):
        port = server.sockets[0].getsockname()[1]
        backend = connect(f"http://127.0.0.1:{port}")
        async with aclosing(backend.chat(ask(stream=True))) as chunks:
            await anext(chunks)
        await closed.wait()
        await backend.aclose()


async def test_a_redirect_is_followed_with_the_request(connect: Connect) -> None:
    def answer(request: object, body: object) -> Response:
        if len(fake.requests) == 1:
            return RedirectResponse(f"{fake.url}/elsewhere", 307)
        return ANSWER(request, body)  # type: ignore[arg-type]

    with serving(answer) as fake:
        assert (await answer_to(connect(fake.url), ask())).text == "some"
    assert fake.paths == ["/v1/chat/completions", "/elsewhere"]
    assert fake.requests[0] == fake.requests[1]
    assert fake.headers[1]["authorization"] == f"Bearer {SECRET}"


async def test_the_key_is_not_sent_to_another_server(connect: Connect) -> None:
    def answer(request: object, body: object) -> Response:
        return RedirectResponse(f"{other.url}/v1", 307)

    with serving(ANSWER) as other, serving(answer) as fake:
        await answer_to(connect(fake.url), ask())
    assert "authorization" not in other.headers[0]


async def test_a_redirect_without_an_aim_is_the_servers_failure(connect: Connect) -> None:
    def nowhere(request: object, body: object) -> Response:
        return Response(status_code=302)

    def again(request: object, body: object) -> Response:
        return RedirectResponse(f"{fake.url}/again", 307)

    with serving(nowhere) as fake, pytest.raises(ProviderError):
        await answer_to(connect(fake.url), ask())
    with serving(again) as fake, pytest.raises(Unreachable):
        await answer_to(connect(fake.url), ask())


async def test_a_server_sets_no_cookies(connect: Connect) -> None:
    def answer(request: object, body: object) -> Response:
        response = ANSWER(request, body)  # type: ignore[arg-type]
        response.set_cookie("session", "1", domain="localhost.localdomain")
        return response

    with serving(answer) as fake:
        backend = connect(fake.url)
        await answer_to(backend, ask())
        await answer_to(backend, ask())
    assert "cookie" not in fake.headers[1]


def test_the_environment_names_trusted_authorities(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, mark, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----\n")
    one = tmp_path / "one.pem"
    one.write_text(first + mark)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    assert len(connections._tls.__wrapped__().get_ca_certs()) > 50
    monkeypatch.setenv("SSL_CERT_FILE", str(one))
    assert len(connections._tls.__wrapped__().get_ca_certs()) == 1


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without proxies."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, "http://a.example/v1", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://a.example/v1", "http://p:1"),
        ({"http_proxy": "p:1"}, "http://a.example/v1", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "https://a.example/v1", None),
        ({"HTTPS_PROXY": "http://me:pass@p:1"}, "https://a.example/v1", "http://me:pass@p:1"),
        ({"ALL_PROXY": "http://p:1"}, "https://a.example/v1", "http://p:1"),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "example"}, "http://a.example/v1", None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "b.example"}, "http://a.example", "http://p:1"),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "*"}, "http://a.example", None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "10.0.0.1:80"}, "http://10.0.0.1", None),
    ],
)
def test_the_environment_names_the_proxy(
    environment: pytest.MonkeyPatch, variables: dict[str, str], url: str, proxy: str | None
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    assert proxy_of(URL(url)) == proxy


async def test_requests_go_through_the_proxy(
    connect: Connect, environment: pytest.MonkeyPatch
) -> None:
    with serving(ANSWER) as proxy:
        environment.setenv("HTTP_PROXY", proxy.url.replace("http://", "http://me:pass@"))
        assert (await answer_to(connect("http://nowhere.invalid"), ask())).text == "some"
    assert proxy.headers[0]["host"] == "nowhere.invalid"
    assert proxy.headers[0]["proxy-authorization"].startswith("Basic ")
    assert proxy.headers[0]["authorization"] == f"Bearer {SECRET}"


async def test_a_proxy_that_lets_nothing_through_is_unreachable(
    connect: Connect, environment: pytest.MonkeyPatch
) -> None:
    with serving(lambda request, body: Response(status_code=403)) as proxy:
        environment.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(Unreachable):
            await answer_to(connect("https://nowhere.invalid"), ask())


def test_a_proxy_of_another_kind_is_refused_at_the_start(
    connect: Connect, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("ALL_PROXY", "socks5://me:pass@p:1")
    with pytest.raises(ValueError, match="socks5") as error:
        connect("http://nowhere.invalid")
    assert "pass" not in str(error.value)
