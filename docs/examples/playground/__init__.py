"""A page on which the controls can be moved, and what they do to the next token can be seen."""
