"""Numbers: exp and log, exact masses, the total order, blocks of 64 logits, and compilation.

Nothing in here knows of requests or controls.
"""
