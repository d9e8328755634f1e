# One image for web, worker and beat; the target vllm adds vLLM, for the server that writes (docs/running.md).
FROM python:3.11-slim AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/storyloop
RUN python -m venv .venv
# before the code: a change of it installs nothing anew
COPY pyproject.toml constraints.txt ./
COPY tools tools
RUN .venv/bin/python tools/install.py && .venv/bin/python tools/install.py redis

FROM python:3.11-slim AS storyloop
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 storyloop \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/storyloop --shell /usr/sbin/nologin storyloop \
    && install --directory --owner=storyloop --group=storyloop --mode=700 /var/lib/storyloop /var/backups/storyloop
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1 STORYLOOP_VAR=/var/lib/storyloop
WORKDIR /opt/storyloop
COPY --from=packages /opt/storyloop/.venv .venv
COPY manage.py pyproject.toml constraints.txt ./
COPY annotate annotate
COPY config config
COPY generation generation
COPY training training
COPY locale locale
COPY static static
COPY templates templates
# the file system is read-only when it runs
RUN .venv/bin/python -m compileall -q annotate config generation training
USER 10001:10001
EXPOSE 8000
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD [".venv/bin/python", "-m", "granian", "--interface", "wsgi", "config.wsgi:application", "--host", "0.0.0.0", "--port", "8000", "--workers", "4", "--blocking-threads", "2", "--backpressure", "64", "--no-ws", "--respawn-failed-workers", "--log-level", "warning"]
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s CMD [".venv/bin/python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]

FROM storyloop AS vllm
USER root
# Triton compiles its kernels at the first start
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY tools tools
ENV XDG_CACHE_HOME=/opt/cache
RUN PIP_NO_CACHE_DIR=1 .venv/bin/python tools/install_vllm.py gpu --force
ENV XDG_CACHE_HOME=/tmp/cache
USER 10001:10001
EXPOSE 8100
CMD [".venv/bin/python", "manage.py", "vllm_server", "--host", "0.0.0.0", "--port", "8100"]
HEALTHCHECK --interval=15s --timeout=5s --start-period=600s CMD [".venv/bin/python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8100/health', timeout=4)"]

# what `docker build .` makes
FROM storyloop
