"""A verb's words: what they mean, what its help says, and what is wrong with them."""

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from cyclopts import App, Parameter
from cyclopts import exceptions as wrong

from tunesmith import rooms
from tunesmith.cli import front
from tunesmith.cli.out import Out, console
from tunesmith.errors import Fault, TunesmithError


def _unwrapped(text: str) -> str:
    """Each paragraph on one line: the help is as wide as the terminal, whatever the source is."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def _default(value: object) -> object:
    """What the help says of a default: nothing where leaving the option out is said in its text."""
    return None if value in (None, (), False) else str(value)


WIDEST = 100  # columns of a help page: longer lines are hard to read


class UsageError(TunesmithError):
    """The words after `tunesmith` cannot be understood."""

    exit_code = 2


class Verb:
    """One verb of the command line; its function's docstring is its help."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.function: Callable[..., Out] = front.function(name)
        text, _, example = inspect.cleandoc(self.function.__doc__ or "").partition("\nExample:\n")
        self.example = textwrap.dedent(example).strip()
        self.app = App(
            name=f"tunesmith {name}",
            help=_unwrapped(text.partition("\nArgs:")[0]),
            usage=f"Usage: {self._usage('[OPTIONS]')}",
            help_format="plaintext",
            help_flags=(),
            version_flags=(),
            default_parameter=Parameter(negative=(), show_default=_default, show_env_var=False),
            result_action="return_value",
        )
        self.app.default(self.function)

    def help(self) -> int:
        """Print the verb's page, which ends in an example with its output."""
        painter = console(sys.stdout)
        painter.width = min(painter.width, WIDEST)
        with painter.capture() as painted:
            self.app.help_print([], console=painter)
        sys.stdout.write(painted.get())
        sys.stdout.write(f"With every verb: {'  '.join(front.TALK)}\n\nExample:\n")
        sys.stdout.write(textwrap.indent(self.example, "  ") + "\n")
        sys.stdout.flush()
        return 0

    def bind(self, words: list[str]) -> Callable[[], Out]:
        """The work that the words ask for.

        Raises:
            UsageError: a word that cannot be understood, with the nearest that can.
        """
        try:
            command, bound, _ = self.app.parse_args(words, exit_on_error=False, print_error=False)
        except wrong.CycloptsError as error:
            raise UsageError(self._explain(error, words)) from None
        return partial(command, *bound.args, **bound.kwargs)

    def _explain(self, error: wrong.CycloptsError, words: list[str]) -> Fault:
        place: dict[str, Any] = {"place": "tunesmith " + " ".join([self.name, *words])}
        see = f"see: tunesmith {self.name} --help"
        name = _shown(error.argument.name) if error.argument else ""
        match error:
            case wrong.UnknownOptionError():
                word = (error.token.keyword or error.token.value).partition("=")[0]
                known = (*self._options(), *front.TALK, "--help")
                return Fault(
                    "cli/unknown-option",
                    f"{self.name} has no option {word!r}",
                    rooms.did_you_mean(word, known),
                    **place,
                )
            case wrong.RepeatArgumentError():
                return Fault(
                    "cli/given-twice", f"{error.token.keyword} is given twice", f"give it once; {see}", **place
                )
            case wrong.ConsumeMultipleError() | wrong.MissingArgumentError():
                if error.argument and (error.keyword or error.argument.tokens):
                    return Fault("cli/missing-value", f"{name} needs a value", f"add it after {name}; {see}", **place)
                return Fault("cli/missing-argument", f"{self.name} needs {name}", f"{self._usage()}; {see}", **place)
            case wrong.UnusedCliTokensError():
                extra = " ".join(error.unused_tokens or ())
                return Fault(
                    "cli/too-many-words", f"{self.name} has no use for {extra!r}", f"{self._usage()}; {see}", **place
                )
            case _:
                return Fault("cli/bad-value", str(error).strip().rstrip(".").replace("\n", " "), see, **place)

    def _options(self) -> Iterator[str]:
        for argument in self.app.assemble_argument_collection():
            yield from (name for name in argument.names if name.startswith("-"))

    def _usage(self, *options: str) -> str:
        """The verb and its words in their order: `tunesmith export [OPTIONS] WHAT`."""
        words = []
        for one in inspect.signature(self.function).parameters.values():
            word = one.name.upper()
            if one.kind is one.VAR_POSITIONAL:
                words.append(f"{word}...")
            elif one.kind is one.POSITIONAL_ONLY:
                words.append(word if one.default is one.empty else f"[{word}]")
            elif one.default is one.empty:
                words.append(f"--{one.name.replace('_', '-')} {word}")
        return " ".join(["tunesmith", self.name, *options, *words])


def _shown(name: str) -> str:
    """A positional as the help shows it (RECIPE), an option as it is typed (--set)."""
    return name if name.startswith("-") else name.upper()
