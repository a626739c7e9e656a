# One image for Dagster, the tasks and the reaper. Runs as uid 10001 on a read-only root; /tmp is all it may want.
FROM python:3.13-slim AS wheel
WORKDIR /src
COPY pyproject.toml README.md ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > /wanted.txt
COPY llama_assets llama_assets
RUN python -m pip wheel --no-cache-dir --disable-pip-version-check --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
ENV PATH=/opt/llama-assets/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ENV DAGSTER_DISABLE_TELEMETRY=1 HF_HUB_DISABLE_TELEMETRY=1

# Dependencies in a layer of their own, made anew only when they change: a change of ours moves some hundred kB. pip
# compiles them here, since no pod can; the big packages' own tests stay out.
COPY constraints.txt /tmp/build/
COPY --from=wheel /wanted.txt /tmp/build/
RUN cd /tmp/build && python -m venv /opt/llama-assets \
 && /opt/llama-assets/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt --requirement wanted.txt \
 && cd / && rm -rf /tmp/build && cd /opt/llama-assets/lib/python3.13/site-packages \
 && find pandas pyarrow scipy numpy matplotlib -type d -name tests -prune -exec rm -rf {} +

COPY --from=wheel /wheels /tmp/wheels
RUN /opt/llama-assets/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps /tmp/wheels/*.whl \
 && rm -rf /tmp/wheels

USER 10001:10001
WORKDIR /tmp
CMD ["llama-assets", "--help"]
