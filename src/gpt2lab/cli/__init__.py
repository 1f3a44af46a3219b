"""The command line: one file a verb. A verb's file imports only what its `--help` needs at the top."""
