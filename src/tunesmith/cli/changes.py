"""Options that several verbs share: `--set KEY=VALUE`, and names with commas between them."""

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter


def _split(type_: Any, tokens: Sequence[Any]) -> tuple[str, ...]:
    """`gguf,ollama` as two names; an option that is repeated adds to them."""
    return tuple(name for token in tokens for name in token.value.split(",") if name)


Changes = Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=False)]
Names = Annotated[tuple[str, ...], Parameter(converter=_split)]
