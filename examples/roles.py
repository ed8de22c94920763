"""A graph of roles: a plan, a solution that starts with the plan's first step, and a check that reads both."""

from stairstream import Agent, Policy, ask, topologies

graph = topologies.work_in_turn(
    [
        Agent(name="planner", model="smollm2", instructions="Plan the answer in three numbered steps."),
        Agent(
            name="solver",
            model="smollm2",
            reads=("planner",),
            instructions="Follow the plan.",
            edges="section",
            policy=Policy(first_chunk=1, growth=1),
        ),
        Agent(name="checker", model="smollm2", reads=("planner", "solver"), instructions="Give the corrected answer."),
    ]
)
print(ask("How do I plant a tree?", graph))
