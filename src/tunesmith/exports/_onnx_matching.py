"""onnxscript's search for patterns in a graph, where it would take the square of the graph's nodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir as ir


@contextmanager
def matched_where_they_end() -> Iterator[None]:
    """Within it, patterns of several outputs are looked for only at nodes that such a pattern ends in.

    onnxscript lists the whole graph for each of these patterns at every node: two fifths of the time that the graph of
    30 layers takes. What it finds is the same.
    """
    try:
        from onnxscript.rewriter import _matcher
        from onnxscript.rewriter._basics import MatchResult
    except ImportError:  # another version of onnxscript: the same graph, later
        yield
        return

    matcher: Any = _matcher.SimplePatternMatcher
    whole = matcher.match

    def match(self: Any, model: ir.Model, graph: ir.Graph, node: ir.Node, **options: Any) -> MatchResult:
        here = MatchResult()
        if not self.pattern.has_single_output_node and not self.pattern.output_nodes[0].matches(node, here):
            return here
        return whole(self, model, graph, node, **options)  # type: ignore[no-any-return]

    matcher.match = match
    try:
        yield
    finally:
        matcher.match = whole
