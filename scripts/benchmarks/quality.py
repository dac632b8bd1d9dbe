"""Measures nDCG@10 of each retriever, and of exact search over the same vectors.

    .venv/bin/python scripts/benchmarks/quality.py DATA

DATA is a folder in the layout of BEIR: corpus.jsonl, queries.jsonl, and qrels.tsv, or qrels-files.tsv where whole
files are judged, whose pages are the documents (`file.pdf#p3`).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from common import MODEL, model_folder, print_machine, read_jsonl, read_tsv

Scores = dict[str, dict[str, float]]
"""Question id → document id → score of the document's best node."""


def settings_for(folder: Path, records: list[dict[str, Any]]) -> dict[str, Any]:
    """A config that indexes these records into a folder."""
    path = folder / "corpus.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    titled = all("title" in record for record in records)
    return {
        "reader": {"type": "jsonl", "path": str(path), "id": "_id", "text": ["title", "text"] if titled else "text"},
        "encoder": {"type": "huggingface", "model": MODEL},
        "store": {"type": "faiss", "path": str(folder / "index")},
        "retriever": {"type": "vector", "top_k": 50},
    }


RETRIEVERS: dict[str, dict[str, Any]] = {
    "vector": {"type": "vector"},
    "lexical": {"type": "lexical"},
    "hybrid, relative score": {"type": "hybrid"},
    "hybrid, reciprocal rank": {"type": "hybrid", "fusion": "reciprocal_rank"},
}


class Judgements:
    """Questions with the relevance of documents."""

    def __init__(self, data: Path, records: list[dict[str, Any]]) -> None:
        self.by_file = not (data / "qrels.tsv").exists()
        relevant: Scores = {}
        for question, document, score in read_tsv(data / ("qrels-files.tsv" if self.by_file else "qrels.tsv")):
            relevant.setdefault(question, {})[document] = float(score)
        texts = {record["_id"]: record["text"] for record in read_jsonl(data / "queries.jsonl")}
        self.relevant = relevant
        self.questions = {name: text for name, text in texts.items() if name in relevant}
        documents = dict.fromkeys(self.judged(record["_id"]) for record in records)
        self.columns = {document: number for number, document in enumerate(documents)}

    def judged(self, document: Any) -> str:
        """The id that the judgements use for a document."""
        return str(document).rpartition("#")[0] if self.by_file else str(document)

    def collect(self, scores: Scores, question: str, document: Any, score: float) -> None:
        best = scores.setdefault(question, {})
        best[self.judged(document)] = max(best.get(self.judged(document), -1e9), score)

    def ndcg(self, scores: Scores) -> float:
        """Mean nDCG@10."""
        import numpy as np
        from sklearn.metrics import ndcg_score

        truth = np.zeros((len(self.questions), len(self.columns)))
        results = np.full(truth.shape, -1e9)
        for row, question in enumerate(self.questions):
            for matrix, values in ((truth, self.relevant[question]), (results, scores.get(question, {}))):
                for document, score in values.items():
                    matrix[row, self.columns[document]] = score
        return float(ndcg_score(truth, results, k=10))


def main() -> None:
    from sentence_transformers import SentenceTransformer

    from rag_plugin import build_engine

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--documents", type=int, help="number of documents to index; all by default")
    arguments = parser.parse_args()
    print_machine()
    records = read_jsonl(arguments.data / "corpus.jsonl", arguments.documents)
    judgements = Judgements(arguments.data, read_jsonl(arguments.data / "corpus.jsonl"))
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_for(Path(folder), records)
        engine = build_engine(settings)
        figures: dict[str, float] = {}
        for name, retriever in RETRIEVERS.items():
            part = build_engine(
                {**settings, "retriever": {**retriever, "top_k": 100}}, sync="never", encoder=engine.encoder
            )
            scores: Scores = {}
            for question, text in judgements.questions.items():
                for hit in part.retrieve(text):
                    judgements.collect(scores, question, hit.node.ref_doc_id, float(hit.score or 0.0))
            figures[name] = judgements.ndcg(scores)
        nodes = engine.store.get_nodes()
    model = SentenceTransformer(str(model_folder()), local_files_only=True)
    vectors = model.encode([node.get_content() for node in nodes], normalize_embeddings=True)
    queries = model.encode(list(judgements.questions.values()), normalize_embeddings=True)
    exact: Scores = {}
    for question, similarities in zip(judgements.questions, (queries @ vectors.T).tolist()):
        for node, similarity in zip(nodes, similarities):
            judgements.collect(exact, question, node.ref_doc_id, similarity)
    print(f"{arguments.data.name}: {len(records)} documents, {len(nodes)} nodes, {len(judgements.questions)} questions")
    for name, value in {"exact search": judgements.ndcg(exact), **figures}.items():
        print(f"nDCG@10  {name:<24} {value:.4f}")


if __name__ == "__main__":
    main()
