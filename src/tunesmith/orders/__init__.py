"""The built-in example: a small shop's orders in free words, to JSON."""
