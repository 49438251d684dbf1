# The image of Airbyte's source (`--target source`) and of its destination (`--target destination`): `make image`.
#
# BASE is any image with Python 3.11 or later and its venv module, as python:3.13-slim, or Debian with python3-venv.
# Libraries come from the locks beside this file alone, each checked by its hash (`make lock`). PIP_INDEX_URL and
# PIP_CERT are for a package index of your own.
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS build
ARG PIP_INDEX_URL
ARG PIP_CERT
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/connector
COPY image/build.lock image/requirements.lock /opt/build/
RUN /opt/build/bin/pip install --quiet --require-hashes -r /opt/build/build.lock \
 && /opt/build/bin/pip --python /opt/connector/bin/python install --quiet --require-hashes --only-binary :all: \
      -r /opt/build/requirements.lock
COPY pyproject.toml README.md LICENSE /opt/build/source/
COPY connector /opt/build/source/connector
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /opt/build/wheel /opt/build/source \
 && /opt/build/bin/pip --python /opt/connector/bin/python install --quiet --no-deps --no-index /opt/build/wheel/* \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/connector/lib

FROM ${BASE} AS program
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="OpenAI-compatible endpoint" \
      org.opencontainers.image.description="Turns any OpenAI-compatible endpoint into columns of any data pipeline" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      io.airbyte.version="${VERSION}"
COPY --from=build /opt/connector /opt/connector
WORKDIR /airbyte/integration_code
USER 1000:1000

FROM program AS source
LABEL io.airbyte.name="source-openai-compatible"
ENV AIRBYTE_ENTRYPOINT=/opt/connector/bin/source-openai-compatible
ENTRYPOINT ["/opt/connector/bin/source-openai-compatible"]

FROM program AS destination
LABEL io.airbyte.name="destination-openai-compatible"
ENV AIRBYTE_ENTRYPOINT=/opt/connector/bin/destination-openai-compatible
ENTRYPOINT ["/opt/connector/bin/destination-openai-compatible"]
