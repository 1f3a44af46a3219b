"""Models on disk, as ordinary Hugging Face directories.

`huggingface` saves and loads a whole directory, `named_tokenizer` its vocabulary; `config_json`, `names`,
`weights` and `tensor_file` know its parts; `checksums` guards it; `training_state` lies beside the model;
`hub` finds published ones.
"""
