"""The fast path: a chain needs only the tokens of a row that can still matter.

Look at the row once, block by block. The controls that change the order (a bias, the penalties)
name few tokens: only the blocks of these are copied and changed. Each truncation that follows knows
a floor, a logit under which nothing survives it: only the tokens above the highest floor are
gathered. On these few, or on a whole row that has no floor, the controls' own kernels run, and then
the draw.
`docs/design.md` has the picture.
"""
