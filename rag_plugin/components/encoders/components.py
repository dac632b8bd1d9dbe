"""Encoders: what turns text into vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ..ollama_settings import LOCAL, BaseUrl, Headers, KeepAlive, Retries, address_that_can_be
from ..registry.component import rule
from ..registry.path_settings import ModelFiles

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.callbacks import CallbackManager
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

QueryPrompt = Annotated[
    str | None,
    Field(description="Text put before a question; unset, the model's own, or that of its family (e5, bge, ...)."),
]
DocumentPrompt = Annotated[
    str | None, Field(description="Text put before a node's text; unset, the model's own, or that of its family.")
]


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
        Field(description="How token vectors become one; unset, as the model says, and mean for a bare transformer."),
    ] = None,
    normalize: Annotated[
        bool, Field(description="Scale vectors to length 1; false also drops a model's own scaling.")
    ] = True,
    max_length: Annotated[
        int | None, Field(gt=0, description="The most tokens of a text that are read; unset, the model's own limit.")
    ] = None,
    truncate_dim: Annotated[
        int | None,
        Field(gt=0, description="Keep only so many numbers of a vector; for models that were trained for it."),
    ] = None,
    dtype: Annotated[
        Literal["auto", "float32", "float16", "bfloat16"],
        Field(description="The numbers' type in the model; `auto`, as stored. Vectors are float32 always."),
    ] = "auto",
    device: Annotated[
        str | None, Field(description="Where to compute: `cpu`, `cuda`, `cuda:1`, `mps`; unset, the best there is.")
    ] = None,
    devices: Annotated[
        list[str] | None,
        Field(
            min_length=1,
            description="A process for each, which share the texts of a sync: `[cuda:0, cuda:1]` or `[cpu, cpu]`. "
            "Questions are encoded on `device`.",
        ),
    ] = None,
    backend: Annotated[
        Literal["torch", "onnx", "openvino"],
        Field(
            description='What runs the model; `openvino` needs `pip install "rag-plugin[openvino]"`, `onnx` optimum.'
        ),
    ] = "torch",
    batch_size: Annotated[
        Literal["auto"] | Annotated[int, Field(gt=0)],
        Field(description="The most texts that the model sees at once; `auto`, as many short or few long ones as fit."),
    ] = "auto",
    revision: Annotated[str | None, Field(description="The hub revision: a branch, tag or commit.")] = None,
    trust_remote_code: Annotated[
        bool, Field(description="Run Python code that comes with the model; only for models you have read.")
    ] = False,
) -> HuggingFaceEmbedding:
    """A sentence-transformers or plain transformer model, in this process. `rag-plugin fetch` downloads one."""
    from .sentence_encoder import load_sentence_encoder

    return load_sentence_encoder(
        model=model,
        device=device,
        devices=devices,
        batch_size=batch_size,
        normalize=normalize,
        pooling=pooling,
        max_length=max_length,
        truncate_dim=truncate_dim,
        dtype=dtype,
        backend=backend,
        query_prompt=query_prompt,
        document_prompt=document_prompt,
        revision=revision,
        trust_remote_code=trust_remote_code,
        callback_manager=callback_manager,
    )


@rule(address_that_can_be)
def ollama(
    callback_manager: CallbackManager,
    *,
    model: Annotated[str, Field(min_length=1, description="A model's name on the server, such as `nomic-embed-text`.")],
    base_url: BaseUrl = LOCAL,
    query_prompt: QueryPrompt = None,
    document_prompt: DocumentPrompt = None,
    normalize: Annotated[
        bool, Field(description="Scale vectors to length 1; false takes them as the server gives them.")
    ] = True,
    truncate_dim: Annotated[
        int | None,
        Field(gt=0, description="Keep only so many numbers of a vector; for models that were trained for it."),
    ] = None,
    context_window: Annotated[
        int | None, Field(gt=0, description="How many tokens of a text the server takes; unset, the server's own.")
    ] = None,
    timeout: Annotated[
        float, Field(gt=0, description="Seconds to wait for the vectors of some texts; a model may load first.")
    ] = 300.0,
    retries: Retries = 2,
    keep_alive: KeepAlive = None,
    headers: Headers = None,
) -> BaseEmbedding:
    """A model on an Ollama server. Building it does not talk to the server; a text that is too long is an error."""
    from .ollama_encoder import make_ollama_encoder

    return make_ollama_encoder(
        model=model,
        base_url=base_url,
        query_prompt=query_prompt,
        document_prompt=document_prompt,
        normalize=normalize,
        truncate_dim=truncate_dim,
        context_window=context_window,
        timeout=timeout,
        retries=retries,
        keep_alive=keep_alive,
        headers=headers,
        callback_manager=callback_manager,
    )
