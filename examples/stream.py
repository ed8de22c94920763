"""The answer as it comes, word by word; then its numbers."""

import stairstream

words = stairstream.stream("Why is the sky blue?")
for word in words:
    print(word, end="", flush=True)
assert words.answer is not None
print(f"\nfirst token after {words.answer.summary.first_token_s:.2f} s of {words.answer.summary.total_s:.2f} s")
