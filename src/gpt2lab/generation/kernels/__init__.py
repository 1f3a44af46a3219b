"""The CPU engine's C++ sources (`engine.cpp` and what it includes) and what builds them (`build`)."""
