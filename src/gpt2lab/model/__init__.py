"""The transformer: its configuration (`config`) and its computation (`gpt`)."""
