"""From a prompt to text: what is asked for (`options`, `option_rules`), what a token is drawn from
(`processors`, `sampling`), the ways to it (`strategy`, `beams`, `contrastive`, `speculation`), many rows at
once (`batch`, `scheduler`, `capacity`), what computes their scores (`decoder` and the engines behind it), and
what comes out (`request`, `transcript`, `logprobs`, `results`); `engine` joins them."""
