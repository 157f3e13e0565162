# kpopd and kpop, static, in an image that holds nothing else. They run as uid
# 10001; give them /etc/kpopd with kpopd.toml, a keytab and a spool (docker-compose.yml
# shows how). Where no registry can be reached, deploy/docker/base-images makes the image
# that this one begins with.
FROM golang:1.26-bookworm AS build
ARG VERSION=devel
WORKDIR /src
COPY . .
# A vendor directory, where there is one, makes this work without a network.
RUN CGO_ENABLED=0 GOTOOLCHAIN=local go build -trimpath -ldflags "-s -w -X main.version=$VERSION" \
      -o /out/usr/bin/ ./cmd/kpopd ./cmd/kpop
RUN mkdir -p -m 700 /out/var/lib/kpopd /out/var/spool/kpopd/cyrus /out/var/spool/kpopd/mail \
 && mkdir -p /out/etc/ssl/certs \
 && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
 && echo 'kpopd:x:10001:10001:kpopd:/var/lib/kpopd:/nonexistent' >/out/etc/passwd \
 && echo 'kpopd:x:10001:' >/out/etc/group

FROM scratch
COPY --from=build /out/usr /usr
COPY --from=build /out/etc /etc
COPY --from=build --chown=10001:10001 /out/var/lib/kpopd /var/lib/kpopd
COPY --from=build --chown=10001:10001 /out/var/spool/kpopd /var/spool/kpopd
USER 10001:10001
ENV PATH=/usr/bin
HEALTHCHECK --interval=10s --timeout=10s --retries=6 CMD ["/usr/bin/kpop", "ready"]
EXPOSE 1109 10110 10995
ENTRYPOINT ["/usr/bin/kpopd"]
CMD ["serve"]
