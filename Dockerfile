# The daemon and its commands: nothing of the demo, the tests or the tools. Built from pinned, hashed dependencies only.
# docs/deployment.md says how to build and run it; `make image-test` runs what was built.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
# Another package index, where the usual one is not to be used; it is not kept in the image.
ARG PIP_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/build.txt requirements/run.txt requirements/
RUN python -m venv /opt/build && /opt/build/bin/pip install --require-hashes -r requirements/build.txt
# Without pip: nothing can be installed into what runs.
RUN python -m venv --without-pip /opt/stockrelay \
 && /opt/build/bin/pip --python /opt/stockrelay/bin/python install --no-compile --require-hashes --only-binary :all: \
    -r requirements/run.txt
COPY pyproject.toml README.md LICENSE config.example.toml ./
COPY migrations/ migrations/
COPY deploy/roles.sql deploy/
COPY daemon/ daemon/
# Libraries bring their tests, the sources of what is compiled, and commands of their own: none of it runs here.
# Bytecode that is never compared with its source: it cannot be written again on a read-only file system.
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
 && /opt/build/bin/pip --python /opt/stockrelay/bin/python install --no-compile --no-deps --no-index /dist/*.whl \
 && find /opt/stockrelay/lib -type d \( -name tests -o -name testing -o -name _testbase \) -prune -exec rm -r {} + \
 && find /opt/stockrelay/lib -type f -name '*.py[xdi]' -delete \
 && find /opt/stockrelay/lib -type f -name '*.px[di]' -delete \
 && find /opt/stockrelay/bin -type f ! -name stockrelay -delete \
 && /opt/stockrelay/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/stockrelay/lib

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG SOURCE=
LABEL org.opencontainers.image.title="Stockrelay" \
      org.opencontainers.image.description="Keeps marketplaces told of what an ERP's PostgreSQL says may be sold" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.source="${SOURCE}"
ENV PATH=/opt/stockrelay/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/stockrelay /opt/stockrelay
# Configuration: mount /etc/stockrelay/config.toml, and secrets wherever STOCKRELAY_SECRETS_DIR says.
# A number, so that Kubernetes can tell that it is not root. It has no home, and nothing has to be writable.
USER 10001:10001
WORKDIR /
EXPOSE 9464
STOPSIGNAL SIGTERM
# For `run`. Another command has no ops port to ask: start it with --no-healthcheck.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["stockrelay", "health"]
ENTRYPOINT ["stockrelay"]
CMD ["run"]
