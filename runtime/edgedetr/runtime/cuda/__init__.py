"""What the backends for NVIDIA GPUs share: engines, buffers, CUDA graphs, preprocessing.

Nothing here imports CUDA, TensorRT or pycuda by itself; `engine_session.open_engine` does when a
backend calls it, and hands the modules on.
"""
