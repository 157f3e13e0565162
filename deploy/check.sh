#!/bin/sh
# The analysers beyond go vet. They are fetched and built at these versions, which
# takes minutes the first time; that is why `make test` does not wait for them.
set -eu
go=${GO:-go}

# ST1005: some errors end as the text that they quote does.
echo "staticcheck"
$go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 -checks inherit,-ST1005 -tags integration ./...

# An error that is meant to be dropped says so on its line, with the reason. Those
# of Close need not: what must be on disk was synced before, and that was asked.
echo "errcheck"
dropped=$($go run github.com/kisielk/errcheck@v1.30.0 -ignoretests -exclude deploy/errcheck.txt ./... |
  grep -v -e 'nolint:errcheck' -e mailstore/storetest || true)
[ -z "$dropped" ] || { echo "$dropped"; exit 1; }

# What is left out, and why:
#   G115            fields are as wide as Cyrus's files have them; sizes are checked when read
#   G304            the operator names the files
#   G104            errcheck looks at those
#   G401 G501 G505  Cyrus's GUIDs are SHA-1, Kerberos enctypes and APOP ask for SHA-1 and MD5
#   G407            RFC 3962 section 5 begins with a zero vector
#   G404            heights in twoskip's lists
#   G402            doctor looks at certificates that nobody vouches for
#   G101            an annotation's name
#   G204            doctor runs the programs that it names
#   G703            paths come from the operator or from imapdconf, which checks every name
#   G602            bounds that it does not follow
echo "gosec"
$go run github.com/securego/gosec/v2/cmd/gosec@v2.30.0 -quiet -exclude-dir=integration -exclude-dir=ldaptest -exclude-dir=storetest \
  -exclude=G115,G304,G104,G401,G501,G505,G407,G404,G402,G101,G204,G703,G602 ./...

# Its database is on the network; where that cannot be reached this says so.
echo "govulncheck"
if timeout 20 $go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 -version 2>&1 | grep -q 'DB updated'; then
  $go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...
else
  echo "not run: the vulnerability database cannot be reached from here"
fi
