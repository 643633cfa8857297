# tl on the CPU: the folder of `make dist` on a bare Debian.
#   make dist && docker build -t tl .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" tl finetune recipe.yaml
FROM debian:12-slim
ADD dist/tl-*-linux.tar.gz /opt/
RUN ln -s /opt/tl-*/bin/tl /usr/local/bin/tl \
    && useradd --create-home --uid 1000 tl \
    && install -d -m 1777 /data /cache
# Weights that are downloaded; any user may write here: mount a volume to keep them.
ENV TORCH_HOME=/cache
USER 1000
WORKDIR /data
ENTRYPOINT ["tl"]
CMD ["--help"]
