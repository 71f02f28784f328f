"""What a network is: operators, graphs, open decisions. Knows nothing of torch, chips or searches."""
