"""Names and defaults of settings stand in the component's signature; its implementation repeats no default."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from rag_plugin.components.encoders import components as encoders
from rag_plugin.components.encoders.ollama_encoder import OllamaEncoder, build_ollama_encoder
from rag_plugin.components.encoders.sentence_encoder import load_sentence_encoder
from rag_plugin.components.encoders.sentence_model import EncoderSettings
from rag_plugin.components.llms import components as llms
from rag_plugin.components.llms.ollama_llm import OllamaLLM, build_ollama_llm
from rag_plugin.components.llms.transformers_llm import load_transformers_llm
from rag_plugin.components.registry.settings import relay_settings
from rag_plugin.ollama.limits import Limits
from rag_plugin.ollama.server import OllamaServer

IMPLEMENTATIONS = [
    pytest.param(encoders.huggingface, load_sentence_encoder, id="encoder-huggingface"),
    pytest.param(encoders.ollama, build_ollama_encoder, id="encoder-ollama"),
    pytest.param(llms.huggingface, load_transformers_llm, id="llm-huggingface"),
    pytest.param(llms.ollama, build_ollama_llm, id="llm-ollama"),
]


def required(function: Callable[..., Any]) -> set[str]:
    """The parameters of a function apart from `**fields`; none has a default."""
    parameters = [item for item in inspect.signature(function).parameters.values() if item.kind is not item.VAR_KEYWORD]
    assert all(parameter.default is parameter.empty for parameter in parameters)
    return {parameter.name for parameter in parameters}


@pytest.mark.parametrize(("component", "implementation"), IMPLEMENTATIONS)
def test_an_implementation_takes_what_its_component_hands_over(
    component: Callable[..., Any], implementation: Callable[..., Any]
) -> None:
    handed_over = set(inspect.signature(component).parameters)
    taken = required(implementation)
    passed_on = {
        load_sentence_encoder: {field.name for field in fields(EncoderSettings)},
        build_ollama_encoder: {*OllamaEncoder.model_fields, "headers"},
        build_ollama_llm: set(OllamaLLM.model_fields),
    }.get(implementation, set())
    assert taken <= handed_over
    assert handed_over - taken <= passed_on
    if implementation is load_sentence_encoder:
        assert handed_over - taken == passed_on


def test_the_settings_of_the_encoder_have_no_defaults_of_their_own() -> None:
    assert all(field.default is MISSING and field.default_factory is MISSING for field in fields(EncoderSettings))
    for name in inspect.signature(encoders.ollama).parameters:
        if name in OllamaEncoder.model_fields and not name.endswith("_prompt") and name != "callback_manager":
            assert OllamaEncoder.model_fields[name].default is PydanticUndefined


def test_the_numbers_of_ollama_are_the_same_wherever_they_are_used() -> None:
    component = inspect.signature(llms.ollama).parameters
    for name in ("connect_timeout", "first_token_timeout", "token_timeout", "max_tokens", "retries"):
        assert OllamaLLM.model_fields[name].default == component[name].default
    limits = Limits()
    assert (limits.connect, limits.first_token, limits.token) == tuple(
        component[f"{name}_timeout"].default for name in ("connect", "first_token", "token")
    )
    assert OllamaServer("http://x").retries == component["retries"].default


def test_a_component_hands_over_its_defaults_too() -> None:
    @relay_settings
    def component(callback_manager: str, *, size: int, count: int = 3) -> Callable[..., dict[str, Any]]:
        return dict

    assert component("manager", size=1) == {"callback_manager": "manager", "size": 1, "count": 3}
    with pytest.raises(TypeError, match=r"missing a required (keyword-only )?argument: 'size'"):
        component("manager")
