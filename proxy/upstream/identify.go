package upstream

import "context"

// Identify sends ID with the client's data, as before each login (RFC 2971, and Dovecot's fields), and
// returns the text of the answer: Dovecot 2.4 sends "Trusted ID completed." if it trusts this proxy about
// addresses, and "ID completed." if not, which Dovecot 2.3 sends in either case. "" without ID. Its errors
// are *Unavailable.
func (d *Dialer) Identify(ctx context.Context, t Target, c Client) (text string, err error) {
	err = d.connected(ctx, t, c, func(ctx context.Context, l *loginClient) error {
		if err := l.open(ctx); err != nil {
			return err
		}
		if err := l.askCaps(); err != nil {
			return atStage(StageCapability, err)
		}
		if l.caps.Has("ID") {
			resp, err := l.command(idCommand(d.opt.Hostname, c))
			if err != nil {
				return atStage(StageCapability, err)
			}
			text = cleanText(resp.Text)
		}
		l.logout()
		_ = l.conn.Close()
		return nil
	})
	return text, err
}
