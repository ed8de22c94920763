# The image of deploy's RayService: Ray, and stairstream with what a server needs. Build it from the project's folder:
#   docker build -f deploy/ray.Dockerfile -t stairstream-ray .
# For engines in the cluster add their extras to EXTRAS: torch, vllm, local.
FROM rayproject/ray:2.60.0-py311
ARG EXTRAS=server,postgres,otel,ray
COPY --chown=ray:users . /home/ray/stairstream
RUN pip install --no-cache-dir "/home/ray/stairstream[${EXTRAS}]"
