package main

import (
	"time"

	"imapproxy/internal/config"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// soon is how long before a certificate's end check warns of it.
const soon = 14 * 24 * time.Hour

// checker probes what a configuration names.
type checker struct {
	cfg      *config.Config
	user     string
	password telemetry.Secret
	timeout  time.Duration
	fileOnly bool
	report   *report

	dialer *upstream.Dialer
	login  upstream.Auth

	canonical string // of user, "" without one
	placement string // of user, as far as the sources know

	placed []placedUser // users whose placement is known, for shared mailboxes
}

// placedUser is a user and the placement.
type placedUser struct{ name, placement string }
