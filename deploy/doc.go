// Package deploy holds the tests of what a site installs beside the programs:
// units of systemd, fail2ban's filter, the dashboard.
package deploy
