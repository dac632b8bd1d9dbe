"""Settings shared by the components that load model files."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Revision = Annotated[str | None, Field(description="The hub revision: a branch, tag or commit.")]
TrustRemoteCode = Annotated[
    bool, Field(description="Run the model's own Python code; only for models you have reviewed.")
]
