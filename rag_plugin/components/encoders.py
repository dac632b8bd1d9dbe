"""Encoders: what turns text into vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ..config.paths import ModelFiles

if TYPE_CHECKING:
    from llama_index.core.callbacks import CallbackManager
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding


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
    device: Annotated[
        str | None, Field(description="Where to compute: `cpu`, `cuda`, `cuda:1`, `mps`; unset, the best there is.")
    ] = None,
    batch_size: Annotated[int, Field(gt=0, description="How many texts the model sees at once.")] = 32,
    normalize: Annotated[
        bool, Field(description="Scale vectors to length 1; false also drops a model's own scaling.")
    ] = True,
    pooling: Annotated[
        Literal["mean", "cls", "max", "lasttoken"] | None,
        Field(description="How token vectors become one; unset, as the model says, and mean for a bare transformer."),
    ] = None,
    max_length: Annotated[
        int | None, Field(gt=0, description="The most tokens of a text that are read; unset, the model's own limit.")
    ] = None,
    query_prompt: Annotated[
        str | None, Field(description="Text put before a question; unset, what the model's own config says.")
    ] = None,
    document_prompt: Annotated[
        str | None, Field(description="Text put before a node's text; unset, what the model's own config says.")
    ] = None,
    revision: Annotated[str | None, Field(description="The hub revision: a branch, tag or commit.")] = None,
    trust_remote_code: Annotated[
        bool, Field(description="Run Python code that comes with the model; only for models you have read.")
    ] = False,
) -> HuggingFaceEmbedding:
    """A sentence-transformers or plain transformer model, in this process."""
    from ..sentence_encoder import load_sentence_encoder

    return load_sentence_encoder(
        model=model,
        device=device,
        batch_size=batch_size,
        normalize=normalize,
        pooling=pooling,
        max_length=max_length,
        query_prompt=query_prompt,
        document_prompt=document_prompt,
        revision=revision,
        trust_remote_code=trust_remote_code,
        callback_manager=callback_manager,
    )
