"""How fast the operators are on this machine, beside what others offer: ``dyhead-lab bench ops``; and what the parts of
the CPU path buy: ``dyhead-lab bench cpu``.

The project's own measurements lie in ``dyhead_lab/ops/results``.
"""
