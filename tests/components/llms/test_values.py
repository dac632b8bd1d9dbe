"""Values that Ollama's server refuses are config errors with the right form, and the fake server refuses them too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from rag_plugin import ConfigError, load_config
from rag_plugin.components.llms.ollama_llm import OllamaLLM
from rag_plugin.errors import LLMError, ServerUnreachable
from rag_plugin.ollama import http
from rag_plugin.ollama.options import OPTIONS, duration_problem, wrong_type
from rag_plugin.testing import FakeOllama

BASE: dict[str, Any] = {
    "reader": {"type": "directory", "path": "docs"},
    "encoder": {"type": "ollama", "model": "all-minilm"},
    "store": {"type": "faiss", "path": "index"},
}


def problem(slot: str, **settings: Any) -> Any:
    with pytest.raises(ConfigError) as caught:
        load_config({**BASE, slot: {"type": "ollama", "model": "m", **settings}})
    (found,) = caught.value.problems
    return found


@pytest.mark.parametrize("slot", ["llm", "encoder"])
@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("-1", "write -1 without quotes"),
        ("300", "write 300 without quotes, or 300s"),
        (" 5 ", "write 5 without quotes, or 5s"),
        ("forever", "or -1 to keep the model loaded"),
        ("1d", "write 24h"),
        ("2 days", "write 48h"),
        ("5 m", "write a time such as 10m"),
        ("5M", "write a time such as 10m"),
        ("", "write a time such as 10m"),
        ("9999999h", "write -1 without quotes"),
        ("-2562048h", "write -1 without quotes"),
        ("5124096h30m", "write -1 without quotes"),
        ("५m", "write a time such as 10m"),
        ("٣٠٠", "write a time such as 10m"),
    ],
)
def test_a_keep_alive_that_the_server_refuses_is_a_config_error(slot: str, value: str, hint: str) -> None:
    found = problem(slot, keep_alive=value)
    assert found.path == f"{slot}.keep_alive"
    assert repr(value) in found.message
    assert hint in found.hint


@pytest.mark.parametrize(
    "value",
    [
        "5m",
        "1h30m",
        "300ms",
        "-1m",
        "1.5h",
        ".5s",
        "0",
        "10us",
        "1µs",
        "1μs",
        "1.h",
        "+5m",
        "2562047h",
        -1,
        0,
        300,
        0.5,
        None,
    ],
)
def test_durations_of_go_and_numbers_are_accepted(value: Any) -> None:
    assert load_config({**BASE, "llm": {"type": "ollama", "model": "m", "keep_alive": value}})


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"num_gpu": "0"}, "the option 'num_gpu' is a whole number, not '0'", "write 0 without quotes"),
        ({"num_thread": 1.5}, "the option 'num_thread' is a whole number, not 1.5", "write a whole number"),
        ({"num_thread": True}, "the option 'num_thread' is a whole number, not True", "write a whole number"),
        ({"min_p": "0.1"}, "the option 'min_p' is a number, not '0.1'", "write 0.1 without quotes"),
        ({"use_mmap": "true"}, "the option 'use_mmap' is true or false, not 'true'", "write true without quotes"),
        ({"use_mlock": 1}, "the option 'use_mlock' is true or false, not 1", "write true or false"),
        ({"stop": "x"}, "the option 'stop' is a list of texts, not 'x'", "write a list of texts"),
    ],
)
def test_an_option_of_another_type_is_a_config_error(options: dict[str, Any], message: str, hint: str) -> None:
    found = problem("llm", options=options)
    assert (found.path, found.message, found.hint) == ("llm.options", message, hint)
    with pytest.raises(TypeError, match="the option"):
        OllamaLLM(model="m", additional_kwargs=options)


def test_the_option_stop_is_a_list_of_texts() -> None:
    config = load_config({**BASE, "llm": {"type": "ollama", "model": "m", "options": {"stop": ["a", "b"]}}})
    assert config.build("llm").additional_kwargs == {"stop": ["a", "b"]}
    with pytest.raises(TypeError, match="the option 'stop' is a list of texts, not \\[1\\]"):
        OllamaLLM(model="m", additional_kwargs={"stop": [1]})


@pytest.mark.parametrize("path", ["/api/chat", "/api/embed"])
def test_the_fake_server_refuses_what_the_config_refuses(path: str) -> None:
    values: list[dict[str, Any]] = [
        {"keep_alive": value} for value in ("-1", "300", "forever", "1d", "5m", "9999999h", "५m", 5)
    ]
    values += [{"options": {name: value}} for name in OPTIONS for value in ("0", 1, True, 0.5, ["x"], [1])]
    with FakeOllama(models=["m"]) as server:
        for body in values:
            message: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}]}
            reply = httpx.post(server.url + path, json={"model": "m", "input": "x", "stream": False, **message, **body})
            keep_alive = body.get("keep_alive")
            refused = duration_problem(keep_alive) if isinstance(keep_alive, str) else None
            for name, value in body.get("options", {}).items():
                refused = wrong_type(name, value)
            assert (reply.status_code == 200) == (refused is None), body
        refusal = httpx.post(server.url + path, json={"model": "m", "input": "x", "keep_alive": "-1"})
        assert refusal.json() == {"error": 'time: missing unit in duration "-1"'}
        refusal = httpx.post(server.url + path, json={"model": "m", "input": "x", "keep_alive": "9999999h"})
        assert refusal.json() == {"error": 'time: invalid duration "9999999h"'}


@pytest.mark.parametrize("slot", ["llm", "encoder"])
@pytest.mark.parametrize(
    "address", ["http://h:1 ", " http://h:1", "http://h:1\t", "http://h\u00a0:1", "http://h\u200b:1", "h o:1"]
)
def test_a_space_in_an_address_is_shown(slot: str, address: str) -> None:
    found = problem(slot, base_url=address)
    assert found.message == f"the address {ascii(address)} contains a space or an invisible character"
    assert found.hint == "remove it"


@pytest.mark.parametrize(
    "synthesizer", ["compact", "refine", "tree_summarize", "simple_summarize", "accumulate", "generation"]
)
def test_a_brace_in_any_template_gets_the_hint(synthesizer: str) -> None:
    name = {"tree_summarize": "summary_template", "generation": "simple_template"}.get(synthesizer, "text_qa_template")
    section = {"type": synthesizer, name: 'Answer as {"a": 1}: {context_str} {query_str}'}
    with pytest.raises(ConfigError) as caught:
        load_config({**BASE, "llm": {"type": "ollama", "model": "m"}, "synthesizer": section})
    assert any("a plain brace is written twice: {{ or }}" in problem.hint for problem in caught.value.problems)


# ---------------------------------------------------------------------------------- the environment

# Several variables in each, since a process takes seconds; each alone fails in the package `ollama`, or in httpx.
ENVIRONMENTS: list[dict[str, str]] = [
    {"ALL_PROXY": "socks5://127.0.0.1:9", "HTTPS_PROXY": "socks4://127.0.0.1:9", "SSL_CERT_FILE": "/nowhere/cert.pem"},
    {"all_proxy": "socks5h://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "OLLAMA_HOST": "http://[bad"},
    {"NO_PROXY": "[::1]", "HTTP_PROXY": "nonsense://:x", "SSL_CERT_DIR": "/nowhere", "OLLAMA_HOST": ""},
]

PROGRAM = """
import asyncio, os, sys
before = dict(os.environ)
from rag_plugin import load_config
config = load_config({
    "reader": {"type": "directory", "path": "docs"},
    "encoder": {"type": "ollama", "model": "m", "base_url": sys.argv[1]},
    "store": {"type": "faiss", "path": "index"},
    "llm": {"type": "ollama", "model": "m", "base_url": sys.argv[1]},
})
llm, encoder = config.build("llm"), config.build("encoder")
assert str(llm.complete("question")) == "Yes, I can."
assert str(asyncio.run(llm.acomplete("question"))) == "Yes, I can."
assert len(encoder.get_text_embedding("text")) == len(asyncio.run(encoder.aget_text_embedding("text")))
assert dict(os.environ) == before
"""


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=str)
def test_a_local_server_is_reached_whatever_the_environment_holds(environment: dict[str, str], tmp_path: Path) -> None:
    cleaned = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
    with FakeOllama(models=["m"]) as server:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, server.url],
            env={**cleaned, **environment, "PYTHONPATH": str(Path(__file__).parents[3])},
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"SSL_CERT_FILE": "/nowhere/cert.pem"}, "SSL_CERT_FILE"),
        ({"SSL_CERT_FILE": "/nowhere/cert.pem", "SSL_CERT_DIR": "/"}, "SSL_CERT_FILE"),
        ({"SSL_CERT_FILE": __file__}, "SSL_CERT_FILE"),
        ({"SSLKEYLOGFILE": "/nowhere/keys"}, "SSLKEYLOGFILE"),
        ({"SSLKEYLOGFILE": "/nowhere/keys", "SSL_CERT_DIR": "/"}, "SSLKEYLOGFILE"),
    ],
    ids=str,
)
async def test_the_variable_that_prevents_tls_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], name: str
) -> None:
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    http._ssl_context.cache_clear()
    llm = OllamaLLM(model="m", base_url="https://127.0.0.1:9")
    try:
        with pytest.raises(ServerUnreachable, match=f": {name} cannot be used: .*; unset {name}, or set it to"):
            llm.complete("question")
        with pytest.raises(ServerUnreachable, match=f": {name} cannot be used"):
            await llm.acomplete("question")
    finally:
        http._ssl_context.cache_clear()


@pytest.mark.parametrize(
    ("scheme", "variable", "is_named"),
    [
        ("https", "HTTPS_PROXY", True),
        ("https", "all_proxy", True),
        ("http", "http_proxy", True),
        ("http", "HTTPS_PROXY", False),
        ("https", "NO_PROXY", False),
    ],
)
@pytest.mark.parametrize(
    "failure", [httpx.ConnectError("refused"), httpx.ConnectTimeout("")], ids=["refused", "timeout"]
)
def test_a_proxy_variable_is_named_where_a_remote_server_is_unreachable(
    monkeypatch: pytest.MonkeyPatch, scheme: str, variable: str, is_named: bool, failure: Exception
) -> None:
    async def fail(*_: Any) -> Any:
        raise failure

    for name in [name for name in os.environ if name.upper().endswith("_PROXY")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(variable, "socks5://127.0.0.1:9")
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", fail)
    for host, expected in (("gpu.test", is_named), ("127.0.0.1", False)):
        with pytest.raises(LLMError) as caught:
            OllamaLLM(model="m", base_url=f"{scheme}://{host}:9", retries=0).complete("question")
        assert (f"{variable} is not used: " in str(caught.value)) == expected
