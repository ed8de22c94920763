"""Control tokens of chat templates, by family: a server that tokenizes a whole rendered prompt makes real ones of their
names, wherever they stand. Those that only pretraining used (`<filename>`, `<unused7>`) structure no prompt, and are
words that answers hold: they are not listed.

Sources: `chat_template` and `added_tokens_decoder` in the tokenizer configurations of the models named.
"""

import re
from collections.abc import Mapping, Sequence

SHAPES = (
    r"<[|\uff5c][^\s<>|\uff5c]{1,64}[|\uff5c]>",  # <|im_end|>, <|eot_id|>; DeepSeek's bars are wide ones
    r"<\|[a-z_]{2,32}>",  # <|turn>
    r"<[a-z_]{2,32}\|>",  # <turn|>
)
"""Shapes that no other text has: all tokens of that shape, those that are not listed too."""

FAMILIES: Mapping[str, tuple[str, ...]] = {
    # Qwen2.5, Qwen3, Qwen3.5, QwQ, Qwen-VL
    "Qwen": (
        *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"),
        *("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
    ),
    # Llama 2 Chat, Code Llama: the marks around the system prompt are no tokens, but its template's
    "Llama 2": ("<s>", "</s>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
    "Llama 3": (
        *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>"),
        *("<|python_tag|>", "<|end_of_text|>", "<|image|>"),
    ),
    "Llama 4": (
        *("<|begin_of_text|>", "<|header_start|>", "<|header_end|>", "<|eot|>", "<|eom|>", "<|python_start|>"),
        *("<|python_end|>", "<|image_start|>", "<|image_end|>", "<|patch|>"),
    ),
    # Gemma 1 to 3, 3n; FunctionGemma
    "Gemma 3": (
        *("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>"),
        *("<image_soft_token>", "<start_of_audio>", "<end_of_audio>", "<audio_soft_token>", "<escape>"),
        *("<start_function_declaration>", "<end_function_declaration>", "<start_function_call>"),
        *("<end_function_call>", "<start_function_response>", "<end_function_response>"),
    ),
    "Gemma 4": (
        *("<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think|>", "<|tool>", "<tool|>", "<|tool_call>"),
        *("<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>', "<|image>", "<image|>", "<|audio>"),
    ),
    # tekken tokenizers v3 to v13, and those of SentencePiece before them; Magistral, Pixtral, Voxtral
    "Mistral": (
        *("<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[AVAILABLE_TOOLS]"),
        *("[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CONTENT]", "[ARGS]"),
        *("[CALL_ID]", "[THINK]", "[/THINK]", "[MODEL_SETTINGS]", "[/MODEL_SETTINGS]", "[IMG]", "[IMG_BREAK]"),
        *("[IMG_END]", "[AUDIO]", "[BEGIN_AUDIO]", "[TRANSCRIBE]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]"),
    ),
    # V2 to V4, R1 and what was distilled from it
    "DeepSeek": (
        *("<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "<\uff5cUser\uff5c>"),
        *("<\uff5cAssistant\uff5c>", "<\uff5ctool\u2581calls\u2581begin\uff5c>", "<\uff5ctool\u2581sep\uff5c>"),
        *("\uff5cDSML\uff5c", "<|EOT|>", "<think>", "</think>"),
    ),
    # ChatGLM3, GLM-4 to 4.7, GLM-V
    "GLM": (
        *("[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
        *("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<arg_key>"),
        *("</arg_key>", "<arg_value>", "</arg_value>", "/nothink", "<|begin_of_image|>", "<|end_of_image|>"),
    ),
    # Phi-3 to Phi-4, mini, reasoning, multimodal
    "Phi": (
        *("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>", "<|im_start|>", "<|im_sep|>"),
        *("<|im_end|>", "<|tool|>", "<|/tool|>", "<|tool_call|>", "<|/tool_call|>", "<|image_1|>", "<think>"),
    ),
    # Granite 3 to 4, vision, speech
    "Granite": (
        *("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", "<|tool_call|>", "<|audio|>", "<image>"),
        *("<tool_call>", "</tool_call>", "<think>", "</think>"),
    ),
    # harmony
    "gpt-oss": (
        *("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|return|>", "<|call|>"),
        *("<|startoftext|>", "<|endoftext|>"),
    ),
    # SmolLM 1 to 3, SmolVLM
    "SmolLM": (
        *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<end_of_utterance>", "<fake_token_around_image>"),
        *("<image>", "<global-img>", "<think>", "</think>", "<tool_call>", "</tool_call>"),
    ),
    # Command R to A, Kimi K2, MiniMax M2
    "others": (
        "<|START_OF_TURN_TOKEN|>",
        "<BOS_TOKEN>",
        "<EOS_TOKEN>",
        "<|im_user|>",
        "[BOS]",
        "[EOS]",
        "]~b]",
        "[e~[",
    ),
}


def is_of_a_shape(name: str) -> bool:
    """Whether all names like this one are control tokens."""
    return re.fullmatch("|".join(SHAPES), name) is not None


_NAMES = sorted({name for names in FAMILIES.values() for name in names if not is_of_a_shape(name)})


def _group(patterns: Sequence[str]) -> str:
    """One pattern for all of these, by their first characters: it is looked for twice as fast."""
    firsts = dict.fromkeys(re.match(r"\\?.", pattern)[0] for pattern in patterns)  # type: ignore[index]
    groups = {first: [one.removeprefix(first) for one in patterns if one.startswith(first)] for first in firsts}
    return "|".join(f"{first}(?:{'|'.join(rest)})" for first, rest in groups.items())


PATTERN = _group((*SHAPES, *map(re.escape, _NAMES)))
"""Matches every control token; none is the beginning of another."""

LONGEST = max(2 + 64 + 2, *map(len, _NAMES))
"""Characters of the longest."""


def is_control_token(name: str) -> bool:
    """Whether a name is that of a control token, of a family or of a shape."""
    return re.fullmatch(PATTERN, name) is not None
