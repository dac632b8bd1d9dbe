"""A BERT encoder with pooling, computed by torch and tokenizers alone. Importing this module loads torch.

Importing the models of transformers takes as long as importing torch (they load torch._dynamo, torch.distributed and
sympy), and sentence-transformers adds scikit-learn and scipy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import Tokenizer, normalizers
from torch import Tensor
from torch.nn import functional


class BertModel(torch.nn.Sequential):
    """Transformer, pooling and optionally normalization, with the attributes of a SentenceTransformer."""

    tokenizer: WordPieceTokenizer
    prompts: dict[str, str]
    truncate_dim: int | None

    @property
    def transformers_model(self) -> BertEncoder:
        """The encoder, whose `config` has the model's limits."""
        encoder = self[0]
        assert isinstance(encoder, BertEncoder)
        return encoder

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.transformers_model.device

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the weights."""
        return self.transformers_model.dtype

    @property
    def max_seq_length(self) -> int:
        """Maximum tokens of a text, special tokens included."""
        return self.tokenizer.model_max_length

    @max_seq_length.setter
    def max_seq_length(self, limit: int) -> None:
        self.tokenizer.model_max_length = limit

    def get_backend(self) -> str:
        """As in sentence-transformers."""
        return "torch"

    def get_embedding_dimension(self) -> int:
        """Numbers of a vector."""
        width = int(self.transformers_model.config.hidden_size)
        return width if self.truncate_dim is None else min(width, self.truncate_dim)

    def preprocess(self, texts: Sequence[str], prompt: str = "", **_: Any) -> dict[str, Any]:
        """Token ids and mask of each text, and `prompt_length` in tokens with the first special token."""
        encodings = self.tokenizer.backend_tokenizer.encode_batch([prompt + text for text in texts])
        features: dict[str, Any] = {
            "input_ids": [encoding.ids for encoding in encodings],
            "attention_mask": [encoding.attention_mask for encoding in encodings],
        }
        if prompt:
            features["prompt_length"] = len(self.tokenizer.backend_tokenizer.encode(prompt).ids) - 1
        return features

    def forward(self, input: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Adds `token_embeddings`, shape (texts, tokens, width), and `sentence_embedding`, shape (texts, width)."""
        features = input
        for module in self:
            features = module(features)
        return features


class WordPieceTokenizer:
    """A tokenizer that truncates to `model_max_length` tokens, with the attributes of one of transformers."""

    model_input_names = ("input_ids", "attention_mask")

    def __init__(self, path: Path, lowercase: bool, max_length: int) -> None:
        self.backend_tokenizer = Tokenizer.from_file(str(path))
        self.backend_tokenizer.no_padding()
        if lowercase:
            steps = [normalizers.Lowercase(), self.backend_tokenizer.normalizer]
            self.backend_tokenizer.normalizer = normalizers.Sequence(steps)
        self.pad_token_id = self.backend_tokenizer.token_to_id("[PAD]")
        self.model_max_length = max_length

    @property
    def model_max_length(self) -> int:
        """Maximum tokens of a text, special tokens included."""
        return self._max_length

    @model_max_length.setter
    def model_max_length(self, limit: int) -> None:
        self._max_length = limit
        self.backend_tokenizer.enable_truncation(limit)

    def num_special_tokens_to_add(self) -> int:
        """Tokens that are added to each text."""
        return int(self.backend_tokenizer.num_special_tokens_to_add(is_pair=False))

    def pad(self, features: Mapping[str, Sequence[list[int]]], **_: Any) -> dict[str, Tensor]:
        """Rows of different lengths as tensors, padded at the end."""
        longest = max(map(len, features["input_ids"]))
        fills = {"input_ids": self.pad_token_id}
        return {
            name: torch.tensor([row + [fills.get(name, 0)] * (longest - len(row)) for row in rows])
            for name, rows in features.items()
        }


class BertEncoder(torch.nn.Module):
    """The transformer of BERT, as transformers computes it with scaled dot product attention."""

    def __init__(
        self, config: Mapping[str, Any], weights: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__()
        self.config = SimpleNamespace(**config)
        self._weights = {name: weight.to(device=device, dtype=dtype) for name, weight in weights.items()}
        self.dtype, self.device = dtype, self._weights["embeddings.word_embeddings.weight"].device
        self._epsilon = float(config["layer_norm_eps"])

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        ids, mask = features["input_ids"], features["attention_mask"].bool()
        embeddings = {
            name: self._weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "token_type", "position")
        }
        states = functional.embedding(ids, embeddings["word"]) + embeddings["token_type"][0]
        states = self._norm(states + embeddings["position"][: ids.shape[1]], "embeddings.LayerNorm")
        visible = None if mask.all() else mask[:, None, None, :]
        for number in range(self.config.num_hidden_layers):
            states = self._layer(states, visible, f"encoder.layer.{number}")
        return {**features, "token_embeddings": states}

    def _layer(self, states: Tensor, visible: Tensor | None, layer: str) -> Tensor:
        heads = self.config.num_attention_heads
        query, key, value = (
            self._linear(states, f"{layer}.attention.self.{name}").view(*states.shape[:2], heads, -1).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        context = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        attended = self._linear(context.transpose(1, 2).flatten(2), f"{layer}.attention.output.dense")
        states = self._norm(attended + states, f"{layer}.attention.output.LayerNorm")
        inner = functional.gelu(self._linear(states, f"{layer}.intermediate.dense"))
        return self._norm(self._linear(inner, f"{layer}.output.dense") + states, f"{layer}.output.LayerNorm")

    def _linear(self, states: Tensor, name: str) -> Tensor:
        return functional.linear(states, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, states: Tensor, name: str) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(states, weight.shape, weight, bias, self._epsilon)


class Pooling(torch.nn.Module):
    """One vector of the vectors of a text's tokens, as in sentence-transformers."""

    def __init__(self, embedding_dimension: int, pooling_mode: str, include_prompt: bool = True) -> None:
        super().__init__()
        self.embedding_dimension, self.pooling_mode = embedding_dimension, pooling_mode
        self.include_prompt = include_prompt

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        states, mask = features["token_embeddings"], features["attention_mask"]
        if not self.include_prompt and "prompt_length" in features:
            mask = mask.clone()
            mask[:, : features["prompt_length"]] = 0
        if self.pooling_mode == "mean":
            weights = mask.unsqueeze(-1).to(states.dtype)
            total = (states * weights).sum(dim=1, dtype=torch.float32)
            vectors = (total / weights.sum(dim=1, dtype=torch.float32).clamp(min=1e-9)).to(states.dtype)
        elif self.pooling_mode == "max":
            vectors = states.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(dim=1)
        else:
            positions = torch.arange(mask.shape[1], device=mask.device) * mask
            index = mask.argmax(dim=1) if self.pooling_mode == "cls" else positions.argmax(dim=1)
            vectors = states[torch.arange(len(states), device=states.device), index]
        return {**features, "sentence_embedding": vectors}


class Normalize(torch.nn.Module):
    """Scales vectors to length 1."""

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return {**features, "sentence_embedding": functional.normalize(features["sentence_embedding"], p=2, dim=-1)}
