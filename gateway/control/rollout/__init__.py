"""The rollout at work: holds the state, carries out effects, evaluates the gates."""
