"""Three proposers in each of two layers, and an aggregator; each layer writes while the one before is still writing."""

from stairstream import Sampling, ask, topologies

graph = topologies.mixture(
    proposers=["smollm2"] * 3,
    aggregator="smollm2",
    layers=2,
    proposer_sampling={"smollm2": Sampling(temperature=0.8, max_tokens=150)},
)
answer = ask("Why is the sky blue?", graph)
print(answer)
for agent in answer.summary.agents:
    print(f"{agent.name:14} first token after {agent.first_token_s:.2f} s, {agent.usage.completion_tokens} tokens")
