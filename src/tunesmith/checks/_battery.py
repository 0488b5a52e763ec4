"""What every model is asked, whatever it was tuned for: the cases in which templates and tokenizers part."""

from __future__ import annotations

from tunesmith.text.example import Ask
from tunesmith.text.template import Text

CHATS: tuple[Ask, ...] = (
    [{"role": "user", "content": "What is the capital of France?"}],
    [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": "What colour is the sky?"},
    ],
    [
        {"role": "user", "content": "Say hello."},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "And in French?"},
    ],
    [{"role": "user", "content": "def f(x):\n    return x ** 2  # 1234567890, 3.14, naïve café, 東京, 🙂"}],
    [{"role": "user", "content": "It said \"no\" & <b>'yes'</b> {{ x }} %d \\n $1"}],
)
TEXTS: tuple[Ask, ...] = (
    "Once upon a time",
    "The first 10 primes are 2, 3, 5,",
    "def f(x):\n    return",
    "In a naïve café in 東京,",
)


def battery(text: Text, raw_text: bool) -> list[Ask]:
    """What this model can be asked: those that its template renders (some refuse a system turn)."""
    if raw_text or not text.has_template:
        return list(TEXTS)
    return [ask for ask in CHATS if _renders(text, ask)]


def _renders(text: Text, ask: Ask) -> bool:
    from jinja2.exceptions import TemplateError

    try:
        text.prompt(ask)
    except TemplateError:
        return False
    return True
