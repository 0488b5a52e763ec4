"""An inspection on the terminal."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from tunesmith.verbs._fault_groups import Group
    from tunesmith.verbs._lengths import Lengths
    from tunesmith.verbs._mended_copy import Fixed
    from tunesmith.verbs._shown import Pieces
    from tunesmith.verbs._what_is_learnt import Learnt
    from tunesmith.verbs.inspect import Inspection

N_FAULTS = 20  # shown in full, or so many groups of them; --json has them all
N_PLACES = 3
N_LINES, N_CHARACTERS = 40, 2000  # of a row
N_ANSWERS = 10
N_SCRIPTS = 4
LEAST_TO_PLOT = 20  # rows
LEAST_TO_DROP = 20  # words of a system prompt: a shorter one costs little
BAR_WIDTH = 40
EIGHTHS = " ▏▎▍▌▋▊▉█"
# What would steer the terminal, or turn what is read; newline and tab may.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def paint(found: "Inspection", to: "Console") -> None:
    """All of it: the numbers, some rows, faults, risks, and what was written."""
    from rich.text import Text

    lines = list(_numbers(found))
    width = max(len(name) for name, _ in lines)
    for name, said in lines:
        to.print(Text.assemble((f"{name:<{width}}  ", "dim"), said), soft_wrap=True)
    _paint_lengths(found, to)
    _paint_answers(found, to)
    for row in found.shown:
        to.print()
        to.print(Text(f"{row.where}, as it is learnt from", "dim"), soft_wrap=True)
        _paint_row(row.pieces, to)
    _paint_faults(found, to)
    for risk in found.risks:
        to.print()
        where = _joined([str(place) for place in risk.places[:N_PLACES]], risk.n_rows)
        head = (f"risk[{risk.risk}]", "yellow" if risk.severity == "low" else "red")
        to.print(Text.assemble(head, f" {risk.severity}: {_safe(risk.what)}"), soft_wrap=True)
        to.print(f"  at   {_safe(where)}\n  fix  {_safe(risk.fix)}", soft_wrap=True)
    _paint_written(found, to)


def _safe(text: str) -> str:
    return _CONTROL.sub(lambda one: f"\\x{ord(one[0]):02x}" if ord(one[0]) < 256 else f"\\u{ord(one[0]):04x}", text)


def _numbers(found: "Inspection") -> Iterator[tuple[str, str]]:
    yield "format", found.format or "none that is known"
    tests = f"; {found.n_test_rows:,} held out" if found.n_test_rows else ""
    yield "rows", f"{found.n_rows:,}, of which {found.n_usable:,} can be learnt from{tests}"
    numbers = found.numbers
    if numbers.turns.n:
        roles = ", ".join(f"{role} {n:,}" for role, n in numbers.roles.most_common())
        yield "turns", f"{numbers.turns.mean:.3g} a row ({roles})"
    if found.learnt:
        yield from _learnt(found.learnt, found)
    else:
        yield "tokens", "not counted: name a model, for example --model bundle:smollm2-135m-instruct"
    scripts = [f"{name} {_percent(share)}" for name, share in numbers.scripts.items()]
    if len(scripts) > 1:
        yield "scripts", ", ".join(scripts[:N_SCRIPTS]) + (" ..." if len(scripts) > N_SCRIPTS else "")
    prompts = numbers.system_prompts
    if prompts.n_rows:
        different = f"{prompts.n_different:,}" if prompts.n_different is not None else "very many"
        yield "system", f"in {prompts.n_rows:,} rows; {different} different"
    if numbers.n_shared_words >= LEAST_TO_DROP:
        words = f"{numbers.n_shared_words:,} words that all rows begin with"
        yield "", f"{words}: with data.system_prompt: drop what they ask for is learnt, and need not be sent"
    if numbers.n_with_tools or numbers.n_with_calls:
        yield "tools", f"in {numbers.n_with_tools:,} rows; {numbers.n_with_calls:,} rows call one"


def _learnt(learnt: "Learnt", found: "Inspection") -> Iterator[tuple[str, str]]:
    total = learnt.n_prompt + learnt.n_learnt
    share = learnt.n_learnt / total if total else 0
    sampled = f", in {learnt.n_rows:,} rows drawn from all" if found.n_sampled is not None else ""
    yield "tokens", f"{total:,}, of which {learnt.n_learnt:,} ({share:.0%}) are learnt{sampled}"
    if learnt.ends.n_turns:
        yield "ends", _ends(learnt)
    long = learnt.long
    if long.n_refused:
        yield "limit", f"{long.n_refused:,} rows have more than {long.max_length:,} tokens, and are refused"
    elif long.n_in_pieces:
        yield "limit", f"{long.n_in_pieces:,} texts have more than {long.max_length:,} tokens, and come in pieces"
    if saved := learnt.share_saved():
        yield "shared", f"{saved:.0%} of the tokens: what rows of a step begin with alike is computed once"


def _ends(learnt: "Learnt") -> str:
    ends = learnt.ends
    if ends.n_learnt == ends.n_turns:
        return f"learnt in all {ends.n_turns:,} turns ({', '.join(ends.tokens)})"
    where = _joined([f"{file}, line {line}" for file, line in ends.missing[:N_PLACES]], ends.n_turns - ends.n_learnt)
    return f"NOT learnt in {ends.n_turns - ends.n_learnt:,} of {ends.n_turns:,} turns: {where}"


def _percent(share: float) -> str:
    return "under 1%" if 0 < share < 0.01 else f"{share:.0%}"


def _joined(places: list[str], n: int) -> str:
    return "; ".join(places) + (" ..." if n > len(places) else "")


def _paint_lengths(found: "Inspection", to: "Console") -> None:
    """A bar for each stretch of lengths."""
    lengths: Lengths = found.learnt.lengths if found.learnt else found.numbers.characters
    if lengths.n < LEAST_TO_PLOT:
        return
    unit = "tokens" if found.learnt else "characters"
    bars = lengths.bars()
    names, most = max(len(bar.name) for bar in bars), max(bar.n for bar in bars)
    quantiles = (
        f"median {lengths.quantile(0.5):,}, 95% up to {lengths.quantile(0.95):,}, longest {lengths.quantile(1):,}"
    )
    to.print(f"\n{unit} a row: mean {lengths.mean:,.0f}, {quantiles}", style="dim")
    for bar in bars:
        to.print(f"{bar.name:>{names}}  {_bar(bar.n / most)} {bar.n:,}")


def _bar(share: float) -> str:
    eighths = max(1, round(share * BAR_WIDTH * 8)) if share else 0
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def _paint_answers(found: "Inspection", to: "Console") -> None:
    counts = found.numbers.answers.counts
    if not counts:
        return
    total = sum(n for _, n in counts)
    to.print(f"\n{len(counts)} different answers, which repeat", style="dim")
    for answer, n in counts[:N_ANSWERS]:
        shown = _safe(" ".join(answer.split()))
        to.print(f"{n / total:>5.1%}  {n:>7,}  {shown if len(shown) <= 70 else shown[:67] + '...'}", soft_wrap=True)
    if len(counts) > N_ANSWERS:
        to.print(f"... and {len(counts) - N_ANSWERS} more", style="dim")


def _paint_row(pieces: "Pieces", to: "Console") -> None:
    """What is learnt is marked; of a long row the beginning is shown."""
    from rich.text import Text

    in_colour = to.is_terminal and not to.no_color
    shown = Text()
    for text, learnt in pieces:
        words = _safe(text)
        shown.append(words if in_colour or not learnt else f"[[{words}]]", "green" if learnt and in_colour else "")
    shown.rstrip()
    kept = "".join(shown.plain.splitlines(keepends=True)[:N_LINES])[:N_CHARACTERS].rstrip()
    left = len(shown.plain) - len(kept)
    to.print(shown[: len(kept)], soft_wrap=True)
    if left:
        to.print(Text(f"... and {left:,} characters more", "dim"))


def _paint_faults(found: "Inspection", to: "Console") -> None:
    """Each, where they are few; else like ones together."""
    if found.n_faults <= N_FAULTS:
        for fault in found.faults:
            to.print()
            to.print(_safe(str(fault)), soft_wrap=True)
        return
    for group in found.groups[:N_FAULTS]:
        to.print()
        _paint_group(group, to)
    left = len(found.groups) - N_FAULTS
    more = f"and {left:,} kinds more; " if left > 0 else ""
    all_of_them = "all of them" if found.n_faults == len(found.faults) else f"the first {len(found.faults):,}"
    to.print(f"\n{more}{found.n_faults:,} faults; {all_of_them} with: --json")


def _paint_group(group: "Group", to: "Console") -> None:
    if group.n == 1:
        to.print(_safe(str(group.first)), soft_wrap=True)
        return
    such_as = ", such as" if group.is_mixed else ""
    where = _joined([fault.at for fault in group.places[:N_PLACES]], group.n)
    to.print(_safe(f"error[{group.code}], {group.n:,} times{such_as}: {group.first.what}"), soft_wrap=True)
    to.print(_safe(f"  at   {where}\n  fix  {group.first.fix}"), soft_wrap=True)


def _paint_written(found: "Inspection", to: "Console") -> None:
    if found.fixed:
        to.print()
        _paint_fixed(found.fixed, to)
    if found.html:
        to.print(f"\nwrote {found.html}", soft_wrap=True)


def _paint_fixed(fixed: "Fixed", to: "Console") -> None:
    to.print(f"wrote {fixed.file}: {_rows(fixed.n_written)}", soft_wrap=True)
    for what, n in fixed.done.most_common():
        to.print(f"  {_safe(what)}: {n:,}", soft_wrap=True)
    if fixed.n_rejected:
        copied = fixed.n_rejected - fixed.n_not_copied
        where = f": {fixed.rejected}" if copied else ""
        to.print(f"{_rows(fixed.n_rejected)} could not be mended{where}", soft_wrap=True)
    for group in fixed.left.groups[:N_FAULTS]:
        to.print(_safe(f"  {group.code}: {group.n:,}, first at {group.first.at}"), soft_wrap=True)


def _rows(n: int) -> str:
    return f"{n:,} {'row' if n == 1 else 'rows'}"
