package krb5conf

import (
	"slices"
	"strings"
)

// The names of MIT krb5.conf(5) and, where harmless, of Heimdal's and of what
// distributions add. Others are most often misspelt.
const (
	knownSections = `libdefaults realms domain_realm capaths appdefaults plugins dbmodules dbdefaults
		logging kdcdefaults login kdc kadmin password_quality`

	knownLibdefaults = `allow_des3 allow_rc4 allow_weak_crypto canonicalize ccache_type clockskew
		default_ccache_name default_client_keytab_name default_keytab_name default_rcache_name
		default_realm default_tgs_enctypes default_tkt_enctypes default_etypes dns_canonicalize_hostname
		dns_lookup_kdc dns_lookup_realm dns_uri_lookup enforce_ok_as_delegate err_fmt extra_addresses
		fcache_strict_checking fcc-mit-ticketflags forwardable ignore_acceptor_hostname k5login_authoritative
		k5login_directory kcm_mach_service kcm_socket kdc_default_options kdc_timesync
		kdc_req_checksum_type ap_req_checksum_type safe_checksum_type krb4_config krb4_realms krb4_convert
		noaddresses permitted_enctypes plugin_base_dir preferred_preauth_types proxiable qualify_shortname
		rdns realm_try_domains renew_lifetime request_timeout spake_preauth_groups ticket_lifetime
		udp_preference_limit verify_ap_req_nofail v4_instance_convert v4_name_convert pkinit_anchors
		pkinit_pool pkinit_identities pkinit_identity pkinit_revoke pkinit_kdc_hostname default_cc_type
		default_cc_name enable-kx509`

	knownRealm = `admin_server auth_to_local auth_to_local_names database_module database_name
		default_domain default_principal_flags disable_encrypted_timestamp http_anchors kdc kpasswd_server
		krb524_server master_kdc max_life max_renewable_life primary_kdc pkinit_anchors pkinit_cert_match
		pkinit_dh_min_bits pkinit_eku_checking pkinit_identities pkinit_identity pkinit_indicator
		pkinit_kdc_hostname pkinit_pool pkinit_revoke pkinit_require_crl_checking sitename
		v4_instance_convert v4_realm v4_name_convert supported_enctypes master_key_type acl_file
		key_stash_file kdc_ports kdc_tcp_ports auth_to_local_db kdc_listen kdc_tcp_listen`
)

// review warns of what will have no effect: unknown names, KDCs that cannot be
// asked. It never fails: a newer krb5.conf must not stop the mail.
func (p *Profile) review() {
	sections, libdefaults, realm := strings.Fields(knownSections), strings.Fields(knownLibdefaults), strings.Fields(knownRealm)
	for _, root := range p.files {
		for _, section := range root.children {
			p.unknown(section, sections, "section")
			for _, c := range section.children {
				switch {
				case section.name == "libdefaults" && !c.block:
					p.unknown(c, libdefaults, "libdefaults relation")
				case section.name == "realms" && c.block:
					p.reviewRealm(c, realm)
				case section.name == "realms":
					p.Warnings = append(p.Warnings, c.at+": realm "+c.name+" has no block")
				}
			}
		}
	}
}

func (p *Profile) reviewRealm(realm *node, known []string) {
	for _, c := range realm.children {
		p.unknown(c, known, "realm relation")
		if _, ok := kdcAddress(c.value); c.name == "kdc" && !ok {
			p.Warnings = append(p.Warnings, c.at+": kdc "+c.value+" cannot be asked; host, host:port, [v6]:port, tcp/host and udp/host can")
		}
	}
}

func (p *Profile) unknown(n *node, known []string, what string) {
	if !slices.Contains(known, n.name) {
		p.Warnings = append(p.Warnings, n.at+": unknown "+what+" "+n.name)
	}
}
