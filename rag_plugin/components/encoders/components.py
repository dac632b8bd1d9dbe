"""Encoder components: text to vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ...ollama import limits
from ..model_files.settings import Revision, TrustRemoteCode
from ..ollama_settings import DEFAULT_BASE_URL, BaseUrl, Headers, KeepAlive, Retries, valid_address, valid_keep_alive
from ..registry.component import rule
from ..registry.path_settings import ModelFiles
from ..registry.settings import relay_settings

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.callbacks import CallbackManager

    from .sentence_encoder import SentenceEncoder

QueryPrompt = Annotated[
    str | None,
    Field(description="Text put before a question; unset, the model's own, or that of its family (e5, bge, ...)."),
]
DocumentPrompt = Annotated[
    str | None, Field(description="Text put before a node's text; unset, the model's own, or that of its family.")
]
TruncateDim = Annotated[
    int | None,
    Field(gt=0, description="Keep only so many leading numbers of a vector; for models trained for it."),
]


@relay_settings
def huggingface(
    callback_manager: CallbackManager,
    *,
    model: Annotated[
        str,
        ModelFiles,
        Field(
            min_length=1,
            description="A hub id (`BAAI/bge-small-en-v1.5`), a folder (`./models/mine`), or files inside an installed "
            "Python package (`package:NAME` or `package:NAME/inner/path`).",
        ),
    ],
    query_prompt: QueryPrompt = None,
    document_prompt: DocumentPrompt = None,
    pooling: Annotated[
        Literal["mean", "cls", "max", "lasttoken"] | None,
        Field(
            description="How token vectors are combined; unset, as in the model's config, mean for a plain transformer."
        ),
    ] = None,
    normalize: Annotated[
        bool, Field(description="Scale vectors to length 1; false also removes the model's own normalization.")
    ] = True,
    max_length: Annotated[
        int | None, Field(gt=0, description="Maximum tokens of a text; the rest is cut. Unset, the model's limit.")
    ] = None,
    truncate_dim: TruncateDim = None,
    dtype: Annotated[
        Literal["auto", "float32", "float16", "bfloat16"],
        Field(description="Data type of the weights; `auto`, as stored. Vectors are always float32."),
    ] = "auto",
    device: Annotated[
        str | None, Field(description="`cpu`, `cuda`, `cuda:1`, `mps`; unset, the fastest available.")
    ] = None,
    devices: Annotated[
        list[str] | None,
        Field(
            min_length=1,
            description="One process for each, which share the texts of a sync: `[cuda:0, cuda:1]` or `[cpu, cpu]`. "
            "Questions are encoded on `device`.",
        ),
    ] = None,
    backend: Annotated[
        Literal["torch", "onnx", "openvino"],
        Field(
            description='Runtime of the model; `openvino` needs `pip install "rag-plugin[openvino]"`, `onnx` optimum.'
        ),
    ] = "torch",
    batch_size: Annotated[
        Literal["auto"] | Annotated[int, Field(gt=0)],
        Field(description="Texts in one batch; `auto`, by a budget of tokens."),
    ] = "auto",
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
) -> Callable[..., SentenceEncoder]:
    """A sentence-transformers or plain transformer model, in this process. `rag-plugin fetch` downloads it."""
    from .sentence_encoder import load_sentence_encoder

    return load_sentence_encoder


@rule(valid_address)
@rule(valid_keep_alive)
@relay_settings
def ollama(
    callback_manager: CallbackManager,
    *,
    model: Annotated[str, Field(min_length=1, description="A model's name on the server, such as `nomic-embed-text`.")],
    base_url: BaseUrl = DEFAULT_BASE_URL,
    query_prompt: QueryPrompt = None,
    document_prompt: DocumentPrompt = None,
    normalize: Annotated[
        bool, Field(description="Scale vectors to length 1; false keeps the server's vectors.")
    ] = True,
    truncate_dim: TruncateDim = None,
    context_window: Annotated[
        int | None, Field(gt=0, description="Maximum tokens of a text; unset, the server's default.")
    ] = None,
    timeout: Annotated[
        float,
        Field(gt=0, description="Seconds to wait for the vectors of a batch; the model may have to be loaded first."),
    ] = limits.EMBEDDING_TIMEOUT_SECONDS,
    retries: Retries = limits.RETRIES,
    keep_alive: KeepAlive = None,
    headers: Headers = None,
) -> Callable[..., BaseEmbedding]:
    """A model on an Ollama server. Building it sends no request; a text longer than its context is an error."""
    from .ollama_encoder import build_ollama_encoder

    return build_ollama_encoder
