"""The shortest way: one question, one answer."""

import stairstream

answer = stairstream.ask("Why is the sky blue?")
print(answer.text)
print(f"first token after {answer.summary.first_token_s:.2f} s of {answer.summary.total_s:.2f} s")
