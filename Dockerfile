# The book in a container. Binder and .devcontainer use this file too.
#
#   docker build -t dyhead-lab . && docker run --rm -p 8888:8888 dyhead-lab
#
# With an NVIDIA GPU: docker build --build-arg TORCH=default ..., then docker run --gpus all --shm-size=2g ...
# This image has no nvcc, so that the operators run there as the formula, slow but right. For the CUDA kernels begin with
# an image that has CUDA's toolkit and Python, and build with DYHEAD_CUDA=1 in the environment.
FROM python:3.12-slim AS tools
RUN apt-get update && apt-get install -y --no-install-recommends g++ git make && rm -rf /var/lib/apt/lists/*
# Binder says who its user is.
ARG NB_USER=reader
ARG NB_UID=1000
RUN useradd --create-home --uid ${NB_UID} ${NB_USER}
ENV HOME=/home/${NB_USER}

FROM tools AS book
ARG NB_USER=reader
ARG TORCH=cpu
WORKDIR ${HOME}/dyhead_lab
COPY --chown=${NB_USER} . .
RUN chown ${NB_USER} .
USER ${NB_USER}
RUN python scripts/bootstrap.py setup --torch ${TORCH}
ENV PATH=${HOME}/dyhead_lab/.venv/bin:${PATH}
EXPOSE 8888
CMD ["python", "scripts/bootstrap.py", "lab", "--no-browser", "--ip=0.0.0.0"]
