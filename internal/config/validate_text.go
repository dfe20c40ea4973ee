package config

import (
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// address checks host:port; from is the lowest port that makes sense.
func (d *decoder) address(path, address string, from int) bool {
	if d.failed[path] {
		return false
	}
	host, port, err := net.SplitHostPort(address)
	n, numErr := strconv.Atoi(port)
	if err == nil && numErr == nil && n >= from && n <= 65535 && !strings.ContainsAny(host, " \t\r\n\x00/") && (host != "" || from == 0) {
		return true
	}
	d.failed[path] = true
	example := ":993"
	if from > 0 {
		example = "10.0.0.11:143"
	}
	if net.ParseIP(address) != nil {
		example = net.JoinHostPort(address, "143")
	}
	d.fail(d.at(path), fmt.Sprintf("%s: %q isn't an address with a port from %d to 65535", path, address, from), "write host:port, for example %q", example)
	return false
}

// oneWord refuses characters that would break a line of the protocol or of the log.
func (d *decoder) oneWord(path, text string) {
	if d.failed[path] {
		return
	}
	for _, r := range text {
		if r <= ' ' || r == 0x7f || r == '"' || r == '\\' {
			d.failed[path] = true
			d.fail(d.at(path), fmt.Sprintf("%s: %q has a blank, a quote or a control character in it", path, text), "leave it out")
			return
		}
	}
}

// authorities checks that a file holds certificates.
func (d *decoder) authorities(path, file string) {
	if d.failed[path] {
		return
	}
	text, err := os.ReadFile(file)
	if err != nil || !x509.NewCertPool().AppendCertsFromPEM(text) {
		d.fail(d.at(path), fmt.Sprintf("%s: %s holds no certificate", path, file), "name a PEM file (-----BEGIN CERTIFICATE-----)")
	}
}

// onThisMachine says whether an address is a loopback's.
func onThisMachine(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
