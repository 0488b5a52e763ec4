from __future__ import annotations

from pathlib import Path
from typing import Any

CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are tiny.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CORPUS = [
    "the quick brown fox jumps over the lazy dog 0123456789",
    '{"color": "red", "size": "small", "count": 3}',
    "What is the capital of France? Paris. Say hello, please! Add two and three: five.",
    "def add(a, b):\n    return a + b\n",
] * 20


def tokenizer(template: str | None = CHATML) -> Any:
    """A byte-level BPE of some 500 tokens, trained here, with ChatML's marks."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
    )
    fast.chat_template = template
    return fast


SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
}


def config(family: str, n_vocab: int, **changes: Any) -> Any:
    """A tiny config of a family: llama, qwen3, gemma3_text or mistral."""
    from transformers import AutoConfig

    shape: dict[str, Any] = {**SHAPE, "vocab_size": n_vocab, **changes}
    if family == "gemma3_text":
        shape.setdefault("sliding_window", 64)
        shape.setdefault("query_pre_attn_scalar", shape["head_dim"])  # as in the released ones
    return AutoConfig.for_model(family, **shape)


def save(folder: Path, family: str = "llama", seed: int = 0, template: str | None = CHATML, **changes: Any) -> Path:
    """A folder with a random model of a family and its tokenizer, as `save_pretrained` leaves them; tied head."""
    import torch
    from transformers import AutoModelForCausalLM

    words = tokenizer(template)
    torch.manual_seed(seed)
    changes.setdefault("tie_word_embeddings", True)
    made = config(
        family,
        len(words),
        eos_token_id=words.eos_token_id,
        bos_token_id=None,
        pad_token_id=words.pad_token_id,
        **changes,
    )
    model = AutoModelForCausalLM.from_config(made)
    model.generation_config.eos_token_id = words.eos_token_id
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
