// Package krb5conf reads the Kerberos configuration that MIT's libkrb5 reads:
// krb5.conf with its includes, the keytab, and the rules from principals to
// local names.
//
// It exists because gokrb5 v8.4.4 panics or errors on files found in the wild
// (auth_to_local_names, one-line blocks, include, dns_canonicalize_hostname =
// fallback), has no auth_to_local, and prints key material of a damaged keytab.
package krb5conf
