"""A council: members answer, a judge compares their answers, one more agent answers; all three overlap."""

from stairstream import Sampling, ask, topologies

graph = topologies.council(
    members=["smollm2", "smollm2"],
    judge="smollm2",
    answer="smollm2",
    sampling={"smollm2": Sampling(temperature=0.8, max_tokens=150)},
)
answer = ask("Is a tomato a fruit?", graph)
print(answer)
print("the judge ended:", next(agent.reason for agent in answer.summary.agents if agent.name == "judge"))
