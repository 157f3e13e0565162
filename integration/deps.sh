#!/bin/sh
# Installs what the realm and its clients are made of, when it is missing. No
# service of the packages is started: the realm runs its own.
set -eu
packages="krb5-kdc krb5-admin-server krb5-user cyrus-imapd cyrus-pop3d cyrus-clients cyrus-admin
fetchmail mpop curl ca-certificates util-linux libsasl2-modules-gssapi-mit gcc libc6-dev
libkrb5-dev systemd fail2ban heimdal-multidev neomutt alpine s-nail slapd ldap-utils dnsmasq-base strace
thunderbird libnss3-tools nmh
libwrap0 libsodium23 liblua5.4-0 libtirpc3 libunwind8 libapparmor1"
missing=""
for p in $packages; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
# Dovecot's packages conflict with Cyrus's: they are unpacked elsewhere.
debs=$(dirname "$0")/../bin/debs
dovecot() {
  mkdir -p "$debs"
  for p in dovecot-core dovecot-pop3d dovecot-imapd dovecot-gssapi; do
    ls "$debs/$p"_*.deb >/dev/null 2>&1 || (cd "$debs" && apt-get download -q "$p") || return 1
  done
}
if [ -z "$missing" ] && dovecot; then
  exit 0
fi
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
echo "Installing from Debian:$missing"
export DEBIAN_FRONTEND=noninteractive
guard=/usr/sbin/policy-rc.d
made=""
if [ ! -e "$guard" ]; then
  made=yes
  printf '#!/bin/sh\nexit 101\n' | $sudo tee "$guard" >/dev/null
  $sudo chmod 755 "$guard"
fi
status=0
{ $sudo apt-get update -q && $sudo apt-get install -y -q --no-install-recommends $missing && dovecot; } </dev/null || status=$?
[ -z "$made" ] || $sudo rm -f "$guard"
exit $status
