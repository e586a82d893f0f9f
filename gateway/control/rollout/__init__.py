"""The rollout at work: the machine's state held, its effects carried out, its gates kept moving."""
