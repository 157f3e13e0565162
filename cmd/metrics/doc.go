// Package metrics counts what kpopd does, for Prometheus, and says over HTTP
// whether it lives and whether it is ready.
package metrics
