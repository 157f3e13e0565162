#!/bin/sh
# Static binaries for the machines that mail servers are, each with its checksum
# and a bill of what is in it (CycloneDX), into dist/.
set -eu
version=$1
go=${GO:-go}
rm -rf dist
mkdir -p dist
for arch in amd64 arm64; do
  name=kpopd-$version-linux-$arch
  mkdir -p "dist/$name"
  for command in kpopd kpop; do
    CGO_ENABLED=0 GOOS=linux GOARCH=$arch $go build -trimpath -ldflags "-s -w -X main.version=$version" -o "dist/$name/" "./cmd/$command"
  done
  cp README.md CHANGELOG.md LICENSE etc/kpopd.toml "dist/$name/"
  tar -C dist --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -czf "dist/$name.tar.gz" "$name"
  rm -r "dist/${name:?}"
done
for command in kpopd kpop; do
  $go run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0 app -json -licenses -main "cmd/$command" -output "dist/$command.cdx.json" .
done
(cd dist && sha256sum ./* >SHA256SUMS)
ls -l dist
