"""sarco from Python: `predict`, `measure`, `train`, `cross_validate` and `compare` do what the commands do.

They print nothing and give back what they found; the commands and scripts are thin over them.
"""
