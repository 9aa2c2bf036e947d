# The daemon alone: nothing of the demo, the tests or the tools. Built with pinned, hashed dependencies only.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/ requirements/
RUN python -m venv /opt/build && /opt/build/bin/pip install --require-hashes -r requirements/build.txt
RUN python -m venv /opt/stockrelay \
 && /opt/stockrelay/bin/pip install --require-hashes --only-binary :all: -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY migrations/ migrations/
COPY daemon/ daemon/
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
 && /opt/stockrelay/bin/pip install --no-deps --no-index /dist/*.whl \
 && /opt/stockrelay/bin/python -m compileall -q /opt/stockrelay/lib \
 && /opt/stockrelay/bin/pip uninstall --yes pip setuptools

FROM ${PYTHON_IMAGE}
ENV PATH=/opt/stockrelay/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/stockrelay /opt/stockrelay
# Configuration: mount /etc/stockrelay/config.toml, and secrets wherever STOCKRELAY_SECRETS_DIR says.
# A number, so that Kubernetes can tell that it is not root.
USER 10001:10001
WORKDIR /tmp
STOPSIGNAL SIGTERM
ENTRYPOINT ["stockrelay"]
CMD ["run"]
