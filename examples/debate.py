"""Two debaters for two rounds, each reading the other as it writes; then a judge answers."""

from stairstream import Sampling, ask, topologies

graph = topologies.debate(
    debaters=["smollm2", "smollm2"],
    rounds=2,
    judge="smollm2",
    sampling={"smollm2": Sampling(temperature=0.8, max_tokens=150)},
)
print(ask("Is a tomato a fruit?", graph))
