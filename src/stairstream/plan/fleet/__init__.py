"""Many runs on replicas of models: a simulation of events of its own, which replays schedules of the real engine."""
