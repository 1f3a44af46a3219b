"""The corpus floor: raw text in, clean documents without duplicates out, and from them token shards.

A stage is a plain function over `documents.Document`; whatever it takes out comes back as a
`documents.Dropped` that says why.
"""
