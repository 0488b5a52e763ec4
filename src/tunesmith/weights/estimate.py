"""What a run takes: memory, disk and arithmetic, by counting. No weight is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, Self

from tunesmith.weights.facts import BaseFacts

# torch, transformers, PEFT and the libraries under them, once loaded. A third to a half of it are pages of their files,
# of which one system maps more than another: from 1.0 to 1.2 GB were seen.
PROGRAM = 1_400_000_000
ROOM = 1.25  # of activations: what the allocator and the backward pass hold besides what is counted
DTYPES = {"float32": 4, "bfloat16": 2}
CHUNK_BYTES = 64 << 20  # of logits in float32 that are worked on at once
SLOPES_BYTES = 128 << 20  # of slopes against logits that go through one product with the head


@dataclass(frozen=True)
class Footprint:
    """What a method takes of memory and disk besides its trainable weights; each is 0 where a method says nothing."""

    n_added: int = 0
    """Weights that the model at rest has more than the base."""
    n_kept: int = 0
    """Numbers in float32 that do not move and are kept with those that do: in memory, in checkpoints and by `save`."""
    n_packed: int = 0
    """Weights of the base that do not stand in the type of the products; their bytes are among `other_bytes`."""
    other_bytes: int = 0
    """Bytes that stand besides while it learns: packed weights, frozen ones that came to the base, room to work in."""
    n_attended: int = 0
    """Tokens' worth of keys and values that each row attends to besides its own."""
    n_left: int = 0
    """Numbers that a token leaves in each layer for the backward pass, besides those of the base."""
    n_left_at_end: int = 0
    """Numbers that a token leaves after the layers for the backward pass, besides those of the base."""
    lowest: int = 0
    """Layer, from 0, at which the backward pass ends: those below it go forward only, and keep nothing for it."""


class Moves(Protocol):
    """What has to be known of a method here."""

    keeps_base: ClassVar[bool]

    def trainable(self, base: BaseFacts) -> int:
        """How many weights will move."""

    def footprint(self, base: BaseFacts) -> Footprint:
        """What it takes besides those."""


@dataclass(frozen=True)
class Load:
    """What decides the memory of a run besides the architecture.

    `longest` is tokens of the longest row, those that the footprint has it attend to included.
    """

    n_parameters: int
    n_trainable: int
    keeps_base: bool
    dtype: Literal["float32", "bfloat16"]
    longest: int
    footprint: Footprint = Footprint()

    @classmethod
    def of(cls, method: Moves, facts: BaseFacts, dtype: Literal["float32", "bfloat16"], longest: int) -> Self:
        """That of a method on a base, with products in `dtype` and rows of at most `longest` tokens of their own."""
        footprint, n_trainable = method.footprint(facts), method.trainable(facts)
        longest += footprint.n_attended
        return cls(facts.n_parameters, n_trainable, method.keeps_base, dtype, longest, footprint)


def standing_bytes(load: Load) -> int:
    """Weights, gradients and optimizer: what is there whatever goes through; an upper bound.

    A trainable weight takes 16 bytes (itself, gradient and two moments in float32), and 2 more where it is cast.
    """
    own = load.footprint
    besides = own.other_bytes + 4 * own.n_kept
    frozen = load.n_parameters if load.keeps_base else load.n_parameters + own.n_added - load.n_trainable
    cast = DTYPES["bfloat16"] if load.dtype == "bfloat16" else 0
    return PROGRAM + (frozen - own.n_packed) * DTYPES[load.dtype] + load.n_trainable * (16 + cast) + besides


def token_bytes(facts: BaseFacts, load: Load, *, recompute: bool) -> int:
    """Activations that one token leaves for the backward pass; an upper bound.

    Counted for a decoder layer with rotary attention and a gated MLP, kept in float32 where the norms need it. Where no
    layer leaves any, those of one stand while it goes forward.
    """
    width, inner, heads = _layer_widths(facts)
    # Two norms with their float32 copies, the residual, inputs of the projections; q, k, v around the rotation and the
    # repeated heads; gate, up, their product and the activation, each beside its copy in the type of the products.
    layer = 12 * width + 10 * heads + 6 * inner + load.footprint.n_left
    if load.dtype == "bfloat16":
        layer = layer * 5 // 4
    n_layers = facts.n_layers - load.footprint.lowest
    kept = n_layers * width + layer if recompute else max(n_layers, 1) * layer
    return int(4 * (kept + 4 * width + load.footprint.n_left_at_end) * ROOM)


def _layer_widths(facts: BaseFacts) -> tuple[int, int, int]:
    """D, the width inside the MLP, and H x head size."""
    return facts.hidden_size, facts.inner_size, facts.n_heads * facts.head_size


def memory_bytes(facts: BaseFacts, load: Load, *, tokens_at_once: int, recompute: bool) -> int:
    """The most memory that learning takes on its device; an upper bound."""
    logits = head_bytes(facts, load, tokens_at_once)
    token = token_bytes(facts, load, recompute=recompute)
    return standing_bytes(load) + tokens_at_once * token + logits


def rows_at_once(n_bytes: int, vocab_size: int, itemsize: int) -> int:
    """How many rows of logits have room in so many bytes: some, however large the vocabulary."""
    return max(16, n_bytes // (vocab_size * itemsize))


def head_bytes(facts: BaseFacts, load: Load, tokens: int) -> int:
    """Of logits and slopes: a chunk, what bends it where there is a soft cap, and the slopes of some chunks."""
    held = 0
    for n_bytes, itemsize in ((CHUNK_BYTES, 4), (CHUNK_BYTES, 4), (SLOPES_BYTES, DTYPES[load.dtype])):
        held += min(tokens, rows_at_once(n_bytes, facts.vocab_size, itemsize)) * facts.vocab_size * itemsize
    return held


def resting_bytes(facts: BaseFacts, load: Load, save_dtype: str) -> int:
    """The most memory that coming to rest takes, on the processor whatever learnt; an upper bound.

    The weights stand in float32 beside what is written of them; what is cast first gives its room to what is written.
    """
    a_weight, own = 8 if save_dtype == "float32" else 5, load.footprint
    return PROGRAM + (facts.n_parameters + own.n_added) * a_weight + (load.n_trainable + own.n_kept) * 8


def disk_bytes(facts: BaseFacts, load: Load, save_dtype: str) -> int:
    """What a run leaves on the disk at most: the model at rest, and two checkpoints while one replaces the other.

    A checkpoint has the trainable weights and AdamW's two moments in float32.
    """
    own = load.footprint
    checkpoint = load.n_trainable * 12 + own.n_kept * 4
    learnt = (load.n_trainable + own.n_kept) * 4 if load.keeps_base else 0
    return (facts.n_parameters + own.n_added) * DTYPES[save_dtype] + learnt + 2 * checkpoint + 20_000_000


def below_bytes(facts: BaseFacts, tokens: int) -> int:
    """What it takes to keep, in float32, what the layers give to each of `tokens` tokens that go forward only."""
    return tokens * facts.hidden_size * 4


def flops(
    facts: BaseFacts,
    load: Load,
    *,
    tokens: float,
    learnt: int,
    mean_length: float,
    recompute: bool,
    tokens_below: float | None = None,
) -> float:
    """Floating-point operations of `tokens` tokens, forward and backward, with logits at `learnt` of them only.

    A product with N weights costs 2 N a token forward, 2 N for the gradient of its input, and 2 N where it moves. What
    moves and has no place in the layers that go backward is taken for the head. `tokens_below` go through the layers
    that go forward only; all of them, when left out.
    """
    head = facts.vocab_size * facts.hidden_size
    body = max(0, facts.n_parameters - head * (1 if facts.tied else 2))
    upper = 1 - load.footprint.lowest / facts.n_layers
    moved = 0 if load.keeps_base else min(load.n_trainable, body * upper)
    moved_head = 0 if load.keeps_base else min(head, load.n_trainable - moved)
    _, _, heads = _layer_widths(facts)
    attention = 4 * heads * mean_length / 2 * facts.n_layers
    extra = 6 * load.n_trainable if load.keeps_base else 0
    forward, backward = 2 * body + attention, 2 * body * (1 + recompute) + attention * (2 + recompute)
    below = tokens if tokens_below is None else tokens_below
    layers = tokens * upper * (forward + backward) + below * (1 - upper) * forward
    return layers + tokens * (2 * moved + extra) + learnt * (4 * head + 2 * moved_head)
