"""What a model may give away: copies of its training text, first of all."""
