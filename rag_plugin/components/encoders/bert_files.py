"""Loads a `BertModel` from the files of a sentence-transformers model; None for every other model.

Most small English encoders (MiniLM, bge, e5, gte, arctic, mxbai) are such models. Importing this module loads torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .bert_model import BertEncoder, BertModel, Normalize, Pooling, WordPieceTokenizer

_PACKAGE = "sentence_transformers"
_MODULES = (
    (f"{_PACKAGE}.models.Transformer", f"{_PACKAGE}.base.modules.transformer.Transformer"),
    (f"{_PACKAGE}.models.Pooling", f"{_PACKAGE}.sentence_transformer.modules.pooling.Pooling"),
    (f"{_PACKAGE}.models.Normalize", f"{_PACKAGE}.base.modules.normalize.Normalize"),
)
_POOLINGS = {
    f"pooling_mode_{name}": name.partition("_")[0] for name in ("cls_token", "max_tokens", "mean_tokens", "lasttoken")
}
_SPECIAL_TOKENS = {f"{name.lower()}_token": f"[{name}]" for name in ("UNK", "SEP", "PAD", "CLS", "MASK")}

# Files that change how sentence-transformers loads a model.
_UNUSUAL_FILES = [
    *(f"sentence_{name}_config.json" for name in "roberta distilbert camembert albert xlm-roberta xlnet".split()),
    *"adapter_config.json added_tokens.json chat_template.jinja chat_template.json preprocessor_config.json".split(),
    *"processor_config.json video_preprocessor_config.json".split(),
]

# The settings of each config file for which this module computes the vectors of sentence-transformers: those of any
# value, and those with the values that are allowed. A file with another key or value is for sentence-transformers.
_ANY_VALUE = {
    "config": "_name_or_path attention_probs_dropout_prob bos_token_id classifier_dropout eos_token_id "
    "gradient_checkpointing hidden_dropout_prob hidden_size id2label initializer_range intermediate_size label2id "
    "layer_norm_eps max_position_embeddings num_attention_heads num_hidden_layers pad_token_id tie_word_embeddings "
    "transformers_version type_vocab_size use_cache vocab_size",
    "sentence_bert_config": "max_seq_length",
    "config_sentence_transformers": "__version__ default_prompt_name prompts similarity_fn_name truncate_dim",
    "pooling": "embedding_dimension word_embedding_dimension",
    "normalize": "",
    "tokenizer_config": "added_tokens_decoder backend clean_up_tokenization_spaces cls_token do_basic_tokenize "
    "is_local local_files_only mask_token max_length model_max_length name_or_path pad_token sep_token "
    "special_tokens_map_file stride truncation_strategy unk_token",
    "special_tokens_map": "cls_token mask_token pad_token sep_token unk_token",
}
_FLAG, _DTYPES = [True, False], [None, "float32", "float16", "bfloat16"]
_ALLOWED: dict[str, dict[str, list[Any]]] = {
    "config": {
        "model_type": ["bert"],
        "architectures": [["BertModel"]],
        "hidden_act": ["gelu"],
        "position_embedding_type": ["absolute"],
        **dict.fromkeys(("is_decoder", "add_cross_attention"), [False]),
        **dict.fromkeys(("dtype", "torch_dtype"), _DTYPES),
    },
    "sentence_bert_config": {
        "do_lower_case": _FLAG,
        "transformer_task": ["feature-extraction"],
        "modality_config": [{"text": {"method": "forward", "method_output_name": "last_hidden_state"}}],
        "module_output_name": ["token_embeddings"],
    },
    "config_sentence_transformers": {"model_type": ["SentenceTransformer"]},
    "pooling": {
        **dict.fromkeys([*_POOLINGS, "include_prompt"], _FLAG),
        **dict.fromkeys(("pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens"), [False]),
        "pooling_mode": [*_POOLINGS.values()],
    },
    "normalize": dict.fromkeys(("module_input_name", "module_output_name"), ["sentence_embedding"]),
    "tokenizer_config": {
        **dict.fromkeys(("do_lower_case", "tokenize_chinese_chars"), _FLAG),
        **dict.fromkeys(("padding_side", "truncation_side"), ["right"]),
        **dict.fromkeys(("additional_special_tokens", "extra_special_tokens"), [None, [], {}]),
        **dict.fromkeys(("never_split", "pad_to_multiple_of"), [None]),
        "pad_token_type_id": [0],
        "strip_accents": [None, *_FLAG],
        "tokenizer_class": ["BertTokenizer", "BertTokenizerFast"],
    },
    "special_tokens_map": {},
}


class _UnusualModel(Exception):
    """A file or setting for which equal vectors are not certain."""


def load_bert(folder: str, *, dtype: str = "auto", device: str | None = None) -> BertModel | None:
    """Load a model of BERT, pooling and optionally normalization from its folder.

    Args:
        folder: A local folder as sentence-transformers saves it, with `model.safetensors` and `tokenizer.json`.
        dtype: `float32`, `float16`, `bfloat16`, or `auto` for that of the config or of the stored weights.
        device: A torch device; None for the fastest one.

    Returns:
        None where a file is missing or malformed, or has a setting for which equal vectors are not certain; then
        sentence-transformers loads the model, or raises the error.
    """
    try:
        return _load(Path(folder), dtype, device)
    except (_UnusualModel, OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError):
        return None


def _load(folder: Path, dtype: str, device: str | None) -> BertModel:
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    _require(2 <= len(modules) <= len(_MODULES))
    _require(all(module["type"] in types and not module.get("kwargs") for module, types in zip(modules, _MODULES)))
    _require(modules[0]["path"] == "" and not any((folder / name).exists() for name in _UNUSUAL_FILES))
    config = _settings(folder, "config")
    sentence_config = _settings(folder, "sentence_bert_config", optional=True)
    library_config = _settings(folder, "config_sentence_transformers", optional=True)
    tokenizer_config = _settings(folder, "tokenizer_config")
    _check_tokenizer(folder, tokenizer_config)
    limit = min(int(tokenizer_config["model_max_length"]), config["max_position_embeddings"])
    limit = sentence_config.get("max_seq_length") or limit
    _require(limit <= config["max_position_embeddings"])
    pooling = _pooling(folder / modules[1]["path"], config["hidden_size"])
    for module in modules[2:]:
        _settings(folder / module["path"], "config", "normalize", optional=True)
    weights = _weights(folder / "model.safetensors", config)
    if dtype == "auto":
        stored = str(weights["embeddings.word_embeddings.weight"].dtype).removeprefix("torch.")
        dtype = config.get("dtype") or config.get("torch_dtype") or stored
    encoder = BertEncoder(config, weights, getattr(torch, dtype), torch.device(device or _fastest_device()))
    model = BertModel(encoder, pooling, *(Normalize() for _ in modules[2:]))
    model.tokenizer = WordPieceTokenizer(folder / "tokenizer.json", sentence_config.get("do_lower_case", False), limit)
    prompts = {"query": "", "document": "", **library_config.get("prompts", {})}
    model.prompts = {name: prompt or "" for name, prompt in prompts.items()}
    model.truncate_dim = library_config.get("truncate_dim")
    return model


def _require(condition: bool) -> None:
    if not condition:
        raise _UnusualModel


def _settings(folder: Path, name: str, kind: str | None = None, *, optional: bool = False) -> dict[str, Any]:
    """The settings of a config file, all of which are known for its kind; {} for an optional one that is missing."""
    path, kind = folder / f"{name}.json", kind or name
    if optional and not path.exists():
        return {}
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    any_value, allowed = _ANY_VALUE[kind].split(), _ALLOWED[kind]
    _require(all(key in any_value or (key in allowed and value in allowed[key]) for key, value in settings.items()))
    return settings


def _pooling(folder: Path, width: int) -> Pooling:
    config = _settings(folder, "config", "pooling")
    modes = (
        [config["pooling_mode"]]
        if "pooling_mode" in config
        else [_POOLINGS[key] for key in _POOLINGS if config.get(key)]
    )
    _require(len(modes) == 1 and width == config.get("embedding_dimension", config.get("word_embedding_dimension")))
    return Pooling(width, modes[0], config.get("include_prompt", True))


def _check_tokenizer(folder: Path, config: Mapping[str, Any]) -> None:
    """Check that `tokenizer.json` is what transformers makes of the vocabulary and the settings."""
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    names = _settings(folder, "special_tokens_map", optional=True)
    vocabulary = content["model"].pop("vocab")
    ids = {token: vocabulary[token] for token in _SPECIAL_TOKENS.values()}
    added = {str(token["id"]): token for token in content["added_tokens"]}
    _require("tokenizer_class" in config)
    for settings in (names, config):
        _require(all(_text(settings.get(name, token)) == token for name, token in _SPECIAL_TOKENS.items()))
    for tokens in (added, config.get("added_tokens_decoder") or added):
        _require({_text(token): int(number) for number, token in tokens.items()} == ids)
    model = {"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    _require(content["model"] == {"type": "WordPiece", **model})
    _require(content["pre_tokenizer"] == {"type": "BertPreTokenizer"})
    normalizer = {
        "clean_text": True,
        "handle_chinese_chars": config.get("tokenize_chinese_chars", True),
        "strip_accents": config.get("strip_accents"),
        "lowercase": config.get("do_lower_case", True),
    }
    _require(content["normalizer"] == {"type": "BertNormalizer", **normalizer})
    first, last = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ("[CLS]", "[SEP]"))
    processor = content["post_processor"]
    _require(processor["single"] == [first, {"Sequence": {"id": "A", "type_id": 0}}, last])
    _require(all(processor["special_tokens"][token]["ids"] == [ids[token]] for token in ("[CLS]", "[SEP]")))


def _text(token: str | Mapping[str, Any]) -> str | None:
    """The text of a special token; None for a token with other flags."""
    if isinstance(token, str):
        return token
    flags = any(token.get(flag) for flag in ("single_word", "lstrip", "rstrip", "normalized"))
    return None if flags or not token.get("special", True) else token["content"]


def _weights(path: Path, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights by name; a file of exactly those, but for the pooler, which pooling does not use."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], width),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], width),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in (f"encoder.layer.{number}" for number in range(config["num_hidden_layers"])):
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        square = [f"{layer}.attention.{name}" for name in ("self.query", "self.key", "self.value", "output.dense")]
        sizes = {**dict.fromkeys(square, (width, width)), f"{layer}.intermediate.dense": (inner, width)}
        for name, shape in {**sizes, f"{layer}.output.dense": (width, inner)}.items():
            shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    shapes |= {f"{name}.{part}": (width,) for name in norms for part in ("weight", "bias")}
    stored = load_file(path)
    weights = {name: stored[name] for name in shapes}
    _require(all(name in shapes or name.startswith(("pooler.", "embeddings.position_ids")) for name in stored))
    _require(all(weights[name].shape == shape for name, shape in shapes.items()))
    _require(all(weight.is_floating_point() for weight in weights.values()))
    return weights


def _fastest_device() -> str:
    if torch.cuda.is_available():
        return f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    if torch.backends.mps.is_available():
        return "mps"
    return "xpu" if hasattr(torch, "xpu") and torch.xpu.is_available() else "cpu"
