"""How fast the operators are on this machine, beside what others offer: ``dyhead-lab bench ops``.

The project's own measurements lie in ``dyhead_lab/ops/results/bench_ops.json``.
"""
