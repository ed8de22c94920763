"""A tiny random model, and a direct computation of what a cache with gaps should hold."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

from collections.abc import Sequence  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from typing import Any  # noqa: E402

from stairstream.backends.in_process.tokens import Tokens  # noqa: E402
from stairstream.backends.torch.attention import Batch  # noqa: E402
from stairstream.backends.torch.cache import Cache  # noqa: E402
from stairstream.backends.torch.load import Loaded  # noqa: E402
from stairstream.backends.torch.model import Model  # noqa: E402

torch.set_num_threads(1)  # several of them only wait for each other with so small a model

VOCABULARY = 300
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokens(alphabet: Sequence[str] | None = None) -> Tokens:
    """A tokenizer of single bytes, all of them or some, and a few pairs, with the template of SmolLM."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=list(alphabet or tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(["the sea is deep and salty, and the red rose is not the sea"] * 9, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<|pad|>", bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    tokenizer.chat_template = TEMPLATE
    return Tokens(tokenizer, frozenset({2}))


def make_loaded(seed: int = 0, alphabet: Sequence[str] | None = None) -> Loaded:
    """A tiny model as if it had been loaded."""
    tokens = make_tokens(alphabet)
    network = make_network(seed, vocab_size=len(tokens))
    return Loaded(model=Model(network, "tiny"), tokens=tokens, temperature=None, top_p=None)


def greedy(network: Any, ids: Sequence[int], count: int) -> list[int]:
    """What the model's own forward writes on, with no cache at all."""
    found = list(ids)
    with torch.inference_mode():
        for _ in range(count):
            token = int(network(torch.tensor([found])).logits[0, -1].argmax())
            if token == 2:
                break
            found.append(token)
    return found[len(ids) :]


def make_network(seed: int = 0, **keys: Any) -> Any:
    """A Llama of two layers, if no other kind or count is given, with weights large enough that attention matters."""
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(
        keys.pop("kind", "llama"),
        vocab_size=keys.pop("vocab_size", VOCABULARY),
        hidden_size=keys.pop("hidden_size", 32),
        intermediate_size=keys.pop("intermediate_size", 64),
        num_hidden_layers=keys.pop("num_hidden_layers", 2),
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        **keys,
    )
    return transformers.AutoModelForCausalLM.from_config(config)


def run_all(model: Model, cache: Cache, piece_tokens: int = 1000) -> Any:
    """Compute all that is missing; logits behind the last token."""
    while cache.num_missing > piece_tokens:
        model.run(Batch([cache.claim(piece_tokens)]), [])
    return model.run(Batch([cache.claim(cache.num_missing)]), [0])[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """A token when its entry was computed: where it stood then, and which entries it saw, at which positions then."""

    token: int
    position: int
    sees: dict[int, int]


def compute_directly(network: Any, births: Sequence[Birth]) -> Any:
    """The logits of the last birth, with a relative position for each pair of query and key; no cache, no rotary."""
    base, config = network.model, network.config
    number, size = len(births), config.hidden_size // config.num_attention_heads
    distance = torch.zeros(number, number)
    visible = torch.zeros(number, number, dtype=torch.bool)
    for i, birth in enumerate(births):
        for j, position in {**birth.sees, i: birth.position}.items():
            distance[i, j], visible[i, j] = birth.position - position, True
    angles = distance[:, :, None] * base.rotary_emb.inv_freq
    cos, sin = angles.cos(), angles.sin()
    hidden = base.embed_tokens(torch.tensor([birth.token for birth in births]))
    for layer in base.layers:
        normed, attention = layer.input_layernorm(hidden), layer.self_attn
        queries = attention.q_proj(normed).view(number, -1, size)
        keys = attention.k_proj(normed).view(number, -1, size).repeat_interleave(attention.num_key_value_groups, 1)
        values = attention.v_proj(normed).view(number, -1, size).repeat_interleave(attention.num_key_value_groups, 1)
        q1, q2 = queries.chunk(2, -1)
        k1, k2 = keys.chunk(2, -1)
        # the real part of q * conj(k) * exp(i * angle), pair by pair
        scores = torch.einsum("qhd,khd,qkd->hqk", q1, k1, cos) + torch.einsum("qhd,khd,qkd->hqk", q2, k2, cos)
        scores += torch.einsum("qhd,khd,qkd->hqk", q1, k2, sin) - torch.einsum("qhd,khd,qkd->hqk", q2, k1, sin)
        scores = (scores * attention.scaling).masked_fill(~visible, float("-inf"))
        found = torch.einsum("hqk,khd->qhd", scores.softmax(-1), values).reshape(number, -1)
        hidden = hidden + attention.o_proj(found)
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return network.lm_head(base.norm(hidden[-1]))
