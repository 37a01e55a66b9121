"""How good is a tokenizer? One pinned procedure, other codecs beside it, results that say how they were made."""
