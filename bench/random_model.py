"""Makes models of any size with random weights and a byte tokenizer: speed does not depend on the weights' values."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stairstream.backends.torch.load import Loaded

SIZES: dict[str, dict[str, int]] = {
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
    },
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
    },
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
    },
}
"""The shapes of Llama 3.2 1B and Llama 3.1 8B, and one for tests."""

_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_random(size: str, device: str, dtype: str, *, weights_from: str | None = None) -> "Loaded":
    """A Llama of that size on that device, ready for use; it never ends an answer by itself.

    With `weights_from` the weights are drawn in that type on the CPU, so that they are the same in every type.
    """
    from stairstream.backends.in_process.tokens import Tokens
    from stairstream.backends.torch.load import Loaded
    from stairstream.backends.torch.model import Model

    tokenizer = _make_tokenizer()
    network = _make_network(size, device, dtype, len(tokenizer))
    if weights_from is not None:
        network.load_state_dict(_make_network(size, "cpu", weights_from, len(tokenizer)).state_dict())
    tokens = Tokens(tokenizer, frozenset())
    return Loaded(model=Model(network.eval(), size), tokens=tokens, temperature=None, top_p=None)


def _make_network(size: str, device: str, dtype: str, num_known: int) -> Any:
    import torch
    import transformers

    library: Any = transformers  # its classes take more arguments than they declare
    rope = {"rope_type": "default", "rope_theta": 500_000.0}
    config = library.LlamaConfig(**SIZES[size], max_position_embeddings=8192, rope_parameters=rope)
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            network: Any = library.LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    with torch.no_grad():
        # ids that the tokenizer does not know are never the likeliest
        network.lm_head.weight[num_known:] = 0
        network.lm_head.weight[:num_known] *= 4
    return network


def _make_tokenizer() -> Any:
    import tokenizers
    import transformers

    library: Any = transformers
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(["the answer is that the other answers are read while they are written"] * 9, trainer)
    tokenizer = library.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<|pad|>", bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer
