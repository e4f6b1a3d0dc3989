"""How narrow may sums be, wrapping or saturating, with and without splitting?"""
