package config

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// minEventToken is events.MinSecret, in octets; checked here, the error has a line number.
const minEventToken = 16

// park checks combinations of the settings of parking.
func (d *decoder) park(c *Config) {
	p := c.Park
	if p.Enabled && p.Keepalive >= c.Limits.IdleTimeout && !d.failed["park.keepalive"] && !d.failed["limits.idle_timeout"] {
		d.warn(d.at("park.keepalive"), "park.keepalive isn't shorter than limits.idle_timeout, which ends parked clients before they are told anything", "write a shorter keepalive")
	}
	if p.Enabled && p.Linger == 0 && !d.failed["park.linger"] {
		d.warn(d.at("park.linger"), "park.linger: \"0s\" isn't \"never\": each client is parked the moment that it is in IDLE, and each time that it comes back costs its backend a SELECT, perhaps a login", "write enabled = false to switch parking off, else linger = \"1s\" or more")
	}
	if p.Enabled && p.WarmFor > 5*time.Minute && !d.failed["park.warm_for"] {
		d.warn(d.at("park.warm_for"), fmt.Sprintf("park.warm_for: for %v a backend may go on applying a user's rights as they were", p.WarmFor), "write warm_for = \"5m\" or less, or a much shorter time if rights are often withdrawn")
	}
	e := p.Events
	if e.Address != "" {
		d.address("park.events.address", e.Address, 0)
	}
	if d.failed["park.events.token_file"] {
		return
	}
	switch {
	case d.written("park.events") && e.TokenFile == "":
		d.fail(d.at("park.events"), "park.events.token_file is missing: who may post events must know a token", "write token_file = \"events.token\"; openssl rand -hex 24 makes one")
	case e.TokenFile != "":
		d.eventTokens(e.TokenFile)
		if e.Address == "" && c.Admin.Address == "" {
			d.fail(d.at("park.events"), "park.events: events come to the admin address, and that is off", "write address = \"10.0.0.5:8144\", or an address in admin { … }")
		}
	case p.Enabled && p.Watch == "push" && !d.failed["park.watch"]:
		d.warn(d.at("park.watch"), "park.watch = \"push\" without events: mailboxes are watched by connections", "write events { … } with token_file, or watch = \"auto\"")
	}
}

// eventTokens checks the tokens without showing them.
func (d *decoder) eventTokens(file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		d.fail(d.at("park.events.token_file"), fmt.Sprintf("park.events.token_file: %s can't be read", file), "name a file that this user may read")
		return
	}
	tokens := strings.Fields(string(text))
	for _, token := range tokens {
		if len(token) < minEventToken {
			d.fail(d.at("park.events.token_file"), fmt.Sprintf("park.events.token_file: a token in %s has fewer than %d characters", file, minEventToken), "make one with openssl rand -hex 24")
			return
		}
	}
	if len(tokens) == 0 {
		d.fail(d.at("park.events.token_file"), fmt.Sprintf("park.events.token_file: %s is empty", file), "make a token with openssl rand -hex 24")
	}
}
