package telemetry

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// A client's address stands in each line in the same form, whatever the code has it as.
func TestClientsStandInOneForm(t *testing.T) {
	for _, c := range []struct {
		value any
		text  string
		json  string
	}{
		{"192.0.2.7:4711", "client=192.0.2.7 port=4711", `"client":"192.0.2.7","port":4711`},
		{netip.MustParseAddrPort("192.0.2.7:4711"), "client=192.0.2.7 port=4711", `"client":"192.0.2.7","port":4711`},
		{&net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 4711}, "client=2001:db8::1 port=4711", `"client":"2001:db8::1","port":4711`},
		{"[::ffff:192.0.2.7]:4711", "client=192.0.2.7 port=4711", `"client":"192.0.2.7","port":4711`},
		{"192.0.2.7", "client=192.0.2.7", `"client":"192.0.2.7"`},
		{"unknown", "client=unknown", `"client":"unknown"`},
		{"@", "client=@", `"client":"@"`}, // a Unix socket's
	} {
		for format, want := range map[string]string{"text": c.text, "json": c.json} {
			var out bytes.Buffer
			tel, err := Start(t.Context(), Options{LogWriter: &out, LogFormat: format})
			if err != nil {
				t.Fatal(err)
			}
			tel.Log.Info("in a line", "client", c.value, "x", 1)
			tel.Log.With("client", c.value).Info("of the logger", "x", 1)
			if err := tel.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if n := strings.Count(out.String(), want+" x=1") + strings.Count(out.String(), want+`,"x":1`); n != 2 {
				t.Errorf("%v, %s: want twice %s:\n%s", c.value, format, want, out.String())
			}
		}
		got := ""
		for _, a := range recordAttrs(slog.Any("client", c.value)) {
			got += " " + a.String()
		}
		if got != " "+c.text {
			t.Errorf("%v as a record:%s", c.value, got)
		}
	}
}
