"""What a network takes of the memory on chip: activations, and the weights that wait beside them."""
