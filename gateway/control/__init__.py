"""The control plane: configuration, health, admin API. It never touches a user's bytes."""
