"""What to change in a network that a user has, with the gain of each change on a chip."""
