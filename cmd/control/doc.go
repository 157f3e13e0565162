// Package control is the conversation between kpopd and its operator: a local
// socket, one request and one reply a connection, each a line of JSON. Only root
// and the daemon's own user are heard.
package control
