package telemetry

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"syscall"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// remoteAttrs returns the attributes of a span in which the proxy is the client of a backend. failure is empty if nothing went wrong.
func remoteAttrs(backend, address, failure string) []attribute.KeyValue {
	attrs := []attribute.KeyValue{semconv.NetworkTransportTCP, semconv.NetworkProtocolName("imap")}
	if backend != "" {
		attrs = append(attrs, attribute.String("imapproxy.backend", valid(backend)))
	}
	if host, port, err := net.SplitHostPort(address); err == nil {
		attrs = append(attrs, semconv.ServerAddress(valid(host)))
		if n, err := strconv.Atoi(port); err == nil {
			attrs = append(attrs, semconv.ServerPort(n))
		}
	}
	if failure != "" {
		attrs = append(attrs, semconv.ErrorTypeKey.String(failure))
	}
	return attrs
}

// failureOf returns the error.type of a conversation with a backend, from a closed set: "timeout", "cancelled", "closed" or "error"; "" of nil.
func failureOf(err error) string {
	var of net.Error
	switch {
	case err == nil:
		return ""
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &of) && of.Timeout():
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "closed"
	}
	return "error"
}
