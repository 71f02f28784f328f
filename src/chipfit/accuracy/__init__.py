"""How good a network is: training, evaluation, and a user's own training."""
