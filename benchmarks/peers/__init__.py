"""What EdgeDETR is compared with, one file for each task; `benchmarks/peer_ratios.py` runs them."""
