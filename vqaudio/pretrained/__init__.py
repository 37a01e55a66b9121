"""The trained models that ship with the package, one folder each: `speech-16k-v1` and so on. No code.

A name without its version, `speech-16k`, means the newest version. Model folders are described in `checkpoint.py`.
"""
