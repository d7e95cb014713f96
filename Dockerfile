# CPU:  docker build -t inpaint-bench .
# CUDA: docker build -t inpaint-bench:cuda --build-arg BASE=nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04 .
# Run:  docker run --rm -v "$PWD:/work" inpaint-bench run --models all --mask center --preset smoke
#
# A smaller CPU image: --build-arg TORCH_INDEX=URL with the index of PyTorch's CPU wheels.
ARG BASE=ubuntu:24.04
FROM ${BASE}

RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv git \
    && rm -rf /var/lib/apt/lists/*

RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1

ARG TORCH_INDEX=""
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision

COPY . /opt/inpaint-bench
RUN pip install --no-cache-dir /opt/inpaint-bench

RUN useradd --create-home bench
USER bench
WORKDIR /work
ENTRYPOINT ["bench"]
CMD ["--help"]
