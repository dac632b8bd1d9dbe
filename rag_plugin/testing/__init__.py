"""For tests of code that uses an Ollama server: a server without a model that produces every known failure.

>>> import json, urllib.request
>>> from rag_plugin.testing import FakeOllama
>>> with FakeOllama(models=["mine:latest"]) as server:
...     with urllib.request.urlopen(f"{server.url}/api/tags") as response:
...         [model["name"] for model in json.load(response)["models"]]
['mine:latest']

As a fixture, and with a fault:

    from rag_plugin import build_engine, errors
    from rag_plugin.testing import FakeOllama, faults

    @pytest.fixture
    def ollama():
        with FakeOllama() as server:
            yield server

    def test_my_page_shows_that_the_answer_broke_off(ollama):
        engine = build_engine("config.yaml", overrides={"llm.base_url": ollama.url, "llm.model": ollama.models[0]})
        ollama.fail(faults.drop(after=3))
        with pytest.raises(errors.AnswerBroken):
            engine.query("What does the heron eat?")
"""

from . import faults
from .connections import Request
from .counting import tokens
from .fake_ollama import FakeOllama
from .faults import Fault
from .model import Answer
from .replies import Moment, Reply, Wait

__all__ = ["Answer", "FakeOllama", "Fault", "Moment", "Reply", "Request", "Wait", "faults", "tokens"]
