"""From a prompt to text: what to draw (`options`, `sampling`), many rows at once (`batch`), what is shown
(`transcript`), and the engine that joins them (`engine`)."""
