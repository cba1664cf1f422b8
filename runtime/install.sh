#!/bin/sh
# Install the vehicle's runtime into a virtual environment that also sees the system's TensorRT.
# The image, a bare machine and the tests run these same lines.
#
#   runtime/install.sh PREFIX WHEEL [PACKAGE ...]     further packages, such as pycuda==2026.1
#
# It needs the packages python3-venv and, to compile pycuda, python3-dev and g++.
set -eu
# pycuda finds CUDA's headers beside nvcc, which is not on the PATH that sudo gives.
PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin
export PATH
prefix=$1
wheel=$2
shift 2
python3 -m venv --system-site-packages "$prefix"
"$prefix/bin/pip" install --quiet --no-cache-dir -r "$(dirname "$0")/../requirements-vehicle.lock"
"$prefix/bin/pip" install --quiet --no-cache-dir --no-deps "$wheel"
if [ $# -gt 0 ]; then
    "$prefix/bin/pip" install --quiet --no-cache-dir "$@"
fi
"$prefix/bin/edgedetr" --version
