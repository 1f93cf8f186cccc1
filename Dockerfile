# The bridge's image: Debian's python3, the hash-pinned packages of requirements.txt, our package, nothing else.
# Works with BuildKit and with the classic builder of Docker 20.10.
#
#   docker build --build-arg VERSION=$(python3 packaging/version.py) -t asterisk-bridge .
#
# Behind a proxy that re-signs TLS, put its CA certificate(s) as *.crt into extra-ca/ (git-ignored; may be absent):
# they are used while packages are fetched and are not in the final image. PIP_INDEX_URL chooses another package index.
ARG BASE_IMAGE=debian:forky-slim

FROM ${BASE_IMAGE} AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 python3-hatchling python3-venv \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/asterisk-bridge
WORKDIR /src
# The pattern makes extra-ca optional: COPY fails on a missing name, not on a pattern without a match.
COPY requirements.txt extra-c[a] ./fetch/
ARG PIP_INDEX_URL=
RUN cat /etc/ssl/certs/ca-certificates.crt $(ls fetch/*.crt 2>/dev/null) > /tmp/ca.pem \
 && /opt/asterisk-bridge/bin/pip install --cert /tmp/ca.pem --no-cache-dir --disable-pip-version-check \
        --only-binary :all: --require-hashes -r fetch/requirements.txt
COPY pyproject.toml README.md LICENSE ./
# The lab's configuration is part of the package, for users of its pytest plug-in.
COPY asterisk ./asterisk
COPY packaging/version.py ./packaging/
COPY bridge ./bridge
# The repository is not here, so the version is given; without it the image calls itself 0.0.0+unknown.
ARG VERSION=
# The wheel is built by Debian's hatchling, so that no unpinned build tool is fetched.
RUN BUILD_VERSION=$VERSION python3 -m hatchling build -t wheel -d /tmp/wheel \
 && /opt/asterisk-bridge/bin/pip install --no-index --no-deps --no-cache-dir /tmp/wheel/*.whl \
 && /opt/asterisk-bridge/bin/pip uninstall -y pip \
 && find /opt/asterisk-bridge -type d -name tests -prune -exec rm -rf {} +

FROM ${BASE_IMAGE}
ARG VERSION=
LABEL org.opencontainers.image.version=$VERSION
# espeak-ng is what speaks unless [speech] command names another program.
# What is set over HTTP is kept in /var/lib/asterisk-bridge: mount a volume there, or it goes with the container.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates espeak-ng python3 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 990 --home-dir /nonexistent --shell /usr/sbin/nologin bridge \
 && install -d -o 990 /recordings \
 && install -d -o 990 -m 0700 /var/lib/asterisk-bridge
COPY --from=build /opt/asterisk-bridge /opt/asterisk-bridge
COPY examples/echo.py /usr/local/share/asterisk-bridge/
# Inside a container the address to bind is always all of them; requests need a token.
ENV PATH=/opt/asterisk-bridge/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ASTERISK_BRIDGE_HTTP__HOST=0.0.0.0 \
    ASTERISK_BRIDGE_AUDIOSOCKET__BIND_HOST=0.0.0.0
USER bridge
EXPOSE 8080 9092
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python3", "-c", "import os, ssl, urllib.request as r; e = os.environ.get; tls = e('ASTERISK_BRIDGE_HTTP__TLS_CERTIFICATE'); r.urlopen(('https' if tls else 'http') + '://127.0.0.1:' + e('ASTERISK_BRIDGE_HTTP__PORT', '8080') + '/health', timeout=2, context=ssl._create_unverified_context() if tls else None)"]
CMD ["asterisk-bridge", "serve"]
