# The gateway, and nothing that builds it. Mount a config at /etc/gateway/gateway.yaml and a volume at
# /var/lib/gateway: the latch must outlive the container.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY gateway gateway
# The hot path as machine code; 0 leaves it as it is written.
ARG GATEWAY_COMPILE=1
RUN python -m venv --without-pip /opt/gateway \
 && pip --python /opt/gateway/bin/python install --no-cache-dir --disable-pip-version-check .

FROM python:${PYTHON}-slim
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin gateway \
 && install -d -m 0700 -o gateway -g gateway /var/lib/gateway
COPY --from=build /opt/gateway /opt/gateway
# GATEWAY_STATE_DIR outranks the config's state.directory, so that the volume is always the one used.
ENV PATH=/opt/gateway/bin:$PATH \
    GATEWAY_STATE_DIR=/var/lib/gateway
# As a number, for Kubernetes' runAsNonRoot.
USER 10001:10001
VOLUME /var/lib/gateway
EXPOSE 8080 9901
STOPSIGNAL SIGTERM
# The workers' own probe, at the port of health.address in the default config.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import http.client as h, sys; c = h.HTTPConnection('127.0.0.1', 9901, timeout=2); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["gateway"]
CMD ["run", "/etc/gateway/gateway.yaml"]
