# Two images: train (x86 with a CUDA GPU) and vehicle (JetPack 6 and 7, DRIVE).
#
#   make docker-train
#   make docker-vehicle L4T=r36.4.0 REGISTRY=...    see docs/deploy-jetson.md
#
# The vehicle's TensorRT is the one of its base image: one from pip would not match the driver.
ARG TRAIN_BASE=nvidia/cuda:13.0.2-devel-ubuntu24.04
ARG VEHICLE_BASE=ubuntu:24.04

FROM python:3.12-slim AS wheel
WORKDIR /src
COPY runtime runtime
RUN pip install --no-cache-dir hatchling==1.33.0 \
    && pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist ./runtime

FROM ${TRAIN_BASE} AS train
# The base image decides which versions its archive still holds.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 10001 edgedetr
USER 10001
WORKDIR /home/edgedetr/edgedetr
COPY --chown=10001 . .
RUN make setup
ENTRYPOINT ["make"]
CMD ["demo"]

# pycuda is compiled against the base image's CUDA; the vehicle's own image holds no compiler.
FROM ${VEHICLE_BASE} AS install
ARG PYCUDA=pycuda==2026.1
# The base image decides which versions its archive still holds.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements-vehicle.lock ./
COPY runtime/install.sh runtime/install.sh
COPY --from=wheel /dist /dist
RUN runtime/install.sh /opt/edgedetr /dist/*.whl ${PYCUDA}

FROM ${VEHICLE_BASE} AS vehicle
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --force --system render \
    && useradd --no-create-home --uid 10001 --groups video,render edgedetr
COPY --from=install /opt/edgedetr /opt/edgedetr
ENV PATH=/opt/edgedetr/bin:$PATH MALLOC_ARENA_MAX=2
USER 10001
WORKDIR /work
EXPOSE 9464
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["edgedetr", "health", "http://127.0.0.1:9464/metrics"]
ENTRYPOINT ["edgedetr"]
CMD ["run", "--help"]
