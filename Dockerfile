# The service: API, worker and operator commands in one image. Needs a PostgreSQL and a Redis.
# The same base for both stages. Pin its digest in your own builds: --build-arg BASE=python:3.13-slim-bookworm@sha256:...
ARG BASE=python:3.13-slim-bookworm
FROM ${BASE} AS build
WORKDIR /build
COPY constraints.txt requirements.txt ./
# Every dependency has the version and hash that the tests ran with.
RUN pip install --no-cache-dir --require-hashes -r constraints.txt \
 && python -m venv /opt/mcsync \
 && /opt/mcsync/bin/pip install --no-cache-dir --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE alembic.ini ./
COPY migrations migrations
COPY examples/contacts.csv examples/contacts.csv
COPY src src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
 && /opt/mcsync/bin/pip install --no-cache-dir --no-deps /dist/*.whl

FROM ${BASE}
RUN useradd --system --no-create-home --uid 10001 mcsync
COPY --from=build /opt/mcsync /opt/mcsync
ENV PATH=/opt/mcsync/bin:$PATH PYTHONUNBUFFERED=1
USER mcsync
EXPOSE 8000 8001
# Of the API. A worker answers at a port of its own (`mcsync worker --port 8001`): compose.yaml asks there instead.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/live', timeout=2)"]
ENTRYPOINT ["mcsync"]
CMD ["api", "--host", "0.0.0.0", "--port", "8000"]
