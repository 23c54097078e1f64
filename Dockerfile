# The image of Vivace, for the place of grafana/tempo: same user id, ports, paths and arguments.
#
#   docker build -t vivace .
#   docker run -p 3200:3200 -p 4317:4317 -p 4318:4318 -v tempo-data:/var/tempo \
#       -v ./tempo.yaml:/etc/tempo/tempo.yaml:ro vivace -config.file=/etc/tempo/tempo.yaml
#
# The steps are scripts, so that the tests run them without Docker.

FROM python:3.11-slim-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY src src
COPY deploy/image deploy/image
RUN deploy/image/build.sh /wheels
RUN deploy/image/install.sh /wheels /opt/vivace

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="Vivace" \
    org.opencontainers.image.description="A distributed-tracing backend that speaks Grafana Tempo's interface" \
    org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/tempo --shell /usr/sbin/nologin vivace \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/tempo
COPY --from=build /opt/vivace /opt/vivace
ENV PATH=/opt/vivace/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
# as a number: Kubernetes' runAsNonRoot does not look names up
USER 10001:10001
VOLUME /var/tempo
EXPOSE 3200 4317 4318 9095
# the slim image has no curl; for a port other than 3200 use --health-cmd
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:3200/ready', timeout=4)"]
ENTRYPOINT ["vivace"]
