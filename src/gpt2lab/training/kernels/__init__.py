"""C++ that training on a CPU is faster with."""
