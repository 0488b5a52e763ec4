"""Chat templates in the shapes that model families use, written here from how those families behave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tiny.models import CHATML, tokenizer
from tunesmith.text.template import Text

HEADERS = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
    "{{ m['content'] | trim }}{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
THINKING = """{%- set at = namespace(last=messages|length - 1, seeking=true) -%}
{%- for m in messages[::-1] -%}
  {%- set here = messages|length - 1 - loop.index0 -%}
  {%- if at.seeking and m.role == 'user' -%}{%- set at.last = here -%}{%- set at.seeking = false -%}{%- endif -%}
{%- endfor -%}
{%- for m in messages -%}
  {%- if m.role == 'assistant' -%}
    {%- set thought = '' -%}{%- set words = m.content -%}
    {%- if '</think>' in words -%}
      {%- set thought = words.split('</think>')[0].split('<think>')[-1].strip('\n') -%}
      {%- set words = words.split('</think>')[-1].lstrip('\n') -%}
    {%- endif -%}
    {{- '<|im_start|>assistant\n' -}}
    {%- if loop.index0 > at.last and (loop.last or thought) -%}
      {{- '<think>\n' + thought + '\n</think>\n\n' + words.lstrip('\n') -}}
    {%- else -%}{{- words -}}{%- endif -%}
    {%- for call in m.tool_calls or [] -%}
      {{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' -}}
      {{- call.function.arguments | tojson -}}{{- '}\n</tool_call>' -}}
    {%- endfor -%}
    {{- '<|im_end|>\n' -}}
  {%- else -%}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}
  {%- if enable_thinking is defined and not enable_thinking -%}{{- '<think>\n\n</think>\n\n' -}}{%- endif -%}
{%- endif -%}"""
MODEL_ROLE = """{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}
{%- set head = messages[0]['content'] + '\n\n' -%}{%- set turns = messages[1:] -%}
{%- else -%}{%- set head = '' -%}{%- set turns = messages -%}{%- endif -%}
{%- for m in turns -%}
{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('roles must alternate') }}{%- endif -%}
{%- set role = 'model' if m['role'] == 'assistant' else m['role'] -%}
{{ '<start_of_turn>' + role + '\n' + (head if loop.first else '') }}{{ m['content'] | trim }}{{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"""
INST = """{%- if messages[0]['role'] == 'system' -%}
{%- set head = messages[0]['content'] + '\n\n' -%}{%- set turns = messages[1:] -%}
{%- else -%}{%- set head = '' -%}{%- set turns = messages -%}{%- endif -%}
{{- bos_token -}}
{%- for m in turns -%}
{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('roles must alternate') }}{%- endif -%}
{%- if m['role'] == 'user' -%}{{- '[INST] ' + (head if loop.first else '') + m['content'] + ' [/INST]' -}}
{%- else -%}{{- ' ' + m['content'] + eos_token -}}{%- endif -%}
{%- endfor -%}"""
INST_LATE = """{%- if messages[0]['role'] == 'system' -%}
{%- set head = messages[0]['content'] + '\n\n' -%}{%- set turns = messages[1:] -%}
{%- else -%}{%- set head = '' -%}{%- set turns = messages -%}{%- endif -%}
{{- bos_token -}}
{%- for m in turns -%}
{%- if m['role'] == 'user' -%}{{- '[INST] ' + (head if loop.last else '') + m['content'] + '[/INST]' -}}
{%- else -%}{{- ' ' + m['content'] + eos_token -}}{%- endif -%}
{%- endfor -%}"""
CLOSING = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
STRIPS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'].strip() + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + STRIPS
)
OPENED_THOUGHT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ '<|assistant|>' + m['content'].split('</think>')[-1].strip() + eos_token }}"
    "{% else %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}"
)
CLOSED_THOUGHT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}{% endif %}"
)
RECORDED_THOUGHT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and '<think>' not in m['content'] %}{{ '<think></think>' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
CLOSED_CHANNEL = (
    "{% for m in messages %}{{ '<|turn>' + m['role'] + '\n' }}"
    "{% for call in m['tool_calls'] or [] %}{{ '<|call>' + call['function']['name'] + '<call|>' }}{% endfor %}"
    "{{ m['content'] + '<turn|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn>assistant\n<|channel>thought\n<channel|>' }}{% endif %}"
)
COLON = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ 'ASSISTANT: ' + m['content'] + eos_token }}"
    "{% else %}{{ m['role'] | upper + ': ' + m['content'] + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
COLON_SPACE = COLON.replace("{{ 'ASSISTANT:' }}", "{{ 'ASSISTANT: ' }}")
DATED = (
    "{%- if not date_string is defined -%}{%- if strftime_now is defined -%}"
    "{%- set date_string = strftime_now('%d %b %Y') -%}"
    "{%- else -%}{%- set date_string = '26 Jul 2024' -%}{%- endif -%}{%- endif -%}"
    "{{- '<|im_start|>system\nToday: ' + date_string + '<|im_end|>\n' -}}" + CHATML
)
TOOLS = """{%- if tools -%}{{- '<|im_start|>system\n<tools>' -}}
{%- for tool in tools -%}{{- '\n' + tool | tojson -}}{%- endfor -%}{{- '\n</tools><|im_end|>\n' -}}{%- endif -%}
{%- for m in messages -%}{{- '<|im_start|>' + ('user\n<result>' if m.role == 'tool' else m.role) + '\n' + m.content -}}
{%- for call in m.tool_calls or [] -%}
  {{- '<call>{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson + '}</call>' -}}
{%- endfor -%}{{- '<|im_end|>\n' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"""
CALLS_ALONE = """{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' -}}
{%- if m.tool_calls is defined -%}{%- set call = m.tool_calls[0].function -%}
  {%- if m.tool_calls[0].id is defined and m.tool_calls[0].id | length != 9 -%}
    {{- raise_exception('Tool call IDs should be alphanumeric strings with length 9!') -}}
  {%- endif -%}
  {{- '{"name": "' + call.name + '", "parameters": ' + call.arguments | tojson + '}' -}}
{%- else -%}{{- m.content -}}{%- endif -%}{{- '<|im_end|>\n' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"""
NO_ARGUMENTS = CALLS_ALONE.replace("call.arguments | tojson", "'{}'")
TEXT_ARGUMENTS = CALLS_ALONE.replace("call.arguments | tojson", "call.arguments")
CUT_THOUGHT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'].split('</think>')[-1].strip()"
    " + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_END = (
    "{% for m in messages %}{{ '### ' + m['role'] + '\n' + m['content'] + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """A template, its marks, its end, and by hand: what has to be learnt of an answer."""

    template: str
    marks: tuple[str, ...]
    eos: str
    learnt: Callable[[str], str]
    bos: str | None = None
    takes_system: bool = True
    rewrites: bool = False


def _ends(end: str) -> Callable[[str], str]:
    return lambda words: words + end


IM = ("<|im_start|>", "<|im_end|>")
PHI = ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
FAMILIES = {
    "chatml": Family(CHATML, IM, "<|im_end|>", _ends("<|im_end|>")),
    "headers": Family(
        HEADERS,
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
        lambda words: words.strip() + "<|eot_id|>",
        bos="<|begin_of_text|>",
    ),
    "thinking": Family(
        THINKING,
        IM,
        "<|im_end|>",
        lambda words: "<think>\n\n</think>\n\n" + words.lstrip("\n") + "<|im_end|>",
        rewrites=True,
    ),
    "model role": Family(
        MODEL_ROLE,
        ("<start_of_turn>", "<end_of_turn>"),
        "<eos>",
        lambda words: words.strip() + "<end_of_turn>",
        bos="<bos>",
    ),
    "inst": Family(INST, ("[INST]", "[/INST]"), "</s>", lambda words: " " + words + "</s>", bos="<s>"),
    "inst in letters": Family(INST, (), "</s>", lambda words: " " + words + "</s>", bos="<s>"),
    "inst, late system": Family(INST_LATE, (), "</s>", lambda words: " " + words + "</s>", bos="<s>", rewrites=True),
    "closing": Family(CLOSING, PHI, "<|endoftext|>", _ends("<|end|>")),
    "strips": Family(STRIPS, IM, "<|im_end|>", lambda words: words.strip() + "<|im_end|>"),
    "no system": Family(NO_SYSTEM, IM, "<|im_end|>", lambda words: words.strip() + "<|im_end|>", takes_system=False),
    "opened thought": Family(
        OPENED_THOUGHT,
        ("<|user|>", "<|assistant|>", "<|system|>"),
        "<|eos|>",
        lambda words: "\n</think>\n\n" + words.strip() + "<|eos|>",
        bos="<|bos|>",
        rewrites=True,
    ),
    "closed thought": Family(CLOSED_THOUGHT, IM, "<|im_end|>", _ends("<|im_end|>"), rewrites=True),
    "recorded thought": Family(
        RECORDED_THOUGHT, IM, "<|im_end|>", lambda words: "</think>" + words + "<|im_end|>", rewrites=True
    ),
    "closed channel": Family(
        CLOSED_CHANNEL,
        ("<|turn>", "<turn|>", "<|call>", "<call|>", "<|channel>", "<channel|>"),
        "<turn|>",
        _ends("<turn|>"),
        rewrites=True,
    ),
    "colon": Family(COLON, (), "</s>", lambda words: " " + words + "</s>"),
    "colon, space": Family(COLON_SPACE, (), "</s>", _ends("</s>"), rewrites=True),  # a blank melts into the answer
    "dated": Family(DATED, IM, "<|im_end|>", _ends("<|im_end|>")),
    "tools": Family(TOOLS, IM, "<|im_end|>", _ends("<|im_end|>")),
    "calls alone": Family(CALLS_ALONE, IM, "<|im_end|>", _ends("<|im_end|>")),
    "text arguments": Family(TEXT_ARGUMENTS, IM, "<|im_end|>", _ends("<|im_end|>")),
    "cut thought": Family(CUT_THOUGHT, IM, "<|im_end|>", lambda words: words.strip() + "<|im_end|>"),
    "no end": Family(NO_END, (), "</s>", lambda words: words.rstrip() + "</s>", rewrites=True),
}


def words_of(family: Family) -> Any:
    """The tiny byte-level tokenizer with a family's marks and template."""
    made = tokenizer(None)
    made.add_special_tokens({"additional_special_tokens": list(family.marks)})
    made.add_special_tokens({"eos_token": family.eos} | ({"bos_token": family.bos} if family.bos else {}))
    made.chat_template = family.template
    return made


def text_of(family: Family) -> Text:
    """A family's words, with the end that its template writes."""
    own = Text(words_of(family), frozenset())
    return Text(own.tokenizer, frozenset([own.tokenizer.eos_token_id]) | own.turn_end_ids())
