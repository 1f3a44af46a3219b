"""From token shards to trained weights: recipes, optimizers, the step, the loop and its run folder."""
