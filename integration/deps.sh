#!/bin/sh
# Installs what the tests and the demo need of Debian's packages and is not there
# yet. Nothing that is installed is removed for it, and no system daemon is
# started: the tests run their own.
set -eu

packages='
	gcc libc6-dev
	krb5-kdc krb5-admin-server krb5-user
	libkrb5-dev heimdal-multidev
	libsasl2-modules-gssapi-mit
	cyrus-imapd cyrus-pop3d cyrus-admin cyrus-clients
	slapd ldap-utils
	fetchmail mpop neomutt curl alpine s-nail
	strace util-linux
'

missing=
for package in $packages; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "Installing Debian packages:$missing"
root=
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || {
		echo "Run this as root, or install sudo, or install these packages by hand." >&2
		exit 1
	}
	root=sudo
fi

# invoke-rc.d starts nothing while this file says so (/usr/share/doc/init-system-helpers/README.policy-rc.d).
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap '$root rm -f "$policy"' EXIT
	trap 'exit 1' INT TERM HUP
	printf '#!/bin/sh\nexit 101\n' | $root tee "$policy" >/dev/null
	$root chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
install() {
	# shellcheck disable=SC2086 # a list of words
	$root env DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-install-recommends --no-remove install $missing </dev/null >"$log" 2>&1
}
$root apt-get -q update </dev/null >"$log" 2>&1 || true
install || {
	cat "$log" >&2
	rm -f "$log"
	exit 1
}
rm -f "$log"
